package wire

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// tagRef is the first byte of a payload that is a Ref; package codec has others.
const tagRef = 'R'

// Ref stands for a payload that is kept in the engine's object store, because it
// is too large for messages.
type Ref struct {
	Name string // in the store
	Size uint64 // of the payload
}

// AppendRef appends a payload that refers to another.
func AppendRef(b []byte, r Ref) []byte {
	b = binary.AppendUvarint(append(b, tagRef), r.Size)
	return append(b, r.Name...)
}

// IsRef tells whether a payload refers to another, at its first byte.
func IsRef(payload []byte) bool { return len(payload) > 0 && payload[0] == tagRef }

// ParseRef reads a payload that refers to another; false: it is one itself.
func ParseRef(payload string) (Ref, bool) {
	if len(payload) == 0 || payload[0] != tagRef {
		return Ref{}, false
	}
	size, n := binary.Uvarint([]byte(payload[1:min(len(payload), 1+binary.MaxVarintLen64)]))
	if n <= 0 {
		return Ref{}, false
	}
	return Ref{payload[1+n:], size}, true
}

// TaskObject is the name in the object store of what belongs to a task of an
// executor; what is unlike what the task has besides, and has no slash.
func TaskObject(executor, id, what string) string {
	return "task/" + strconv.QuoteToASCII(executor) + "/" + strconv.QuoteToASCII(id) + "/" + what
}

// ParseTaskObject reads what TaskObject made.
func ParseTaskObject(name string) (executor, id string, ok bool) {
	rest, ok := strings.CutPrefix(name, "task/")
	if !ok {
		return "", "", false
	}
	if executor, rest, ok = quoted(rest); !ok {
		return "", "", false
	}
	if id, rest, ok = quoted(rest); !ok || strings.Contains(rest, "/") {
		return "", "", false
	}
	return executor, id, true
}

func quoted(s string) (text, rest string, ok bool) {
	q, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", false
	}
	if text, err = strconv.Unquote(q); err != nil {
		return "", "", false
	}
	rest, ok = strings.CutPrefix(s[len(q):], "/")
	return text, rest, ok
}
