package shared_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/shared"
)

type note struct{ From, Seq int }

// Every subscriber hears every message, all in one order, that of a publisher included.
func TestTopic_OneOrderForAll(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		const each = 100
		var subs []*shared.Subscription[note]
		for i := range 6 {
			s, err := shared.NewTopic[note](nodes[i%3], "t").Subscribe(ctx, 3*each)
			must(t, err)
			defer s.Close()
			subs = append(subs, s)
		}
		var wg sync.WaitGroup
		for i, n := range nodes {
			topic := shared.NewTopic[note](n, "t")
			wg.Go(func() {
				for k := range each {
					if heard, err := topic.Publish(ctx, note{i, k}); heard != 6 || err != nil {
						t.Errorf("%d heard, %v", heard, err)
						return
					}
				}
			})
		}
		all := make([][]shared.Message[note], len(subs))
		for i, s := range subs {
			wg.Go(func() {
				for m, err := range s.All(ctx) {
					if err != nil {
						t.Error(err)
						return
					}
					if all[i] = append(all[i], m); len(all[i]) == 3*each {
						return
					}
				}
			})
		}
		wg.Wait()
		next := [3]int{}
		for i, m := range all[0] {
			if m.Value.Seq != next[m.Value.From] {
				t.Fatalf("%+v, want number %d of it", m, next[m.Value.From])
			}
			next[m.Value.From]++
			if m.Number != all[0][0].Number+uint64(i) || m.Publisher == 0 {
				t.Fatalf("message %d: %+v", i, m)
			}
		}
		for i := range all {
			if !slices.Equal(all[i], all[0]) {
				t.Errorf("subscriber %d heard another order", i)
			}
		}
	})
}

// A subscriber that does not read is cut off after its buffer, and holds up nobody (L12).
func TestTopic_L12_SlowOneIsCutOff(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		slow, err := shared.NewTopic[int](nodes[1], "t").Subscribe(ctx, 10)
		must(t, err)
		good, err := shared.NewTopic[int](nodes[2], "t").Subscribe(ctx, 100)
		must(t, err)
		defer good.Close()
		topic := shared.NewTopic[int](nodes[0], "t")
		for i := range 100 {
			_, err := topic.Publish(ctx, i)
			must(t, err)
		}
		for i := range 100 {
			if m, err := good.Next(ctx); m.Value != i || err != nil {
				t.Fatal(i, m, err)
			}
		}
		for i := range 10 {
			if m, err := slow.Next(ctx); m.Value != i || err != nil {
				t.Fatal(i, m, err)
			}
		}
		for range 2 {
			_, err := slow.Next(ctx)
			is(t, "cut off", err, shared.ErrSlow)
		}
		slow.Close()
		for heard := 2; heard != 1; { // the hub knows of it soon
			heard, err = topic.Publish(ctx, 0)
			must(t, err)
		}
	})
}

func TestTopic_Ends(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		topic := shared.NewTopic[int](nodes[0], "t")
		if heard, err := topic.Publish(ctx, 1); heard != 0 || err != nil {
			t.Error(heard, err)
		}
		s, err := shared.NewTopic[int](nodes[1], "t").Subscribe(ctx, 0)
		must(t, err)
		_, err = s.Next(brief(t, 20))
		is(t, "context", err, context.DeadlineExceeded)
		_, err = topic.Publish(ctx, 2)
		must(t, err)
		if m, err := s.Next(ctx); m.Value != 2 || err != nil { // and not 1
			t.Error(m, err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for m, err := range s.All(ctx) {
				t.Error("after Close:", m, err)
			}
		}()
		s.Close()
		s.Close()
		<-ended
		_, err = s.Next(ctx)
		is(t, "closed", err, shared.ErrClosed)

		s, err = topic.Subscribe(ctx, 0)
		must(t, err)
		_, err = shared.NewTopic[string](nodes[1], "t").Publish(ctx, "two")
		must(t, err)
		_, err = shared.NewTopic[int](nodes[1], "t").Publish(ctx, 3)
		must(t, err)
		_, err = s.Next(ctx)
		is(t, "another type", err, shared.ErrMismatch)
		if m, err := s.Next(ctx); m.Value != 3 || err != nil {
			t.Error(m, err)
		}
		_, err = topic.Publish(ctx, 4)
		must(t, err)
		must(t, shared.NewTopic[int](nodes[2], "t").Destroy(ctx))
		if m, err := s.Next(ctx); m.Value != 4 || err != nil { // what was before the end is heard
			t.Error(m, err)
		}
		_, err = s.Next(ctx)
		is(t, "destroyed", err, shared.ErrDestroyed)
		s, err = shared.NewTopic[int](nodes[2], "t").Subscribe(ctx, 0)
		must(t, err)
		s.Close()

		if nodes[0] == nodes[1] {
			return // alone nothing is encoded
		}
		_, err = shared.NewTopic[[]byte](nodes[1], "large").Publish(ctx, make([]byte, 1<<20))
		is(t, "too large", err, shared.ErrInvalid)
		_, err = shared.NewTopic[func()](nodes[2], "functions").Publish(ctx, func() {})
		is(t, "no encoding", err, shared.ErrInvalid)
	})
}

