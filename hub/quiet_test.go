package hub_test

import (
	"testing"
	"time"

	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
)

// leases is a sink that passes on what a worker is to run.
type leases struct{ c chan uint64 } // the epochs; 4: there is one task, leased twice

func (l leases) Event(o *operation.Output) {
	if tasks.Code(o.Aux) == tasks.Run {
		if g, err := words.ParseGrant(o.Num, o.Val); err == nil {
			l.c <- uint64(g.Epoch)
		}
	}
}

func (leases) Lost() {}

// A worker that is not heard of loses what it has long before its session ends.
func TestDesk_AQuietWorkersTaskGoesToAnother(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	conn, err := engine.Dial(within(t), engine.ConnConfig{URLs: h.URL(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	const dumb = machine.Session(99) // a session that says what follows, and no more
	say := func(e operation.Entry, ops ...operation.Op) {
		e.Session = dumb
		b := operation.AppendEntry(nil, &e)
		for i := range ops {
			b = operation.AppendOp(b, &ops[i])
		}
		if err := conn.Publish(client.EntrySubject(h.Prefix()), b); err != nil {
			t.Fatal(err)
		}
	}
	heard := make(chan struct{}, 4) // opened, and each of two operations
	stop, err := conn.Subscribe(client.FrameSubject(h.Prefix(), dumb), func(b []byte) {
		f, err := operation.ParseFrame(b)
		if err == nil && (f.Applied == 2 || f.Applied == 3) {
			heard <- struct{}{}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	offer := words.AppendOffer(nil, &tasks.Offer{Slots: 1})
	say(operation.Entry{Type: operation.EntryOpen, TTL: 60_000, Name: []byte("dumb")})
	say(operation.Entry{Type: operation.EntryAsk, First: 1},
		operation.Op{Verb: operation.VOpen, Handle: 1, A: uint64(operation.KExecutor), Key: []byte("x")}, operation.Op{Verb: operation.VWork, Handle: 1, Req: 2, Val: offer})
	await(t, heard)
	spec := words.AppendSpec(nil, &tasks.Spec{ID: "a", Kind: "k", Idempotent: true}, nil, nil)
	say(operation.Entry{Type: operation.EntryOps, First: 3}, operation.Op{Verb: operation.VSubmit, Handle: 1, Req: 3, Val: spec})
	await(t, heard)
	began := time.Now()

	c := client.New(client.Config{Conn: conn, Prefix: h.Prefix(), Name: "n", TTL: 60 * time.Second, Logger: quiet()})
	t.Cleanup(c.Close)
	c.Busy(1)
	got := leases{make(chan uint64, 4)}
	o := c.Object(operation.KExecutor, "x", 0, got)
	if _, err := o.Do(within(t), operation.Op{Verb: operation.VWork, Val: offer}, false); err != nil {
		t.Fatal(err)
	}
	select {
	case epoch := <-got.c:
		if took := time.Since(began); epoch != 2 || took < time.Second || took > 10*time.Second {
			t.Fatalf("lease %d after %v", epoch, took)
		}
	case <-within(t).Done():
		t.Fatal("the task stays with a worker that nobody hears of")
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-within(t).Done():
		t.Fatal("nothing is heard")
	}
}
