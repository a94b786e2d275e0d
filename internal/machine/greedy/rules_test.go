package greedy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/locks"
	"github.com/distgear/distgear/internal/machine/transcript"
)

// told plays a script and returns what came of it, without the operations.
func told(t *testing.T, script string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(transcript.Play(t, strings.ReplaceAll(script, "; ", "\n")+"\n", begin)) {
		if s, ok := strings.CutPrefix(line, "\t"); ok {
			b.WriteString(strings.TrimSuffix(s, "\n") + "; ")
		}
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// TestLock holds the rules one by one; testdata tells the stories.
func TestLock(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"L1_TokensGrowWithEveryAcquisition", "alone 5; lock a write; unlock a; lock a read; lock b read; unlock a; unlock b; lock a write",
			"a: held 5.1 at once; a: held 5.2 at once; b: held 5.3 at once; a: held 5.4 at once"},
		{"L4_ReadersDoNotPassAWriter", "alone 5; lock a read; lock b write; lock c read; unlock a; unlock b",
			"a: held 5.1 at once; b: held 5.2; c: held 5.3"},
		{"L4_ReadersStandTogether", "alone 5; lock a write; lock b read; lock c read; lock d write; lock e read; unlock a",
			"a: held 5.1 at once; b: held 5.2; c: held 5.3"},
		{"L4_NobodyNewAfterARecall", "lock a read; told granted 9; told recall 9; lock b read; unlock a",
			"hub: want read; a: held 9.1; hub: release 9 read"},
		{"L5_AWaiterWhoseSessionEndedReturns", "lock a write; lose; told granted 9 write; idle",
			"hub: want write; a: lost; idle: false, 0 hold, 0 queued, 0 parked"},
		{"L7_UnlockByANonHolder", "alone 5; lock a write; lock b write; unlock b; unlock a; unlock a",
			"a: held 5.1 at once; greedy: not held under this token; b: held 5.2; greedy: not held under this token"},
		{"L7_ReleasingALostLockSaysLost", "lock a write; told granted 9 write; lose; unlock a; unlock a",
			"hub: want write; a: held 9.1; ended 9.1; greedy: the lock was lost while it was held; greedy: not held under this token"},
		{"L8_UpgradeIsRefused", "alone 5; lock a read; check a write; check a read; unlock a; check a write",
			"a: held 5.1 at once; greedy: a reader cannot become a writer; greedy: held by who asks"},
		{"L8_DowngradeIsAllowed", "alone 5; lock a write; lock b read; downgrade a; check a write",
			"a: held 5.1 at once; b: held 5.2; greedy: a reader cannot become a writer"},
		{"L9_WaitGivesUpTheLockAndHasItAgain", "alone 5; lock a write; wait a 1; lock b write; notify b 1 1; unlock b",
			"a: held 5.1 at once; b: held 5.2 at once; a: held 5.3 notified"},
		{"L9_ANotifiedWaiterIsNotAbandoned", "alone 5; lock a write; wait a 1; lock b write; notify b 1 1; abandon a; unlock b",
			"a: held 5.1 at once; b: held 5.2 at once; left: false; a: held 5.3 notified"},
		{"L11_TryRecalledIdle", "lock a write; told granted 9 write; told recall 9 try; unlock a; told recall 9 try",
			"hub: want write; a: held 9.1; hub: busy 9; hub: release 9"},
		{"D7_ReadersThatStandTogetherAreOneTurn", "lock a read; lock b read; lock c read; lock d write; told granted 9 contended; lock e read; unlock a; unlock b; unlock c",
			"hub: want read; a: held 9.1; b: held 9.2; c: held 9.3; hub: release 9 write"},
		{"D7_AContendedGrantIsForOneTurn", "lock a write; lock b write; told granted 9 write contended; unlock a",
			"hub: want write; a: held 9.1; hub: release 9 write"},
		{"H11_AnAbandonCrossesAGrant", "lock a write; abandon a; told granted 9 write contended; idle",
			"hub: want write; left: true; hub: abandon; hub: release 9; idle: true, 0 hold, 0 queued, 0 parked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, c.script); got != c.want {
				t.Errorf("%s\ntold %s\nwant %s", c.script, got, c.want)
			}
		})
	}
}

// A model says the rules as they are written: a want is granted if it agrees
// with every holder and every want that came before it is granted.
type model struct {
	wants  []modelWant
	parked []int // goroutines, in order
}

type modelWant struct {
	g       int
	m       Mode
	granted bool
}

func (m *model) settle() (held []int) {
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
			held = append(held, w.g)
		}
	}
	return held
}

func (m *model) find(g int) int {
	return slices.IndexFunc(m.wants, func(w modelWant) bool { return w.g == g })
}

