package members

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

func kinds(n int) Request {
	return Request{Name: fmt.Sprint("n", n), Life: uint64(n), Labels: map[string]string{"b": "2", "a": "1"}, Kinds: []string{"x"}, Rev: 3, Load: Load{InFlight: 7}}
}

// taken is the roster of what a machine decided.
func taken(r *Roster, effects []Effect) {
	c := checker{roster: *r}
	c.keep(effects)
	*r = c.roster
}

// Another machine goes on where the one before was: numbers, names, kinds, and a whole time-to-live for each.
func TestRoster_AnotherGoesOn(t *testing.T) {
	now, cfg := epoch, Config{TTL: time.Second}
	m, r := New(cfg, now), &Roster{}
	for n := range 3 {
		_, effects, err := m.Join(now, kinds(n+1))
		if err != nil {
			t.Fatal(err)
		}
		taken(r, effects)
	}
	now = now.Add(200 * time.Millisecond)
	taken(r, m.Leave(now, 3, m.lives[3].m.Incarnation))
	version, incarnation := m.Version(), m.lives[2].m.Incarnation

	now = now.Add(time.Hour) // nobody was the writer
	m = From(cfg, now, r)
	if m.Version() != version {
		t.Fatalf("version %d goes on as %d", version, m.Version())
	}
	if _, effects, err := m.Beat(now, 2, incarnation, Load{}); err != nil || len(effects) != 0 {
		t.Fatalf("a beat is answered %v, with %v", err, effects)
	}
	if _, _, err := m.Beat(now, 3, m.lives[3].m.Incarnation, Load{}); err == nil {
		t.Error("who left beats")
	}
	if _, effects, _ := m.SetKinds(now, 2, incarnation, []string{"y"}, 3); len(effects) != 0 {
		t.Error("an old revision of the kinds was taken")
	}
	var lost []uint64
	for range 12 {
		now = now.Add(100 * time.Millisecond)
		if _, _, err := m.Beat(now, 2, incarnation, Load{}); err != nil {
			t.Fatal(err)
		}
		for _, e := range m.Tick(now) {
			c, ok := e.(Changed)
			if !ok {
				continue
			}
			if version++; c.Version != version {
				t.Errorf("change %d after %d", c.Version, version-1)
			}
			if c.Member.State == Lost {
				lost = append(lost, c.Member.Life)
				if silent := now.Sub(epoch.Add(200*time.Millisecond + time.Hour)); silent < time.Second {
					t.Errorf("lost after %v", silent)
				}
			}
		}
	}
	if fmt.Sprint(lost) != "[1]" {
		t.Errorf("lost are %v", lost)
	}
	if n, _, err := m.Join(now, kinds(9)); err != nil || n.Incarnation <= incarnation {
		t.Errorf("incarnation %d after %d, %v", n.Incarnation, incarnation, err)
	}
}

// Those that do not beat to a machine that goes on have Grace more, those that did have not.
func TestRoster_Grace(t *testing.T) {
	now := epoch
	m, r := New(Config{TTL: time.Second}, now), &Roster{}
	for n := range 2 {
		_, effects, _ := m.Join(now, kinds(n+1))
		taken(r, effects)
	}
	m = From(Config{TTL: time.Second, Grace: 500 * time.Millisecond}, now, r)
	if _, _, err := m.Beat(now, 1, m.lives[1].m.Incarnation, Load{}); err != nil {
		t.Fatal(err)
	}
	at := map[uint64]time.Duration{}
	for len(at) < 2 && now.Sub(epoch) < time.Minute {
		now = now.Add(50 * time.Millisecond)
		for _, e := range m.Tick(now) {
			if c, ok := e.(Changed); ok && c.Member.State == Lost {
				at[c.Member.Life] = now.Sub(epoch)
			}
		}
	}
	if at[1] != time.Second || at[2] != 1500*time.Millisecond {
		t.Errorf("lost after %v", at)
	}
}

