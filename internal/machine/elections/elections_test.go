package elections

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

// TestElection_RandomHistories compares with a slice of candidates, step by step, over histories by seed.
func TestElection_RandomHistories(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var x Election
		var line, watch []machine.Who
		values := map[machine.Who]string{}
		token := uint64(0)
		next := func() uint64 { token++; return token }
		for step := range 200 {
			var o out
			who := machine.Who{Session: machine.Session(1 + rng.IntN(4)), Req: uint64(step + 1)}
			var want []machine.Effect[machine.None]
			say := func(to machine.Who, code machine.Code) {
				e := machine.Effect[machine.None]{To: to, Code: code}
				if len(line) > 0 {
					e.Aux, e.Key = token, values[line[0]]
				}
				want = append(want, e)
			}
			before := machine.Who{}
			if len(line) > 0 {
				before = line[0]
			}
			changed := func() { // after line was changed
				if len(line) > 0 && line[0] == before || len(line) == 0 && before == (machine.Who{}) {
					return
				}
				if len(line) > 0 {
					say(line[0], machine.OK)
				}
				for _, w := range watch {
					say(w, machine.Changed)
				}
			}
			switch k := rng.IntN(100); {
			case k < 35:
				try := rng.IntN(3) == 0
				values[who] = fmt.Sprint(step)
				x.Campaign(&o, next, who, values[who], try)
				if try && len(line) > 0 {
					say(who, machine.Refused)
					break
				}
				line = append(line, who)
				changed()
			case k < 55:
				who = before
				if rng.IntN(3) == 0 && len(line) > 0 {
					who = line[rng.IntN(len(line))]
				}
				x.Resign(&o, next, who)
				line = slices.DeleteFunc(line, func(w machine.Who) bool { return w == who })
				changed()
			case k < 65:
				x.Watch(&o, who)
				watch = append(watch, who)
				say(who, machine.OK)
			case k < 75:
				x.Load(&o, who)
				say(who, machine.OK)
			case k < 88:
				all := slices.Concat(line, watch)
				if len(all) == 0 {
					break
				}
				who = all[rng.IntN(len(all))]
				x.Abandon(&o, who)
				if who != before {
					line = slices.DeleteFunc(line, func(w machine.Who) bool { return w == who })
					watch = slices.DeleteFunc(watch, func(w machine.Who) bool { return w == who })
					say(who, machine.Refused)
				}
			case k < 97:
				x.Expire(&o, next, who.Session)
				gone := func(w machine.Who) bool { return w.Session == who.Session }
				line, watch = slices.DeleteFunc(line, gone), slices.DeleteFunc(watch, gone)
				changed()
			default:
				x.Destroy(&o)
				for _, w := range slices.Concat(line[min(1, len(line)):], watch) {
					want = append(want, machine.Effect[machine.None]{To: w, Code: machine.Gone})
				}
				line, watch = nil, nil
			}
			if !slices.Equal(o.Effects, want) {
				t.Fatalf("seed %d, step %d: got %v, want %v", seed, step, o.Effects, want)
			}
			if x.Waiting() != max(0, len(line)-1) || x.Idle() != (len(line) == 0 && len(watch) == 0) {
				t.Fatalf("seed %d, step %d: %d wait, idle %v", seed, step, x.Waiting(), x.Idle())
			}
			b := x.AppendBinary(nil)
			var y Election
			if err := y.Restore(b); err != nil || !slices.Equal(y.AppendBinary(nil), b) {
				t.Fatalf("seed %d, step %d: restored: %v", seed, step, err)
			}
			x = y
		}
	}
}

// TestRestoreRefuses every part of a state, and what no operation can have left.
func TestRestoreRefuses(t *testing.T) {
	var a Election
	var o out
	next := func() uint64 { return 300 }
	a.Campaign(&o, next, machine.Who{Session: 1, Req: 300}, "a", false)
	a.Campaign(&o, next, machine.Who{Session: 2, Req: 1}, "b", false)
	a.Watch(&o, machine.Who{Session: 2, Req: 2})
	good := a.AppendBinary(nil)
	for n := range good {
		var x Election
		if err := x.Restore(good[:n]); err == nil {
			t.Errorf("%d bytes of %x restored as %+v", n, good, x)
		}
	}
	for what, b := range map[string][]byte{
		"more behind it":      append(slices.Clone(good), 0),
		"another version":     append([]byte{9}, good[1:]...),
		"a leader of nobody":  {1, 1, 0, 0},
		"nobody of some":      {1, 0, 1, 1, 1, 0, 0},
		"one candidate twice": {1, 1, 2, 1, 1, 0, 1, 1, 0, 0},
	} {
		var x Election
		if err := x.Restore(b); err == nil {
			t.Errorf("%s: %x restored as %+v", what, b, x)
		}
	}
}