func (m *model) drop(g int) {
	m.wants = slices.DeleteFunc(m.wants, func(w modelWant) bool { return w.g == g })
}

// TestRandom_L4_AgainstTheModel compares who has the lock after every call,
// alone and with a hub that answers at once.
func TestRandom_L4_AgainstTheModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for i := range uint64(1500) {
		if path, err := compare(rand.New(rand.NewPCG(seed, i)), i%2 == 0); err != nil {
			t.Fatalf("seed %d, %d: %v\n%v", seed, i, err, path)
		}
	}
}

func compare(r *rand.Rand, alone bool) (path []string, err error) {
	l := &Lock{}
	if alone {
		*l = Alone(9)
	}
	var hub locks.Lock
	var m model
	ws := make([]*Waiter, 6)
	for g := range ws {
		ws[g] = &Waiter{By: g}
	}
	next := uint64(9)
	last := Token(0)
	for range 80 {
		g := r.IntN(len(ws))
		w := ws[g]
		var out Out
		var got []int
		i := m.find(g)
		name := ""
		switch {
		case slices.Contains(m.parked, g):
			name = "abandon the wait"
			l.Abandon(w, &out)
			m.parked = slices.DeleteFunc(m.parked, func(p int) bool { return p == g })
			m.wants = append(m.wants, modelWant{g: g, m: Write})
		case i < 0:
			w.Reset()
			mode := Mode(1 + r.IntN(2))
			try := r.IntN(4) == 0
			name = fmt.Sprintf("lock %v try %v", mode, try)
			m.wants = append(m.wants, modelWant{g: g, m: mode})
			if t, ok := l.Acquire(mode); ok {
				w.State, w.Token, w.Mode = Held, t, mode
				got = append(got, g)
				break
			}
			w.Mode, w.Try = mode, try
			l.Enqueue(w, &out)
		case !m.wants[i].granted:
			name = "abandon"
			if l.Abandon(w, &out) {
				m.drop(g)
			}
		case m.wants[i].m == Write && r.IntN(2) == 0:
			switch r.IntN(3) {
			case 0:
				name = "downgrade"
				err = l.Downgrade(w.Token, &out)
				m.wants[i].m = Read
			case 1:
				name = "wait"
				t := w.Token
				w.Reset()
				err = l.Wait(t, 1, w, &out)
				m.drop(g)
				m.parked = append(m.parked, g)
			case 2:
				n := r.IntN(4) - 1
				name = fmt.Sprintf("notify %d", n)
				err = l.Notify(w.Token, 1, n, &out)
				for len(m.parked) > 0 && n != 0 {
					m.wants = append(m.wants, modelWant{g: m.parked[0], m: Write})
					m.parked = m.parked[1:]
					n--
				}
			}
		default:
			name = "unlock"
			err = l.Unlock(w.Token, &out)
			m.drop(g)
		}
		path = append(path, fmt.Sprintf("%d %s", g, name))
		if err != nil {
			return path, err
		}
		for len(out.Ops) > 0 { // the hub answers at once
			if alone {
				return path, fmt.Errorf("alone, and %+v for a hub", out.Ops)
			}
			op := out.Ops[0]
			out.Ops = out.Ops[1:]
			var fx locks.Out
			hub.Do(&fx, machine.Who{Session: 1}, locks.At{Next: func() uint64 { next++; return next }}, op)
			for _, e := range fx.Effects {
				l.Told(e, &out)
			}
		}
		for _, x := range out.Tell {
			if x.State == Refused {
				if want := m.settle(); slices.Contains(want, x.By.(int)) {
					return path, fmt.Errorf("%d is refused a free lock", x.By)
				}
				m.drop(x.By.(int))
				continue
			}
			got = append(got, x.By.(int))
		}
		for _, g := range got {
			if ws[g].State != Held || ws[g].Token <= last {
				return path, fmt.Errorf("%d: state %d, token %d after %d", g, ws[g].State, ws[g].Token, last)
			}
			last = ws[g].Token
		}
		if want := m.settle(); !slices.Equal(got, want) {
			return path, fmt.Errorf("%v have it, by the model %v", got, want)
		}
	}
	return path, nil
}

