package locks

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/machine"
)

// A model says the rules as they are written: a want is granted if it agrees
// with every holder and every want that came before it is granted.
type model struct {
	wants []modelWant // in the order in which they came, granted ones too
}

type modelWant struct {
	s       machine.Session
	m       Mode
	granted bool
	token   uint64
}

func (m *model) settle() (granted []machine.Session) {
	for i := range m.wants {
		w := &m.wants[i]
		if w.granted {
			continue
		}
		ok := true
		for j, o := range m.wants {
			if j < i && !o.granted || j != i && o.granted && (o.m == Write || w.m == Write) {
				ok = false
			}
		}
		if ok {
			w.granted = true
			granted = append(granted, w.s)
		}
	}
	return granted
}

func (m *model) find(s machine.Session) int {
	return slices.IndexFunc(m.wants, func(w modelWant) bool { return w.s == s })
}

// TestRandom_L4_AgainstTheModel compares grants with the model's.
func TestRandom_L4_AgainstTheModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for i := range uint64(2000) {
		if err := compare(rand.New(rand.NewPCG(seed, i))); err != nil {
			t.Fatalf("seed %d, %d: %v", seed, i, err)
		}
	}
}

func compare(r *rand.Rand) error {
	var l Lock
	var m model
	last := uint64(0)
	at := At{Next: func() uint64 { last += 1 + r.Uint64N(3); return last }}
	var path []string
	for range 60 {
		s := machine.Session(1 + r.IntN(5))
		who := machine.Who{Session: s}
		var out Out
		i := m.find(s)
		var name string
		mode := Mode(1 + r.IntN(2))
		switch {
		case i < 0:
			name = "want " + mode.String()
			l.Want(&out, who, at, mode, false)
			m.wants = append(m.wants, modelWant{s: s, m: mode})
		case r.IntN(6) == 0:
			name = "expire"
			l.Expire(&out, at, s)
			m.wants = slices.Delete(m.wants, i, i+1)
		case !m.wants[i].granted:
			name = "abandon"
			l.Abandon(&out, who, at)
			m.wants = slices.Delete(m.wants, i, i+1)
		case m.wants[i].m == Write && r.IntN(3) == 0:
			name = "downgrade"
			l.Downgrade(&out, who, at, m.wants[i].token)
			m.wants[i].m = Read
		default:
			again := Mode(r.IntN(3))
			name = "release again " + again.String()
			l.Release(&out, who, at, m.wants[i].token, again)
			m.wants = slices.Delete(m.wants, i, i+1)
			if again != 0 {
				m.wants = append(m.wants, modelWant{s: s, m: again})
			}
		}
		path = append(path, fmt.Sprintf("%s %s", name, letter(s)))
		want := m.settle()
		var got []machine.Session
		highest := uint64(0)
		for _, w := range m.wants {
			highest = max(highest, w.token)
		}
		for _, e := range out.Effects {
			if e.Code != machine.Granted {
				continue
			}
			got = append(got, e.To.Session)
			w := &m.wants[m.find(e.To.Session)]
			if e.Num <= highest || (e.Aux&AuxWrite != 0) != (w.m == Write) {
				return fmt.Errorf("%v: %s after token %d", path, effect(e), highest)
			}
			if others := slices.ContainsFunc(m.wants, func(o modelWant) bool { return !o.granted }); others != (e.Aux&AuxContended != 0) {
				return fmt.Errorf("%v: %s, others wait: %v", path, effect(e), others)
			}
			w.token, highest = e.Num, e.Num
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("%v: granted to %v, the model to %v", path, got, want)
		}
		if s := l.fault(); s != "" {
			return fmt.Errorf("%v: %s", path, s)
		}
	}
	return nil
}

// TestRandom_L9_NotificationsAreKept does anything at all, in and out of
// order, and counts notifications: each is with a waiter, used or handed on as
// long as there is one to hand it to.
func TestRandom_L9_NotificationsAreKept(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for i := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, i))
		if path, err := anything(r); err != nil {
			t.Fatalf("seed %d, %d: %v\n%v", seed, i, err, path)
		}
	}
}

func anything(r *rand.Rand) (path []string, err error) {
	l := &Lock{}
	last := uint64(0)
	at := At{Next: func() uint64 { last++; return last }}
	for range 80 {
		s := machine.Session(1 + r.IntN(4))
		op := Op{Verb: Verb(1 + r.IntN(9)), Mode: Mode(r.IntN(3)), Try: r.IntN(4) == 0, Cond: uint32(r.IntN(2)), Ticket: uint64(r.IntN(4)), N: int32(r.IntN(4) - 1)}
		if i := l.holdOf(s); i >= 0 && r.IntN(8) > 0 {
			op.Token = l.holds[i].token
		}
		var out Out
		parked, notified := count(l, false), count(l, true)
		if r.IntN(16) == 0 {
			path = append(path, "expire "+letter(s))
			mine := 0
			for _, w := range l.waits {
				if w.session == s && w.notified {
					mine++
				}
			}
			l.Expire(&out, at, s)
			woken := tally(&out, machine.Wake)
			if count(l, true) != notified-mine+woken || woken < mine && anyLeft(l) {
				return path, fmt.Errorf("%d notifications ended with the session, %d went on", mine, woken)
			}
		} else {
			path = append(path, fmt.Sprintf("%s %+v", letter(s), op))
			l.Do(&out, machine.Who{Session: s}, at, op)
			woken, used, gone := tally(&out, machine.Wake), 0, tally(&out, machine.OK)
			if op.Verb == DoResume {
				used = notified - count(l, true)
			} else if count(l, true) != notified+woken {
				return path, fmt.Errorf("%d notified, then %d woken, are %d", notified, woken, count(l, true))
			}
			if op.Verb != DoWait && count(l, false) != parked-woken-gone || used < 0 || used > 1 {
				return path, fmt.Errorf("%d parked become %d, %d woken, %d gone", parked, count(l, false), woken, gone)
			}
		}
		if s := l.fault(); s != "" {
			return path, fmt.Errorf("%s: %+v", s, l.Info())
		}
	}
	// Everything ends when the sessions do.
	for s := range machine.Session(5) {
		l.Expire(&Out{}, at, s)
	}
	if !l.Idle() {
		return path, fmt.Errorf("left over: %+v", l.Info())
	}
	return path, nil
}

func count(l *Lock, notified bool) int {
	n := 0
	for _, w := range l.waits {
		if w.notified == notified {
			n++
		}
	}
	return n
}

// anyLeft reports whether both conditions still have one that a notification
// could have gone to.
func anyLeft(l *Lock) bool {
	var has [2]bool
	for _, w := range l.waits {
		if !w.notified {
			has[w.cond] = true
		}
	}
	return has[0] && has[1]
}

func tally(out *Out, c machine.Code) int {
	n := 0
	for _, e := range out.Effects {
		if e.Code == c {
			n++
		}
	}
	return n
}