// Candidates lead one at a time, under tokens that grow, and all see the same leaders.
func TestElection_OneLeaderAtATime(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		var guard sync.Mutex
		var last shared.Token
		var led []shared.Leader
		var wg sync.WaitGroup
		for i := range 6 {
			e := shared.NewElection(nodes[i%3], "e")
			wg.Go(func() {
				for k := range 20 {
					value := fmt.Sprint(i, "/", k)
					err := e.Do(ctx, value, func(ctx context.Context, token shared.Token) error {
						if !guard.TryLock() {
							return errors.New("two lead")
						}
						defer guard.Unlock()
						if token <= last {
							t.Errorf("token %d after %d", token, last)
						}
						last = token
						led = append(led, shared.Leader{Value: value, Token: token})
						if now, err := e.Leader(ctx); now != led[len(led)-1] || err != nil {
							t.Errorf("%+v, %v, want %+v", now, err, led[len(led)-1])
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if len(led) != 120 {
			t.Errorf("%d led", len(led))
		}
		for l, err := range shared.NewElection(nodes[0], "e").Observe(ctx) {
			must(t, err)
			if l == (shared.Leader{}) {
				break // Resign does not wait
			}
		}
	})
}

func TestElection_Observe(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b, c := shared.NewElection(nodes[0], "e"), shared.NewElection(nodes[1], "e"), shared.NewElection(nodes[2], "e")
		seen := make(chan shared.Leader)
		end := make(chan error, 1)
		watching, stop := context.WithCancelCause(ctx)
		go func() {
			for l, err := range c.Observe(watching) {
				if err != nil {
					end <- err
					return
				}
				seen <- l
			}
		}()
		if l := <-seen; l != (shared.Leader{}) {
			t.Error(l)
		}
		first, err := a.Campaign(ctx, "a")
		must(t, err)
		if l := <-seen; l != (shared.Leader{Value: "a", Token: first.Token()}) {
			t.Error(l)
		}
		if _, ok, err := b.TryCampaign(ctx, "b"); ok || err != nil {
			t.Error(ok, err)
		}
		_, err = b.Campaign(brief(t, 20), "b")
		is(t, "context", err, context.DeadlineExceeded)
		must(t, first.Resign())
		is(t, "again", first.Resign(), shared.ErrNotHeld)
		<-first.Lost()
		if l := <-seen; l != (shared.Leader{}) {
			t.Error(l)
		}
		second, ok, err := b.TryCampaign(ctx, "b")
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if l := <-seen; l != (shared.Leader{Value: "b", Token: second.Token()}) {
			t.Error(l)
		}
		stop(errBoom)
		is(t, "end", <-end, errBoom)

		go func() {
			for l, err := range c.Observe(ctx) {
				if err != nil {
					end <- err
					return
				}
				seen <- l
			}
		}()
		if l := <-seen; l.Value != "b" {
			t.Error(l)
		}
		lost := second.Lost()
		must(t, a.Destroy(ctx))
		<-lost
		is(t, "resign of what was destroyed", second.Resign(), shared.ErrDestroyed)
		is(t, "observe of what was destroyed", <-end, shared.ErrDestroyed)
		for l, err := range a.Observe(ctx) {
			if l != (shared.Leader{}) || err != nil {
				t.Error(l, err)
			}
			break
		}
	})
}

// More is published than the node of many subscribers can hear: they hear it, or are cut off and told, each behind
// what it heard in order; nobody's session is lost over it.
func TestTopic_L12_ANodeIsFlooded(t *testing.T) {
	c := geartest.StartCluster(t, geartest.Nodes{Count: 2})
	from, to := c.Node(c.Name(0)), c.Node(c.Name(1))
	const subscribers, publishers, each = 6, 24, 8
	var wg sync.WaitGroup
	for range subscribers {
		s, err := shared.NewTopic[[]byte](to, "t").Subscribe(t.Context(), publishers*each)
		must(t, err)
		wg.Go(func() {
			defer s.Close()
			for i := range publishers * each {
				m, err := s.Next(t.Context())
				if errors.Is(err, shared.ErrSlow) {
					return
				}
				if err != nil || m.Number != uint64(i)+1 || len(m.Value) != 300<<10 {
					t.Errorf("message %d is number %d: %v", i+1, m.Number, err)
					return
				}
			}
		})
	}
	was := map[*distgear.Node]machine.Session{}
	for _, n := range []*distgear.Node{from, to} {
		_, err := shared.NewTopic[[]byte](n, "other").Publish(t.Context(), nil)
		must(t, err)
		was[n], _ = n.Room().Ledger.Session()
	}
	for range publishers {
		wg.Go(func() {
			for range each {
				if _, err := shared.NewTopic[[]byte](from, "t").Publish(t.Context(), make([]byte, 300<<10)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for n, id := range was {
		roundTrips(t, n)
		if now, ok := n.Room().Ledger.Session(); !ok || now != id {
			t.Errorf("the session of %s is lost", n.Name())
		}
	}
}
