package latches

import "testing"

// TestRestoreRefuses what no operation can have left, every part of a state, and a state with something behind it.
func TestRestoreRefuses(t *testing.T) {
	var a Latch
	var o out
	a.CountDown(&o, who(1), 3, "a")
	a.CountDown(&o, who(1), 3, "bb")
	a.Wait(&o, who(2), 3)
	good := a.AppendBinary(nil)
	for n := range good {
		var x Latch
		if err := x.Restore(good[:n]); err == nil {
			t.Errorf("%d bytes of %x restored as %+v", n, good, x)
		}
	}
	for what, b := range map[string][]byte{
		"more behind it":             append(good, 0),
		"another version":            append([]byte{9}, good[1:]...),
		"a count, and idle":          {1, 3, 0, 0, 0},
		"no count, and one waits":    {1, 0, 0, 0, 1, 1, 1},
		"all counted, and not open":  {1, 1, 0, 1, 1, 'a', 0},
		"open, and one waits":        {1, 1, 1, 0, 1, 1, 1},
		"open, and ids":              {1, 2, 1, 1, 1, 'a', 0},
		"one id twice":               {1, 3, 0, 2, 1, 'a', 1, 'a', 0},
		"a count that is negative":   {1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 1, 1, 1},
		"an id longer than the rest": {1, 3, 0, 1, 9, 'a', 0},
		"more ids than bytes":        {1, 3, 0, 9, 1, 'a', 0},
	} {
		var x Latch
		if err := x.Restore(b); err == nil {
			t.Errorf("%s: %x restored as %+v", what, b, x)
		}
	}
	var g WaitGroup
	g.Add(&o, who(1), 300)
	g.Wait(&o, who(2))
	good = g.AppendBinary(nil)
	states := [][]byte{append(good, 0), {9, 1, 0}, {1, 0, 1, 1, 1}, {1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0}, {1, 1, 9, 1, 1}}
	for n := range good {
		states = append(states, good[:n])
	}
	for _, b := range states {
		var x WaitGroup
		if err := x.Restore(b); err == nil {
			t.Errorf("%x restored as %+v", b, x)
		}
	}
}
