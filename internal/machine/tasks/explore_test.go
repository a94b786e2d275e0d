package tasks

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

var (
	depth = flag.Int("depth", 6, "how many operations TestExhaustive goes")
	seeds = flag.Int("seeds", 150, "how many histories TestRandom plays")
	from  = flag.Uint64("seed", 1, "the first of them")
)

// moves are the operations that are possible in a small world: two tasks of one
// key, two workers.
func moves(w *world) (all []func(w *world) error) {
	add := func(f func(w *world) error) { all = append(all, f) }
	for i := range 2 {
		if i == len(w.tasks) {
			add(func(w *world) error {
				return w.submit(9, true, Spec{ID: fmt.Sprint("t", i), Kind: "k", Key: "x", Idempotent: i == 0, Retries: 1})
			})
		}
	}
	for s := machine.Session(1); s <= 2; s++ {
		h := w.workers[s]
		if h == nil {
			add(func(w *world) error { return w.work(s, Offer{Slots: 1, Prefetch: int(s)}) })
			continue
		}
		if h.quiet {
			add(func(w *world) error { return w.wake(s) })
		} else {
			add(func(w *world) error { return w.quiet(s) })
		}
		add(func(w *world) error { return w.expire(s, false) })
	}
	for _, t := range w.tasks {
		n := t.number
		switch t.state {
		case Leased:
			l, s := Lease{Number: n, Epoch: t.epoch}, t.worker
			for _, o := range []Outcome{OK, Clean, Dirty, Unknown} {
				add(func(w *world) error { return w.done(s, l, o, false) })
			}
			add(func(w *world) error { return w.giveBack(s, l) })
			if t.epoch > 1 {
				add(func(w *world) error { return w.done(s, Lease{Number: n, Epoch: l.Epoch - 1}, OK, false) })
			}
		case Parked, Ended:
			add(func(w *world) error { return w.retry(w.find(n)) })
		}
		if t.state != 0 && t.state != Ended {
			add(func(w *world) error { return w.cancel(w.find(n)) })
		}
	}
	if d := w.m.Due(); d != 0 {
		add(func(w *world) error { return w.tick(d) })
	}
	return all
}

// TestExhaustive plays every history of a few operations.
func TestExhaustive(t *testing.T) {
	for _, l := range []Limits{{}, {KeyRunning: 1, Capacity: 1}, {Running: 1, Sticky: true, MaxLosses: 1}} {
		seen := map[[32]byte]bool{}
		states := 0
		var play func(w *world, left int)
		play = func(w *world, left int) {
			if left == 0 {
				return
			}
			for i := range moves(w) {
				n := w.clone()
				if err := moves(n)[i](n); err != nil {
					t.Fatalf("%+v: %v\n%s", l, err, strings.Join(n.log, "\n"))
				}
				key := sha256.Sum256(append(n.bytes(), byte(left)))
				if !seen[key] {
					seen[key] = true
					states++
					play(n, left-1)
				}
			}
		}
		play(newTestWorld(l), *depth)
		t.Logf("%+v: %d states", l, states)
	}
}

// TestRandom plays long histories of many tasks, keys and workers; with a second
// machine that goes through bytes all the time.
func TestRandom(t *testing.T) {
	for seed := *from; seed < *from+uint64(*seeds); seed++ {
		if err := random(seed); err != nil {
			t.Fatalf("-seed %d -seeds 1: %v", seed, err)
		}
	}
}

func randomLimits(r *rand.Rand) (l Limits) {
	for _, p := range []*int{&l.Capacity, &l.Running, &l.KeyRunning, &l.MaxLosses} {
		if r.IntN(3) == 0 {
			*p = 1 + r.IntN(6)
		}
	}
	if r.IntN(4) == 0 {
		l.Rate = int64(1+r.IntN(100)) * 1000
		l.Burst = r.IntN(4)
	}
	if r.IntN(6) == 0 {
		l.KeyRate = int64(1+r.IntN(50)) * 1000
	}
	l.Sticky = r.IntN(4) == 0
	l.Retain = int64(r.IntN(2000))
	return l
}

func random(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	w := newTestWorld(randomLimits(r))
	retain := r.IntN(3) == 0
	for i := range 300 {
		if err := step(w, r, i, retain); err != nil {
			return fmt.Errorf("step %d: %w\n%s", i, err, strings.Join(w.log, "\n"))
		}
		if r.IntN(10) == 0 {
			if err := w.restore(); err != nil {
				return fmt.Errorf("step %d: %w\n%s", i, err, strings.Join(w.log, "\n"))
			}
		}
	}
	return finish(w, r)
}

