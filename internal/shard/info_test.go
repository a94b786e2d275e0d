package shard

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine/locks"
	"github.com/distgear/distgear/internal/operation"
)

func open(handle uint64, name string, kind operation.Kind, param uint64) operation.Op {
	return operation.Op{Verb: operation.VOpen, Handle: handle, Req: handle, A: uint64(kind), B: param, Key: []byte(name)}
}

func on(handle uint64, op operation.Op) operation.Op {
	op.Handle, op.Req = handle, 1
	return op
}

// TestPage_TellsWhatThereIs: holders, places, lengths and who waits.
func TestPage_TellsWhatThereIs(t *testing.T) {
	w := newWorld()
	w.Apply(10, opening(1))
	w.Apply(10, opening(2))
	want := operation.LockOp(locks.Op{Verb: locks.DoWant, Mode: locks.Write})
	w.Apply(20, entry(1, 1, 0, open(1, "l", operation.KLock, 0), on(1, want), open(2, "q", operation.KQueue, 2), on(2, operation.Op{Verb: operation.VPut, Val: []byte("x")}), on(2, operation.Op{Verb: operation.VPut}), on(2, operation.Op{Verb: operation.VPut})))
	w.Apply(30, entry(2, 1, 0, open(1, "l", operation.KLock, 0), on(1, want), open(2, "c", operation.KCounter, 0), on(2, operation.Op{Verb: operation.VCounterAdd, A: 7})))
	get := func(what string) look.Page {
		p, ok := w.Page(look.Query{What: what})
		if !ok || p.Next != "" || p.Now != 30 {
			t.Fatalf("%s: %v %+v", what, ok, p)
		}
		return p
	}
	ls := get(look.Locks).Locks
	if len(ls) != 1 || len(ls[0].Holders) != 1 || len(ls[0].Queue) != 1 || ls[0].Queued != 1 || ls[0].Contentions != 1 {
		t.Fatalf("%+v", ls)
	}
	if h, q := ls[0].Holders[0], ls[0].Queue[0]; h.Node != "n1" || h.Since != 20 || h.Mode != "write" || h.Token == 0 || !h.Recalled || q.Node != "n2" || q.Since != 30 {
		t.Errorf("%+v %+v", h, q)
	}
	if qs := get(look.Queues).Queues; len(qs) != 1 || qs[0] != (look.QueueState{Name: "q", Length: 2, Capacity: 2, Putters: 1}) {
		t.Errorf("%+v", qs)
	}
	os := get(look.Objects).Objects
	if len(os) != 3 || os[0].Kind != "counter" || os[0].Value != 7 || os[1].Open != 2 || !slices.Equal(os[1].Nodes, []string{"n1", "n2"}) || os[2].Entries != 2 || os[2].Waiting != 1 {
		t.Errorf("%+v", os)
	}
	if ss := get(look.Sessions).Sessions; len(ss) != 2 || ss[0].Node != "n1" || ss[0].Open != 2 || ss[0].Unacked == 0 || ss[0].TTL != 1000 {
		t.Errorf("%+v", ss)
	}
	if _, ok := w.Page(look.Query{What: "secrets"}); ok {
		t.Error("there is no such thing")
	}
}

// TestPage_ManyNamesComeInPages: all of them, once each, in order, no page too
// large.
func TestPage_ManyNamesComeInPages(t *testing.T) {
	w := newWorld()
	w.Apply(1, opening(1))
	const n = 2500
	for i := range uint64(n) {
		w.Apply(1, entry(1, i+1, i, open(i+1, fmt.Sprintf("%s-%04d", strings.Repeat("x", 200), (i*7)%n), operation.KCounter, 0)))
	}
	w.Apply(1, entry(1, n+1, n, open(n+1, "other", operation.KCounter, 0)))
	var names []string
	q := look.Query{What: look.Objects, Prefix: "xx", Limit: 1000}
	for pages := 1; ; pages++ {
		p, ok := w.Page(q)
		if b, err := json.Marshal(p); !ok || err != nil || len(b) > 2*look.MaxPage || len(p.Objects) == 0 {
			t.Fatal(ok, err, len(b))
		}
		for _, o := range p.Objects {
			names = append(names, o.Name)
		}
		if q.After = p.Next; q.After == "" {
			if pages < 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(names) != n || !slices.IsSorted(names) || len(slices.Compact(names)) != n {
		t.Errorf("%d names", len(names))
	}
	if p, _ := w.Page(look.Query{What: look.Objects, Prefix: "xx", Limit: n}); len(p.Objects) == 0 || len(p.Objects) > maxListed {
		t.Error(len(p.Objects))
	}
}

func BenchmarkPage_OfAMillion(b *testing.B) {
	s := New(Config{})
	s.Apply(1, opening(1))
	for i := range uint64(1_000_000) {
		s.Apply(1, entry(1, i+1, i, open(i+1, fmt.Sprint("lock-", i), operation.KLock, 0)))
	}
	for b.Loop() {
		s.Page(look.Query{What: look.Locks})
	}
}
