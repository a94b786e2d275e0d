package topics

import (
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

// TestRestoreRefuses what no operation can have left, every part of a state, and a state with something behind it.
func TestRestoreRefuses(t *testing.T) {
	a := New[string](300)
	var o out
	a.Subscribe(&o, machine.Who{Session: 1, Req: 300})
	a.Subscribe(&o, machine.Who{Session: 2, Req: 1})
	good := a.AppendBinary(nil)
	for n := range good {
		var x Topic[string]
		if err := x.Restore(good[:n]); err == nil {
			t.Errorf("%d bytes of %x restored as %+v", n, good, x)
		}
	}
	for what, b := range map[string][]byte{
		"more behind it":              append(good, 0),
		"another version":             append([]byte{9}, good[1:]...),
		"one subscriber twice":        {1, 0, 2, 1, 1, 1, 1},
		"more subscribers than bytes": {1, 0, 3, 1, 1, 1, 2},
	} {
		var x Topic[string]
		if err := x.Restore(b); err == nil {
			t.Errorf("%s: %x restored as %+v", what, b, x)
		}
	}
}
