package journal

import "encoding/json"

// Decision is what an operator says about a step that is stuck, or its undo, to a run
// that nobody owns: it waits for an owner as a signal does.
type Decision struct {
	Step   string
	How    uint8 // a plan.Resolution
	Reason string
}

// decides is the name of the signals that bring decisions. Names of users do not begin
// with a zero.
const decides = "\x00decides"

// Signal is the signal that brings the decision.
func (d Decision) Signal() Signal {
	v, _ := json.Marshal(d) // two texts and a number
	return Signal{Name: decides, Value: v}
}

// Decision is what the signal brings; false: it is a user's.
func (s *Signal) Decision() (d Decision, ok bool) {
	return d, s.Name == decides && json.Unmarshal(s.Value, &d) == nil
}
