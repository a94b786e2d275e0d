package members

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

const ttl = time.Second

// checker runs operations on a machine and holds its guarantees against an
// account of its own, made from nothing but the calls and the effects.
type checker struct {
	m       *Machine
	now     time.Time
	resumes bool // the operation is a join that resumes
	version uint64
	view    map[uint64]Member
	last    map[uint64]uint64    // highest incarnation by life
	highest uint64               // incarnation of all
	heard   map[uint64]time.Time // last sign of life
	inits   map[uint64]NeedInit  // by the life that joins
	asked   map[uint64]bool      // incarnations whose init event was wanted
	losses  []RaiseLost
	roster  Roster
	trace   []string
}

func newChecker() *checker {
	c := &checker{
		now: epoch, view: make(map[uint64]Member), last: make(map[uint64]uint64),
		heard: make(map[uint64]time.Time), inits: make(map[uint64]NeedInit), asked: make(map[uint64]bool),
	}
	c.m = New(Config{TTL: ttl, Keep: 3 * ttl, Init: 4 * ttl}, c.now)
	c.version = c.m.Version()
	return c
}

// do is one operation, which may make the life that it admits alive.
func (c *checker) do(name string, admits uint64, effects []Effect) error {
	c.trace = append(c.trace, name)
	for _, e := range effects {
		switch e := e.(type) {
		case Changed:
			if err := c.change(e, admits); err != nil {
				return err
			}
		case NeedInit:
			if m := c.view[e.Member.Life]; m.State != Joining || m.Incarnation != e.Member.Incarnation {
				return fmt.Errorf("init of %s, which is %v", show(e.Member), m.State)
			}
			if h := c.view[e.Handler.Life]; h.State != Alive || !h.Handles(KindJoin) {
				return fmt.Errorf("init on %s", show(h))
			}
			c.inits[e.Member.Life] = e
			c.asked[e.Member.Incarnation] = true
		case RaiseLost:
			if h := c.view[e.Handler.Life]; h.State != Alive || !h.Handles(KindLost) {
				return fmt.Errorf("loss told to %s", show(h))
			}
			if e.Member.State != Lost {
				return fmt.Errorf("loss of %s", show(e.Member))
			}
			c.losses = append(c.losses, e)
		}
	}
	c.keep(effects)
	names := make(map[string]Member)
	for _, m := range c.view {
		if m.State != Alive && m.State != Suspect {
			continue
		}
		if o, ok := names[m.Name]; ok {
			return fmt.Errorf("two of one name: %s, %s", show(o), show(m))
		}
		names[m.Name] = m
	}
	version, all := c.m.Snapshot()
	if version != c.version || len(all) != len(c.view) {
		return fmt.Errorf("version %d of %d members, the changes make %d of %d", version, len(all), c.version, len(c.view))
	}
	for _, m := range all {
		v := c.view[m.Life]
		m.Load, v.Load = Load{}, Load{}
		if len(m.Kinds)+len(v.Kinds) == 0 { // JSON does not tell none from empty
			m.Kinds, v.Kinds = nil, nil
		}
		if !reflect.DeepEqual(m, v) {
			return fmt.Errorf("the snapshot has %s, the changes make %s", show(m), show(v))
		}
		if k, _ := c.roster.Member(m.Life); k.Incarnation != m.Incarnation || k.State != m.State || !slices.Equal(k.Kinds, m.Kinds) {
			return fmt.Errorf("the snapshot has %s, the roster %s", show(m), show(k))
		}
	}
	if kept := c.roster.Members(); len(kept) != len(all) {
		return fmt.Errorf("%d members are kept of %d", len(kept), len(all))
	}
	return nil
}

// keep does what the ledger does with what was decided.
func (c *checker) keep(effects []Effect) {
	var d Decisions
	for _, e := range effects {
		switch e := e.(type) {
		case Changed:
			d.Changes = append(d.Changes, e)
		case Told:
			d.Told = append(d.Told, e)
		}
	}
	c.roster.Apply(&d)
}

// takeOver goes on with another machine. What the one before had raised is not answered.
func (c *checker) takeOver() error {
	c.trace = append(c.trace, "take-over")
	var r Roster
	if err := r.Restore(c.roster.AppendBinary(nil)); err != nil {
		return err
	}
	told := make(map[uint64]bool) // of incarnations: the loss is to be told still
	for _, l := range c.m.losses {
		told[l.m.Incarnation] = true
	}
	c.m = From(Config{TTL: ttl, Keep: 3 * ttl, Init: 4 * ttl}, c.now, &r)
	for _, l := range c.m.losses {
		if !told[l.m.Incarnation] {
			return fmt.Errorf("%s would be told again", show(l.m))
		}
		delete(told, l.m.Incarnation)
	}
	if len(told) != 0 {
		return fmt.Errorf("losses of %v are forgotten", told)
	}
	for life := range c.heard {
		c.heard[life] = c.now
	}
	clear(c.inits)
	c.losses = nil
	if r.Version() == 0 {
		c.version = c.m.Version() // there is nothing to go on with
	}
	return c.do("", 0, nil)
}

