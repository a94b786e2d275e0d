package barriers

import "testing"

// TestRestoreRefuses what no operation can have left, every part of a state, and a state with something behind it.
func TestRestoreRefuses(t *testing.T) {
	var a Barrier
	var o out
	a.Await(&o, who(1), 2, true)
	a.Await(&o, who(2), 2, true)
	a.Await(&o, who(3), 2, true)
	good := a.AppendBinary(nil)
	for n := range good {
		var x Barrier
		if err := x.Restore(good[:n]); err == nil {
			t.Errorf("%d bytes of %x restored as %+v", n, good, x)
		}
	}
	for what, b := range map[string][]byte{
		"more behind it":                 append(good, 0),
		"another version":                append([]byte{9}, good[1:]...),
		"the last generation":            {1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0},
		"parties, and nobody waits":      {1, 0, 2, 0, 0, 0},
		"no parties, and one waits":      {1, 0, 0, 0, 0, 1, 1, 1, 0},
		"broken, and one waits":          {1, 0, 2, 1, 0, 1, 1, 1, 0},
		"broken for no known reason":     {1, 0, 0, 5, 0, 0},
		"an action before all have come": {1, 0, 2, 0, 1, 1, 1, 1, 1},
		"an action that nobody wanted":   {1, 0, 1, 0, 1, 1, 1, 1, 0},
		"an action of nobody":            {1, 0, 0, 0, 1, 0},
		"complete, and not released":     {1, 0, 1, 0, 0, 1, 1, 1, 0},
		"a flag of two":                  {1, 0, 2, 0, 0, 1, 1, 1, 2},
		"more who wait than bytes":       {1, 0, 2, 0, 0, 2, 1, 1, 0},
	} {
		var x Barrier
		if err := x.Restore(b); err == nil {
			t.Errorf("%s: %x restored as %+v", what, b, x)
		}
	}
}
