package crash_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest/crash"
)

// Transfer moves money from one account to another.
type Transfer struct {
	From, To string
	Cents    int
}

// bank has accounts, and remembers by its key what was booked.
type bank struct {
	cents  map[string]int
	booked map[string]bool
}

// book books an amount once; undo takes back what was booked, if it was.
func (b *bank) book(key, account string, cents int) {
	if !b.booked[key] {
		b.booked[key], b.cents[account] = true, b.cents[account]+cents
	}
}

func (b *bank) undo(key, account string, cents int) {
	if b.booked[key] {
		b.booked[key], b.cents[account] = false, b.cents[account]-cents
	}
}

// testTransfer is what a test of the event transfer does: func TestTransfer(t *testing.T).
func testTransfer(t *testing.T) {
	crash.Everywhere(t, func(t *testing.T) crash.Case[Transfer, int] {
		b := &bank{cents: map[string]int{"ann": 100}, booked: map[string]bool{}}
		step := func(name string, account func(x Transfer) string, sign int) *distgear.Action[Transfer, int] {
			return &distgear.Action[Transfer, int]{
				Name: name,
				Do: func(ctx context.Context, x Transfer) (int, error) {
					if account(x) == "nobody" {
						return 0, distgear.Permanent(distgear.Clean(fmt.Errorf("no account %s", account(x))))
					}
					b.book(name+" "+x.From+" "+x.To, account(x), sign*x.Cents)
					return b.cents[account(x)], nil
				},
				Undo: func(_ context.Context, d distgear.Did[Transfer, int]) error {
					b.undo(name+" "+d.In.From+" "+d.In.To, account(d.In), sign*d.In.Cents)
					return nil
				},
				Idempotent: true, Retries: 2,
			}
		}
		take := step("take", func(x Transfer) string { return x.From }, -1)
		give := step("give", func(x Transfer) string { return x.To }, +1)
		event := &distgear.Event[Transfer, int]{Name: "transfer", Durable: true, On: func(ctx context.Context, r *distgear.Run, x Transfer) (int, error) {
			p := distgear.Plan{Name: "transfer", Rollback: true}
			taken := take.Step(&p, distgear.Any(), x)
			give.Step(&p, distgear.Any(), x, taken)
			if err := r.Do(ctx, &p); err != nil {
				return 0, err
			}
			return taken.Result()
		}}
		return crash.Case[Transfer, int]{
			Event: event, Input: Transfer{"ann", "nobody", 30}, Steps: []distgear.Handler{take, give},
			Check: func(end crash.End[int]) {
				if end.Err == nil || b.cents["ann"] != 100 {
					t.Errorf("ann has %d cents, and the transfer says: %v", b.cents["ann"], end.Err)
				}
			},
		}
	})
}

// A transfer to nobody takes nothing, whoever dies in the middle of it.
func Example() {
	// go test calls testTransfer as TestTransfer.
}
