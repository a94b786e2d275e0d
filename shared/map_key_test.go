package shared_test

import (
	"errors"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// lower encodes itself as something else than it is.
type lower string

func (lower) MarshalText() ([]byte, error) { return []byte("x"), nil }

func (l *lower) UnmarshalText(b []byte) error {
	*l = lower(b)
	return nil
}

func TestMap_KeysThatAreNotFoundAgain(t *testing.T) {
	type inner struct{ v any }
	type outer struct {
		A int
		i inner
	}
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx, n := t.Context(), nodes[0]
		invalid := func(err error) {
			t.Helper()
			if !errors.Is(err, shared.ErrInvalid) {
				t.Fatal(err)
			}
		}
		_, _, err := shared.NewMap[any, int](n, "any").Load(ctx, []int{1}) // which a Go map would panic for
		invalid(err)
		_, _, err = shared.NewMap[outer, int](n, "outer").Load(ctx, outer{i: inner{[]int{1}}})
		invalid(err)
		_, _, err = shared.NewMap[any, int](n, "any").Compute(ctx, 1, nil)
		invalid(err)
		texts := shared.NewMap[lower, int](n, "texts")
		invalid(texts.Store(ctx, "y", 1))
		if err := texts.Store(ctx, "x", 1); err != nil {
			t.Fatal(err)
		}
		times := shared.NewMap[time.Time, int](n, "times")
		invalid(times.Store(ctx, time.Now(), 1)) // has the monotonic clock
		day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
		if err := times.Store(ctx, day, 1); err != nil {
			t.Fatal(err)
		}
		wantLoad(t, shared.NewMap[time.Time, int](nodes[1], "times"), day, 1, true)
		grid := shared.NewMap[[2]int, int](n, "grid")
		if err := grid.Store(ctx, [2]int{1, 2}, 3); err != nil {
			t.Fatal(err)
		}
		wantLoad(t, shared.NewMap[[2]int, int](nodes[1], "grid"), [2]int{1, 2}, 3, true)
	})
}
