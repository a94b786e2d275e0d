package session

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/wire"
)

// The session against a hub is tested in package hub.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The estimate is within half the shortest of the last round trips, however
// lopsided the trips are.
func TestClock(t *testing.T) {
	start := time.Now()
	for range 200 {
		c := newClock(start)
		truth := time.Duration(rand.Int64N(int64(time.Hour))) - 30*time.Minute // what the hub is ahead
		hub := uint64(1)
		var trips []time.Duration
		now := start
		for range 40 {
			if rand.IntN(15) == 0 { // another hub with another clock
				hub++
				truth += time.Duration(rand.Int64N(int64(time.Second)))
				trips = nil
			}
			there, held, back := time.Duration(rand.Int64N(1e7)), time.Duration(rand.Int64N(1e6)), time.Duration(rand.Int64N(1e5))
			sent := now.Add(time.Duration(rand.Int64N(1e9)))
			arrived := sent.Add(there)
			answered := arrived.Add(held)
			now = answered.Add(back)
			c.sample(StampAt(1, hub, arrived.Add(truth), answered.Add(truth)), sent, now)
			trips = append(trips, there+back)
			best := trips[len(trips)-1]
			for _, d := range trips[max(0, len(trips)-8):] {
				best = min(best, d)
			}
			if off := c.at(now).Sub(now.Add(truth)).Abs(); off > best/2+1 {
				t.Fatalf("off by %v after a round trip of %v", off, best)
			}
		}
	}
}

func TestClock_BeforeTheFirstSample(t *testing.T) {
	now := time.Now()
	c := newClock(now)
	c.sample(Stamp{}, now, now) // of an answer that says nothing
	if d := c.at(now).Sub(now).Abs(); d > time.Millisecond {
		t.Errorf("off by %v", d)
	}
}

func member(name string, life uint64, s members.State, kinds ...string) *members.Member {
	return &members.Member{Name: name, Life: life, Incarnation: life, State: s, Kinds: kinds}
}

func TestView(t *testing.T) {
	all := map[uint64]*members.Member{}
	for _, m := range []*members.Member{
		member("a", 1, members.Lost, "x"), member("a", 2, members.Alive, "x", "y"), member("a", 3, members.Joining, "x"),
		member("b", 4, members.Suspect, "x"), member("c", 5, members.Alive, "x"), member("d", 6, members.Left),
	} {
		all[m.Life] = m
	}
	v := build(9, 7, all, map[uint64]bool{8: true})
	if v.Version != 7 || v.Hub != 9 || len(v.Members) != 4 || v.Members["a"].Life != 2 {
		t.Errorf("%+v", v)
	}
	got := ""
	for _, m := range v.Handling("x") {
		got += m.Name
	}
	if got != "ac" || len(v.Handling("y")) != 1 || v.Handling("z") != nil {
		t.Errorf("x is handled by %s", got)
	}
	for life, want := range map[uint64]Life{1: LifeOver, 2: LifeAlive, 3: LifeAlive, 4: LifeSuspect, 6: LifeOver, 8: LifeOver, 99: LifeUnknown} {
		if s := v.state(life); s != want {
			t.Errorf("life %d is %v, not %v", life, s, want)
		}
	}
	if v.Life(5).Name != "c" || v.Life(99) != nil {
		t.Error("members by life")
	}
	delete(all, 5)
	if v.Life(5) == nil {
		t.Error("a view changed")
	}
}

// Life ids do not survive a float64: neither side may decode them into one.
func TestProtocol_BigNumbers(t *testing.T) {
	in := Broadcast{Hub: 1<<63 + 1, Changes: []members.Changed{{Version: 1<<62 + 1}}, Loads: map[uint64]members.Load{1<<63 + 3: {InFlight: 1}}}
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Broadcast
	if err := json.Unmarshal(data, &out); err != nil || fmt.Sprint(in) != fmt.Sprint(out) {
		t.Errorf("%v came back as %v, %v", in, out, err)
	}
}

// A hub from which another has taken over renews nothing, also when it does not know it yet.
func TestBeat_TheDeposedAreNotHeard(t *testing.T) {
	s := newSession(Config{})
	defer s.cancel()
	b := &beater{s: s, hub: 7, term: 3, inc: 1, joined: true}
	reply := func(hub, term uint64, again bool) {
		data, err := json.Marshal(BeatReply{Stamp: Stamp{Hub: hub, Term: term, Time: 1}, State: members.Alive, Again: again})
		if err != nil {
			t.Fatal(err)
		}
		b.beatAnswered(answer{q: &request{incarnation: 1, sent: time.Now()}, report: wire.Report{Outcome: wire.OK, Payload: data}, received: time.Now()})
	}
	reply(7, 2, false)
	if s.Valid(time.Now()) {
		t.Error("it renewed the lease")
	}
	reply(7, 4, false)
	if !s.Valid(time.Now()) || b.term != 4 {
		t.Error("the next one did not")
	}
	reply(7, 3, true)
	if !b.joined || !s.Valid(time.Now()) {
		t.Error("it ended the session")
	}
	reply(7, 4, true)
	if b.joined || s.Valid(time.Now()) {
		t.Error("the one that is the hub could not end it")
	}
}

func TestMailbox(t *testing.T) {
	b := newMailbox[int]()
	b.put()
	select {
	case <-b.ready:
		t.Error("ready without anything")
	default:
	}
	b.put(1)
	b.put(2, 3)
	<-b.ready
	if got := fmt.Sprint(b.take(), b.take()); got != "[1 2 3] []" {
		t.Error(got)
	}
}

func BenchmarkValid(b *testing.B) {
	s := newSession(Config{})
	defer s.cancel()
	s.lease.Store(int64(time.Hour))
	now := time.Now()
	for b.Loop() {
		if !s.Valid(now) {
			b.Fatal("not valid")
		}
	}
}

// What a caller means by a name: who is there, else who will be, else who was. One
// that was refused the name was never there.
func TestView_WhoseNameItIs(t *testing.T) {
	refused := member("a", 9, members.Left)
	refused.Reason = "the name belongs to another"
	for _, c := range []struct {
		states []members.State // of incarnations 1, 2, …
		want   uint64
	}{
		{[]members.State{members.Alive, members.Joining}, 1},
		{[]members.State{members.Lost, members.Joining}, 2},
		{[]members.State{members.Lost, members.Left}, 2},
		{[]members.State{members.Left, members.Lost}, 2},
		{[]members.State{members.Lost}, 1},
		{[]members.State{members.Suspect}, 1},
		{nil, 9},
	} {
		all := map[uint64]*members.Member{9: refused}
		for i, s := range c.states {
			all[uint64(i+1)] = member("a", uint64(i+1), s)
		}
		if m := build(1, 1, all, nil).Named("a"); m.Life != c.want {
			t.Errorf("of %v and one that was refused: life %d is %v, want %d", c.states, m.Life, m.State, c.want)
		}
	}
}

func BenchmarkHandling(b *testing.B) {
	all := map[uint64]*members.Member{}
	for i := range uint64(1000) {
		all[i+1] = member(fmt.Sprint("n", i), i+1, members.Alive, "x", "y")
	}
	v := build(1, 1, all, nil)
	for b.Loop() {
		if len(v.Handling("x")) != 1000 {
			b.Fatal("missing")
		}
	}
}