func (c *checker) change(e Changed, admits uint64) error {
	if e.Version != c.version+1 {
		return fmt.Errorf("version %d follows %d", e.Version, c.version)
	}
	c.version = e.Version
	m, old := e.Member, c.view[e.Member.Life]
	if e.Dropped {
		if !old.State.Over() || c.now.Sub(old.Since) < 3*ttl {
			return fmt.Errorf("dropped %s", show(old))
		}
		delete(c.view, m.Life)
		return nil
	}
	fresh := m.Incarnation != old.Incarnation
	switch {
	case m.Incarnation < old.Incarnation:
		return fmt.Errorf("incarnation went back from %s to %s", show(old), show(m))
	case fresh && old.State.Live() && c.last[m.Life] != 0:
		return fmt.Errorf("%s follows %s, which had not ended", show(m), show(old))
	case fresh && m.Incarnation < uint64(epoch.UnixMilli()): // adopted, no session of this hub
		if !c.resumes {
			return fmt.Errorf("%s appeared from nowhere", show(m))
		}
	case fresh && m.State == Alive && !c.resumes:
		return fmt.Errorf("%s never joined", show(m))
	case fresh:
		if m.Incarnation <= c.highest {
			return fmt.Errorf("%s has not the highest incarnation", show(m))
		}
		c.last[m.Life] = m.Incarnation
	case !fresh && old.State.Over():
		return fmt.Errorf("%s rose from %v", show(m), old.State)
	case m.State == Alive && old.State == Joining && c.asked[m.Incarnation] && admits != m.Life:
		return fmt.Errorf("%s was not admitted", show(m))
	}
	c.highest = max(c.highest, m.Incarnation)
	if m.State == Lost && c.now.Sub(c.heard[m.Life]) < ttl {
		return fmt.Errorf("%s after %v of silence", show(m), c.now.Sub(c.heard[m.Life]))
	}
	if fresh {
		c.heard[m.Life] = c.now
	}
	c.view[m.Life] = m
	return nil
}

// act does the n-th of the operations there are on three lives of two names.
func (c *checker) act(n int, r func(int) int) error {
	life := uint64(1 + r(3))
	inc := c.last[life]
	session := c.view[life].State.Live() && c.view[life].Incarnation == inc && inc != 0
	switch n {
	case 0, 1, 2:
		q := Request{Name: []string{"a", "b"}[r(2)], Life: life, Resume: r(3) == 0}
		q.Kinds = [][]string{nil, {KindJoin}, {KindLost}, {KindJoin, KindLost}}[r(4)]
		if q.Resume {
			q.Known = []Member{{Name: "b", Life: uint64(1 + r(4)), Incarnation: uint64(epoch.UnixMilli()) - 5, State: Alive}}
		}
		_, effects, err := c.m.Join(c.now, q)
		if err == nil {
			c.heard[life] = c.now
		}
		c.resumes = q.Resume
		defer func() { c.resumes = false }()
		return c.do(fmt.Sprintf("join %s %d %v resume %v", q.Name, life, q.Kinds, q.Resume), life, effects)
	case 3:
		_, effects, err := c.m.Beat(c.now, life, inc, Load{InFlight: r(3)})
		if (err == nil) != session {
			return fmt.Errorf("beat of %s answered %w", show(c.view[life]), err)
		}
		if err == nil {
			c.heard[life] = c.now
		}
		return c.do(fmt.Sprintf("beat %d", life), 0, effects)
	case 4:
		return c.do(fmt.Sprintf("leave %d", life), 0, c.m.Leave(c.now, life, inc))
	case 5:
		i, ok := c.inits[life]
		if !ok {
			return nil
		}
		delete(c.inits, life)
		switch r(3) {
		case 0:
			return c.do(fmt.Sprintf("admit %d", life), life, c.m.Admit(c.now, life, i.Member.Incarnation, i.Handler.Life))
		case 1:
			return c.do(fmt.Sprintf("refuse %d", life), 0, c.m.Refuse(c.now, life, i.Member.Incarnation, i.Handler.Life, "no"))
		}
		return c.do(fmt.Sprintf("initfailed %d", life), 0, c.m.InitFailed(c.now, life, i.Member.Incarnation, i.Handler.Life))
	case 6:
		if len(c.losses) == 0 {
			return nil
		}
		l := c.losses[0]
		c.losses = c.losses[1:]
		if r(2) == 0 {
			return c.do("losstold", 0, c.m.LossTold(c.now, l.Member.Life, l.Member.Incarnation))
		}
		return c.do("lossfailed", 0, c.m.LossFailed(c.now, l.Member.Life, l.Member.Incarnation, l.Handler.Life))
	case 7:
		_, effects, err := c.m.SetKinds(c.now, life, inc, []string{KindJoin, "x"}[:r(3)], uint64(1+r(3)))
		if err == nil {
			c.heard[life] = c.now
		}
		return c.do(fmt.Sprintf("kinds %d", life), 0, effects)
	}
	if n == 12 {
		return c.takeOver()
	}
	d := []time.Duration{ttl / 10, ttl / 4, ttl / 2, 20 * ttl}[r(4)]
	c.now = c.now.Add(d)
	return c.do(fmt.Sprintf("tick %v", d), 0, c.m.Tick(c.now))
}

