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
			if len(last) > rest+1 {
				t.Errorf("%d numbers are in use", len(last))
			}
		})
	}
}