// TestTokens_L1_AGrantIsUsedUp goes on over the end of a grant's tokens.
func TestTokens_L1_AGrantIsUsedUp(t *testing.T) {
	var l Lock
	var out Out
	w := &Waiter{Mode: Write}
	l.Enqueue(w, &out)
	l.Told(machine.Effect[machine.None]{Code: machine.Granted, Num: 3, Aux: locks.AuxWrite}, &out)
	last, n := w.Token, 1
	for ; ; n++ {
		if err := l.Unlock(last, &out); err != nil {
			t.Fatal(err)
		}
		next, ok := l.Acquire(Write)
		if !ok {
			break
		}
		if next <= last || next.Grant() != 3 {
			t.Fatalf("token %d after %d", next, last)
		}
		last = next
	}
	if n != Uses-1 {
		t.Errorf("%d uses, want %d", n, Uses-1)
	}
	out.Reset()
	w.Reset()
	w.Mode = Write
	l.Enqueue(w, &out)
	if want := (locks.Op{Verb: locks.DoRelease, Token: 3, Mode: Write}); len(out.Ops) != 1 || out.Ops[0] != want {
		t.Fatalf("%+v", out.Ops)
	}
	l.Told(machine.Effect[machine.None]{Code: machine.Granted, Num: 4, Aux: locks.AuxWrite}, &out)
	if w.State != Held || w.Token <= last {
		t.Errorf("state %d, token %d after %d", w.State, w.Token, last)
	}
}

// TestWait_TicketsBeginAgain goes over the end of the numbers while waiters
// have some of them.
func TestWait_TicketsBeginAgain(t *testing.T) {
	l := Alone(1)
	var out Out
	var got []uint64
	l.tickets = 1<<32 - 3
	for i := range 5 {
		k, ok := l.Acquire(Write)
		w := &Waiter{}
		if err := l.Wait(k, 1, w, &out); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if got = append(got, w.ticket); i == 2 {
			l.tickets = 1<<32 - 3
		}
	}
	if want := []uint64{1<<32 - 2, 1<<32 - 1, 1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("tickets %v, want %v", got, want)
	}
}

// TestHolds asks for tokens that are held, were, and never were.
func TestHolds(t *testing.T) {
	l := Alone(1)
	var out Out
	a, _ := l.Acquire(Read)
	b, _ := l.Acquire(Read)
	if err := l.Unlock(a, &out); err != nil || l.Holds(a) || !l.Holds(b) || l.Holds(0) || l.Holds(99) {
		t.Error(err, l.Holds(a), l.Holds(b))
	}
}

// TestFastPath_AllocatesNothing holds what makes greedy grants worth having.
func TestFastPath_AllocatesNothing(t *testing.T) {
	for _, m := range []Mode{Read, Write} {
		l := Alone(1)
		var out Out
		if n := testing.AllocsPerRun(1000, func() {
			k, ok := l.Acquire(m)
			if err := l.Unlock(k, &out); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", m, n)
		}
	}
	l := Alone(1)
	var out Out
	a := &Waiter{}
	if n := testing.AllocsPerRun(1000, func() { // one waits for the other
		k, _ := l.Acquire(Write)
		a.Reset()
		a.Mode = Write
		l.Enqueue(a, &out)
		err := errors.Join(l.Unlock(k, &out), l.Unlock(a.Token, &out))
		if err != nil {
			t.Fatal(err)
		}
		out.Reset()
	}); n != 0 {
		t.Errorf("handing over: %v allocations", n)
	}
}

func BenchmarkLockUnlock(b *testing.B) {
	for _, m := range []Mode{Write, Read} {
		b.Run(m.String(), func(b *testing.B) {
			var mu sync.Mutex
			l := Alone(1)
			var out Out
			b.ReportAllocs()
			for b.Loop() {
				mu.Lock()
				k, ok := l.Acquire(m)
				mu.Unlock()
				if !ok {
					b.Fatal("not free")
				}
				mu.Lock()
				err := l.Unlock(k, &out)
				mu.Unlock()
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("mutex", func(b *testing.B) { // what a lock in the process costs when written in the same way
		var mu, held sync.Mutex
		for b.Loop() {
			mu.Lock()
			held.Lock()
			mu.Unlock()
			mu.Lock()
			held.Unlock()
			mu.Unlock()
		}
	})
}

// TestBegin_EndAndAgain: a process that is alone gives a destroyed lock up; tokens and what was lost go on.
func TestBegin_EndAndAgain(t *testing.T) {
	var l Lock
	var out Out
	if _, ok := l.Acquire(Read); ok {
		t.Fatal("got without a grant")
	}
	l.Begin(7)
	a, ok := l.Acquire(Write)
	if !ok || a.Grant() != 7 {
		t.Fatal(a, ok)
	}
	l.Told(machine.Effect[machine.None]{Code: machine.Gone}, &out)
	l.End()
	if _, ok := l.Acquire(Write); ok || !slices.Equal(out.Ended, []Token{a}) || l.Grant() != 0 {
		t.Fatal(ok, out.Ended)
	}
	l.Begin(6) // the clock was turned back
	if b, ok := l.Acquire(Write); !ok || b <= a {
		t.Fatal(b, a, ok)
	}
	if err := l.Unlock(a, &out); !errors.Is(err, ErrLost) {
		t.Fatal(err)
	}
}
