package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/operation"
)

// TestObject_Close: what was closed is refused, the ledger has forgotten it, and its number rests before it is another's.
func TestObject_Close(t *testing.T) {
	_, s := newDesk(t)
	for what, c := range map[string]*client.Client{"cluster": join(t, s, 10*time.Second), "alone": client.Alone()} {
		t.Run(what, func(t *testing.T) {
			if what == "alone" {
				defer c.Close()
			}
			const rest = 1024
			last := map[uint64]int{} // number → when it was closed
			for i := range 3 * rest {
				o := c.Object(operation.KCounter, fmt.Sprint("n", i), 0, nil)
				if at, ok := last[o.Handle()]; ok && i-at < rest {
					t.Fatalf("number %d is used again after %d others", o.Handle(), i-at)
				}
				if i%5 > 0 { // the others are never opened
					a, err := o.Do(t.Context(), add(1), false)
					if err != nil || a.Num != 1 {
						t.Fatalf("%d: the counter is %d, %v: its handle was kept", i, a.Num, err)
					}
				}
				of, _ := c.Session()
				o.Close()
				o.Close()
				last[o.Handle()] = i
				if _, err := o.Do(t.Context(), add(1), false); !errors.Is(err, client.ErrGone) {
					t.Fatal(err)
				}
				if _, err := o.Start(of, nil, add(1)); of != 0 && !errors.Is(err, client.ErrGone) {
					t.Fatal(err)
				}
			}
			if len(last) > rest+3 { // a close or two may not be answered yet
				t.Errorf("%d numbers are in use", len(last))
			}
		})
	}
}

// TestObject_CloseIsAnswered: what the ledger says of an object that was closed, and did not know yet, is not taken
// for something about the next one that has its number.
func TestObject_CloseIsAnswered(t *testing.T) {
	d, s := newDesk(t)
	c := join(t, s, 10*time.Second)
	old := c.Object(operation.KCounter, "old", 0, nil)
	if _, err := old.Do(t.Context(), add(1), false); err != nil {
		t.Fatal(err)
	}
	const other = 77
	entry := operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryOps, Session: other, First: 1})
	entry = operation.AppendOp(entry, &operation.Op{Verb: operation.VOpen, Handle: 1, A: uint64(operation.KCounter), Key: []byte("old")})
	entry = operation.AppendOp(entry, &operation.Op{Verb: operation.VDestroy, Handle: 1})
	d.mu.Lock() // the hub hears nothing of this client
	old.Close()
	for i := range 1024 { // its number has rested then
		c.Object(operation.KCounter, fmt.Sprint("n", i), 0, nil).Close()
	}
	next := make([]*client.Object, 50)
	for i := range next {
		next[i] = c.Object(operation.KCounter, fmt.Sprint("next", i), 0, nil)
	}
	now := time.Now().UnixMilli()
	d.shard.Apply(now, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryOpen, Session: other, TTL: 10_000, Name: []byte("other")}))
	d.shard.Apply(now, entry)
	d.shard.Cut().Release()
	d.mu.Unlock()
	for _, o := range next {
		if a, err := o.Do(t.Context(), add(1), false); err != nil || a.Num != 1 || o.Gone() {
			t.Errorf("%s, number %d: %d, %v, gone: %t", o.Name(), o.Handle(), a.Num, err, o.Gone())
		}
	}
}