// settle lets time pass without a sign of life: every session must end, and
// everything must be forgotten.
func (c *checker) settle() error {
	for range 60 {
		c.now = c.now.Add(ttl / 10)
		if err := c.do("tick", 0, c.m.Tick(c.now)); err != nil {
			return err
		}
	}
	if _, all := c.m.Snapshot(); len(all) != 0 {
		return fmt.Errorf("%d sessions remain, the first is %s", len(all), show(all[0]))
	}
	return nil
}

// TestRandom_S19 runs random histories.
func TestRandom_S19(t *testing.T) {
	seed, histories := uint64(time.Now().UnixNano()), uint64(3000)
	if raceEnabled {
		histories = 300
	}
	for i := range histories {
		r := rand.New(rand.NewPCG(seed, i))
		c := newChecker()
		var err error
		for n := 0; n < 120 && err == nil; n++ {
			err = c.act(r.IntN(13), r.IntN)
		}
		if err == nil {
			err = c.settle()
		}
		if err != nil {
			t.Fatalf("seed %d, %d: %v\n%v", seed, i, err, c.trace)
		}
	}
}

// TestExhaustive_S19 runs every history of five operations in a small world: two
// lives of one name and a handler, and all that may happen to them.
func TestExhaustive_S19(t *testing.T) {
	depth := 5
	if testing.Short() || raceEnabled { // there is one goroutine here
		depth = 4
	}
	type op struct {
		act  int
		args []int // what the choices in act are answered with
	}
	ops := []op{
		{0, []int{0, 0, 1, 0}}, {0, []int{1, 0, 1, 0}}, {0, []int{2, 1, 1, 3}}, {0, []int{0, 0, 0, 0, 0}},
		{3, []int{0, 0}}, {3, []int{1, 0}}, {3, []int{2, 0}}, {4, []int{0}}, {4, []int{2}},
		{5, []int{0, 0}}, {5, []int{1, 1}}, {5, []int{1, 2}}, {6, []int{1}}, {12, nil}, {8, []int{0, 2}}, {8, []int{0, 3}},
	}
	count := 0
	path := make([]int, depth)
	for {
		c := newChecker()
		var err error
		for _, n := range path {
			args := ops[n].args
			err = c.act(ops[n].act, func(bound int) int {
				if len(args) == 0 {
					return 0
				}
				a := args[0]
				args = args[1:]
				return a % bound
			})
			if err != nil {
				t.Fatalf("%v\n%v", err, c.trace)
			}
		}
		if count%97 == 0 { // the end of all things costs ten times the rest
			if err := c.settle(); err != nil {
				t.Fatalf("%v\n%v", err, c.trace)
			}
		}
		count++
		i := len(path) - 1
		for ; i >= 0; i-- {
			if path[i]++; path[i] < len(ops) {
				break
			}
			path[i] = 0
		}
		if i < 0 {
			break
		}
	}
	t.Logf("%d histories", count)
}

func TestStateText(t *testing.T) {
	for s := State(0); s <= Lost; s++ {
		b, _ := s.MarshalText()
		var back State
		if err := back.UnmarshalText(b); err != nil || back != s {
			t.Errorf("%v came back as %v, %v", s, back, err)
		}
	}
	var s State
	if s.UnmarshalText([]byte("dead")) == nil {
		t.Error("a state called dead")
	}
	if !slices.Contains(stateNames[:], "suspect") {
		t.Error("no suspect")
	}
}
