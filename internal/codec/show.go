package codec

import "encoding/json"

// Show is ToJSON for a payload that is to be looked at: nothing of what cannot be
// read, and no more than most bytes.
func Show(payload []byte, most int) json.RawMessage {
	if len(payload) == 0 {
		return nil
	}
	if len(payload) > most {
		return json.RawMessage(`"(large)"`)
	}
	b, err := ToJSON(payload)
	if err != nil {
		return nil
	}
	return b
}
