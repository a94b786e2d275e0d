package hub

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/wire"
)

// TestSweep: what a task refers to stays; what none does goes, when it is old enough.
func TestSweep(t *testing.T) {
	h, err := Start(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	c := client.New(client.Config{Conn: h.conn, Prefix: h.Prefix(), Name: "a", TTL: 5 * time.Second})
	defer c.Close()
	ctx := t.Context()
	store := c.Store()
	o := c.Object(operation.KExecutor, "ex", 0, nil)
	put := func(id, what string) wire.Ref {
		t.Helper()
		ref := wire.Ref{Name: wire.TaskObject("ex", id, what), Size: 3}
		if _, err := o.Open(ctx); err != nil { // the ledger stands
			t.Fatal(err)
		}
		if err := store.Put(ctx, ref.Name, []byte("abc")); err != nil {
			t.Fatal(err)
		}
		return ref
	}
	ref := put("task", "in-1")
	put("task", "in-2") // of a submission that was known already
	put("nobody", "in-1")
	spec := tasks.Spec{ID: "task", Kind: "k"}
	a, err := o.Do(ctx, operation.Op{Verb: operation.VSubmit, Val: words.AppendSpec(nil, &spec, nil, wire.AppendRef(nil, ref))}, false)
	if err != nil || a.Code != machine.OK {
		t.Fatal(a, err)
	}
	s := &sweeper{d: h.desk, store: store, known: map[string]bool{}}
	names := func() (all []string) {
		t.Helper()
		infos, err := store.List(context.WithoutCancel(ctx))
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			all = append(all, i.Name)
		}
		slices.Sort(all)
		return all
	}
	now := time.Now()
	for _, step := range []struct {
		after time.Duration
		left  []string
	}{
		{0, []string{wire.TaskObject("ex", "nobody", "in-1"), ref.Name, wire.TaskObject("ex", "task", "in-2")}},
		{sweepAge + time.Minute, []string{wire.TaskObject("ex", "nobody", "in-1"), ref.Name}},
		{orphanAge + time.Minute, []string{ref.Name}},
	} {
		if err := s.once(ctx, now.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if got := names(); !slices.Equal(got, step.left) {
			t.Errorf("after %v: %q, want %q", step.after, got, step.left)
		}
	}
	if a, err = o.Do(ctx, operation.Op{Verb: operation.VDestroy}, false); err != nil || a.Code != machine.OK {
		t.Fatal(a, err)
	}
	if err := s.once(ctx, now.Add(sweepAge+time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := names(); len(got) > 0 {
		t.Errorf("left of an executor that is gone: %q", got)
	}
}
