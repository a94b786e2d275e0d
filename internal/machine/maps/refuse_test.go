package maps

import "testing"

// TestRestoreRefuses what no operation can have left, every part of a state, and a state with something behind it.
func TestRestoreRefuses(t *testing.T) {
	var a Map[string]
	var o out
	for _, key := range []string{"a", "bb", "c", "d"} {
		a.Store(&o, who(1), key, "v", 0, 300)
		a.Load(&o, who(2), key, true)
		a.Watch(&o, who(3), key, key == "c")
	}
	a.Delete(&o, who(1), "bb", 0)
	a.Delete(&o, who(1), "a", 0)
	good := a.AppendBinary(nil, text)
	for n := range good {
		var x Map[string]
		if err := x.Restore(good[:n], parse); err == nil {
			t.Errorf("%d bytes of %x restored as %+v", n, good, x)
		}
	}
	for what, b := range map[string][]byte{
		"more behind it":                    append(good, 0),
		"another version":                   append([]byte{9}, good[1:]...),
		"a slot free twice":                 {1, 1, 2, 0, 0, 0, 0, 0},
		"a free slot behind the last":       {1, 1, 1, 1, 0, 0, 0},
		"a key twice":                       {1, 2, 0, 2, 1, 'k', 1, 'v', 1, 0, 0, 1, 'k', 1, 'v', 2, 0, 0, 0, 0},
		"a revision of none":                {1, 1, 0, 1, 1, 'k', 1, 'v', 0, 0, 0, 0, 0},
		"a revision to come":                {1, 1, 0, 1, 1, 'k', 1, 'v', 2, 0, 0, 0, 0},
		"one session keeps it twice":        {1, 1, 0, 1, 1, 'k', 1, 'v', 1, 0, 2, 7, 7, 0, 0},
		"too many keep it":                  {1, 1, 0, 1, 1, 'k', 1, 'v', 1, 0, 65, 0, 0},
		"a value that is none":              {1, 1, 0, 1, 1, 'k', 1, '!', 1, 0, 0, 0, 0},
		"a watched key twice":               {1, 0, 0, 0, 2, 1, 'k', 1, 1, 1, 1, 'k', 1, 1, 2, 0},
		"a watched key that nobody watches": {1, 0, 0, 0, 1, 1, 'k', 0, 0},
		"a key longer than the rest":        {1, 1, 0, 1, 99, 'k', 1, 'v', 1, 0, 0, 0, 0},
		"a time that is negative":           {1, 1, 0, 1, 1, 'k', 1, 'v', 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0},
	} {
		var x Map[string]
		if err := x.Restore(b, parse); err == nil {
			t.Errorf("%s: %x restored as %+v", what, b, x)
		}
	}
}
