package semaphores

import "testing"

// TestRestoreRefuses what no operation can have left, every part of a state, and a state with something behind it.
func TestRestoreRefuses(t *testing.T) {
	var s Semaphore
	var o out
	s.Acquire(&o, who(1, 1), 3, 2, false)
	s.Acquire(&o, who(2, 1), 3, 1, false)
	s.Acquire(&o, who(3, 300), 3, 1, false)
	good := s.AppendBinary(nil)
	for n := range good {
		var x Semaphore
		if err := x.Restore(good[:n]); err == nil {
			t.Errorf("%d bytes of %x restored as %+v", n, good, x)
		}
	}
	for what, b := range map[string][]byte{
		"more behind it":            append(good, 0),
		"another version":           append([]byte{9}, good[1:]...),
		"a size, and idle":          {1, 3, 0, 0},
		"more held than there is":   {1, 3, 1, 7, 4, 0},
		"none held":                 {1, 3, 2, 7, 0, 8, 1, 0},
		"one session twice":         {1, 3, 2, 7, 1, 7, 1, 0},
		"a wait for none":           {1, 3, 1, 7, 3, 1, 8, 1, 0},
		"a wait for too many":       {1, 3, 1, 7, 3, 1, 8, 1, 4},
		"a wait that can be served": {1, 3, 1, 7, 2, 1, 8, 1, 1},
		"a size that is negative":   {1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0},
		"more waits than bytes":     {1, 3, 1, 7, 3, 2, 8, 1, 1},
	} {
		var x Semaphore
		if err := x.Restore(b); err == nil {
			t.Errorf("%s: %x restored as %+v", what, b, x)
		}
	}
}