func step(w *world, r *rand.Rand, i int, retain bool) error {
	s := machine.Session(1 + r.IntN(4))
	var leased, live []*task
	for _, t := range w.tasks {
		if t.state == Leased {
			leased = append(leased, t)
		}
		if t.state != 0 {
			live = append(live, t)
		}
	}
	switch n := r.IntN(100); {
	case n < 30:
		var specs []Spec
		for j := range 1 + r.IntN(4) {
			sp := Spec{ID: fmt.Sprint("t", i, "-", j), Kind: []string{"a", "b"}[r.IntN(2)], Key: []string{"", "", "x", "y", "z"}[r.IntN(5)], Retries: uint16(r.IntN(3))}
			sp.Idempotent = sp.Kind == "a" || r.IntN(3) == 0
			if r.IntN(4) == 0 {
				sp.Priority = int8(r.IntN(3) - 1)
			}
			if r.IntN(6) == 0 {
				sp.NotBefore = w.now + int64(r.IntN(500))
			}
			if r.IntN(6) == 0 {
				sp.Deadline = w.now + int64(r.IntN(1000))
			}
			if retain && r.IntN(4) == 0 {
				sp.Retain = int64(1 + r.IntN(3000))
			}
			if r.IntN(20) == 0 && len(live) > 0 {
				old := live[r.IntN(len(live))]
				sp.ID, sp.Kind = old.ID, old.Kind
			}
			if r.IntN(20) == 0 {
				sp.ID = ""
			}
			specs = append(specs, sp)
		}
		for j := range specs { // the model's tasks have one ID each
			for k := range j {
				if specs[k].ID == specs[j].ID {
					specs[j].ID += fmt.Sprint("+", j)
				}
			}
			if specs[j].ID == "" {
				specs[j].ID = fmt.Sprint("n", i, "-", j)
			}
		}
		return w.submit(machine.Session(5+r.IntN(2)), r.IntN(3) > 0, specs...)
	case n < 45:
		kinds := [][]string{nil, {"a"}, {"b"}, {"a", "b"}}[r.IntN(4)]
		return w.work(s, Offer{Slots: r.IntN(4), Prefetch: r.IntN(4), Kinds: kinds})
	case n < 70 && len(leased) > 0:
		t := leased[r.IntN(len(leased))]
		l := Lease{Number: t.number, Epoch: t.epoch}
		switch r.IntN(12) {
		case 0:
			return w.giveBack(t.worker, l)
		case 1:
			return w.done(s, l, OK, false)
		case 2:
			l.Epoch--
			return w.done(t.worker, l, OK, false)
		case 3, 4:
			return w.done(t.worker, l, []Outcome{Clean, Dirty, Unknown, NeverRan}[r.IntN(4)], r.IntN(4) == 0)
		}
		return w.done(t.worker, l, OK, false)
	case n < 73:
		return w.expire(s, r.IntN(2) == 0)
	case n < 76:
		return w.quiet(s)
	case n < 79:
		return w.wake(s)
	case n < 87 && len(live) > 0:
		t := live[r.IntN(len(live))]
		return []func(*task) error{w.cancel, w.park, w.retry, w.retry}[r.IntN(4)](t)
	case n < 89:
		return w.pause(r.IntN(3) == 0)
	case n < 90:
		return w.configure(randomLimits(r))
	}
	to := w.now + int64(r.IntN(200))
	w.m.Advance(to)
	return w.tick(to)
}

// finish lets everything end: nothing is stuck for ever.
func finish(w *world, r *rand.Rand) error {
	if err := w.pause(false); err != nil {
		return err
	}
	if err := w.work(4, Offer{Slots: 3}); err != nil {
		return err
	}
	for range 20_000 {
		left := 0
		for _, t := range w.tasks {
			switch t.state {
			case Leased:
				left++
				if err := w.done(t.worker, Lease{Number: t.number, Epoch: t.epoch}, OK, false); err != nil {
					return fmt.Errorf("%w\n%s", err, strings.Join(w.log, "\n"))
				}
			case Parked:
				left++
				if err := w.cancel(t); err != nil {
					return fmt.Errorf("%w\n%s", err, strings.Join(w.log, "\n"))
				}
			case Ready, Delayed:
				left++
			}
		}
		if left == 0 && len(w.line) == 0 {
			return nil
		}
		if d := w.m.Due(); d != 0 {
			if err := w.tick(d); err != nil {
				return fmt.Errorf("%w\n%s", err, strings.Join(w.log, "\n"))
			}
		}
	}
	return fmt.Errorf("tasks are left that never end: %+v\n%s", w.m.Stats(), strings.Join(w.log, "\n"))
}