// What was raised and not answered is raised again, and the one who joins is not alive before: also when nobody is left who could be asked.
func TestRoster_WhatWasRaisedIsRaisedAgain(t *testing.T) {
	now, cfg := epoch, Config{TTL: time.Second}
	m, r := New(cfg, now), &Roster{}
	handler := kinds(1)
	handler.Kinds = []string{KindJoin, KindLost}
	_, effects, _ := m.Join(now, handler)
	taken(r, effects)
	_, effects, _ = m.Join(now, kinds(2))
	taken(r, effects)
	taken(r, m.Admit(now, 2, m.lives[2].m.Incarnation, 1))
	_, effects, _ = m.Join(now, kinds(3)) // its init event runs
	taken(r, effects)
	for range 10 {
		now = now.Add(100 * time.Millisecond)
		for _, life := range []uint64{1, 3} {
			_, effects, _ = m.Beat(now, life, m.lives[life].m.Incarnation, Load{})
			taken(r, effects)
		}
		taken(r, m.Tick(now)) // life 2 is lost, and that is told
	}
	raised := ""
	m = From(cfg, now, r)
	for _, e := range m.Tick(now) {
		switch e := e.(type) {
		case NeedInit:
			raised += fmt.Sprint(" init ", e.Member.Life, " on ", e.Handler.Life)
		case RaiseLost:
			raised += fmt.Sprint(" loss ", e.Member.Life, " to ", e.Handler.Life)
		}
	}
	if raised != " init 3 on 1 loss 2 to 1" {
		t.Errorf("raised again:%s", raised)
	}
	taken(r, m.LossTold(now, 2, m.lives[2].m.Incarnation))
	taken(r, m.Leave(now, 1, m.lives[1].m.Incarnation))
	m = From(cfg, now, r)
	if effects := m.Tick(now); len(effects) != 0 {
		t.Errorf("nobody handles anything, and there is %v", effects)
	}
	if m.lives[3].m.State != Joining {
		t.Errorf("it is %v without its init event", m.lives[3].m.State)
	}
}

// Who missed some changes is given them, as long as they are not too many.
func TestRoster_Since(t *testing.T) {
	m, r := New(Config{}, epoch), &Roster{}
	if all, ok := r.Since(0); len(all) != 0 || !ok {
		t.Errorf("%v, %v", all, ok)
	}
	_, effects, _ := m.Join(epoch, kinds(1))
	taken(r, effects)
	inc, first := m.lives[1].m.Incarnation, r.Version()
	for rev := range uint64(maxRecent) {
		_, effects, _ := m.SetKinds(epoch, 1, inc, []string{fmt.Sprint("k", rev)}, 4+rev)
		taken(r, effects)
	}
	all, ok := r.Since(first)
	if !ok || len(all) != maxRecent || all[0].Version != first+1 || all[maxRecent-1].Version != r.Version() {
		t.Errorf("%d changes, %v", len(all), ok)
	}
	if _, ok := r.Since(first - 1); ok {
		t.Error("what is forgotten is given")
	}
	if _, ok := r.Since(r.Version() + 1); ok {
		t.Error("what has not been is given")
	}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("%0200d", i))
	}
	for rev := range uint64(20) {
		_, effects, _ := m.SetKinds(epoch, 1, inc, append(slices.Clone(many), fmt.Sprint(rev)), 1000+rev)
		taken(r, effects)
	}
	if r.weight > maxRecentWeight || len(r.recent) == 0 {
		t.Errorf("%d changes of %d bytes are kept", len(r.recent), r.weight)
	}
}

// Decisions that are not the next, or none at all, change nothing.
func TestRoster_TakesTheNextOnly(t *testing.T) {
	m, r := New(Config{}, epoch), &Roster{}
	_, effects, _ := m.Join(epoch, kinds(1))
	c := effects[0].(Changed)
	r.Apply(&Decisions{Changes: []Changed{c}})
	was := r.AppendBinary(nil)
	again, ahead, nobody, stateless := c, c, c, c
	ahead.Version += 2
	nobody.Version++
	nobody.Member.Life = 0
	stateless.Version++
	stateless.Member.State = 0
	r.Apply(&Decisions{Changes: []Changed{again, ahead, nobody, stateless}, Told: []Told{{Life: 9}}})
	if got := r.AppendBinary(nil); !bytes.Equal(got, was) {
		t.Errorf("%s became %s", was, got)
	}
	if m := r.Members()[0]; m.Load.InFlight != 0 {
		t.Error("a load is kept")
	}
}

// The bytes of a roster give one that has the same bytes; others an error or a roster, and no panic.
func FuzzRoster(f *testing.F) {
	m, r := New(Config{TTL: time.Second}, epoch), &Roster{}
	_, effects, _ := m.Join(epoch, kinds(1))
	taken(r, effects)
	f.Add(r.AppendBinary(nil))
	f.Add([]byte(`{"version":1,"lives":[{"version":1,"member":{"life":1,"state":"lost"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Roster
		if r.Restore(b) != nil {
			return
		}
		once := r.AppendBinary(nil)
		if err := r.Restore(once); err != nil || !bytes.Equal(r.AppendBinary(nil), once) {
			t.Fatalf("%s: %v", once, err)
		}
		From(Config{}, epoch, &r).Tick(epoch)
	})
}
