package queues

import "testing"

// TestRestoreRefuses what no operation can have left, every part of a state, and a state with something behind it.
func TestRestoreRefuses(t *testing.T) {
	var a, c Queue[string]
	var o out
	a.Put(&o, who(1), "a", Bound{Capacity: 1}, true)
	a.Put(&o, who(2), "bb", Bound{Capacity: 1}, true)
	c.Put(&o, who(3), "c", Bound{}, true)
	Transfer(&o, &c, &a, who(3), Bound{Capacity: 1}, true)
	good := a.AppendBinary(nil, text)
	for n := range good {
		var x Queue[string]
		if err := x.Restore(good[:n], parse); err == nil {
			t.Errorf("%d bytes of %x restored as %+v", n, good, x)
		}
	}
	for what, b := range map[string][]byte{
		"more behind it":                       append(good, 0),
		"another version":                      append([]byte{9}, good[1:]...),
		"a capacity, and no item":              {1, 1, 0, 0, 0, 0, 0},
		"more items than the capacity":         {1, 1, 2, 1, 'a', 1, 'b', 0, 0, 0, 0},
		"an item, and one waits for it":        {1, 0, 1, 1, 'a', 1, 1, 1, 0, 0, 0},
		"an item, and a transfer waits for it": {1, 0, 1, 1, 'a', 0, 0, 1, 1, 1, 0},
		"room, and one waits for it":           {1, 2, 1, 1, 'a', 0, 1, 1, 1, 1, 'b', 0, 0},
		"no bound, and one waits for room":     {1, 0, 1, 1, 'a', 0, 1, 1, 1, 1, 'b', 0, 0},
		"room, and a transfer waits for it":    {1, 2, 1, 1, 'a', 0, 0, 0, 1, 1, 1},
		"an item that is none":                 {1, 0, 1, 1, '!', 0, 0, 0, 0},
		"what is put is no item":               {1, 1, 1, 1, 'a', 0, 1, 1, 1, 1, '!', 0, 0},
		"an item longer than the rest":         {1, 0, 1, 9, 'a', 0, 0, 0, 0},
	} {
		var x Queue[string]
		if err := x.Restore(b, parse); err == nil {
			t.Errorf("%s: %x restored as %+v", what, b, x)
		}
	}
}
