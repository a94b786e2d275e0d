package distgear_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/distgear/distgear"
)

// FuzzPlanValidation makes plans of bytes: names that are there twice, steps after steps of another plan or after none, labels
// that are none, kinds that nobody handles. A plan is run, each step once and after those that it comes after, or it is
// refused as invalid, and nothing of it was sent.
func FuzzPlanValidation(f *testing.F) {
	f.Add("a b c", []byte{0, 0, 0, 0, 1, 0, 0, 1, 1})
	f.Add("a a", []byte{0, 0, 0, 0, 1, 0})
	f.Add(" \x00 é/x", []byte{1, 0, 2, 3, 0, 1, 0, 4, 2, 0, 1})
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		names := strings.Split(text, " ")
		at := 0
		next := func(below int) int {
			if at >= len(b) {
				return 0
			}
			at++
			return int(b[at-1]) % below
		}
		ran := map[int]int{} // steps, and when
		op := &distgear.Action[int, int]{Name: "op", Do: func(_ context.Context, in int) (int, error) { return in, nil }}
		none := &distgear.Action[int, int]{Name: "none", Do: op.Do}
		var faulty bool
		e := &distgear.Event[int, int]{Name: "run", On: func(ctx context.Context, r *distgear.Run, _ int) (int, error) {
			p, other := distgear.Plan{Name: names[0]}, distgear.Plan{}
			stranger := op.Step(&other, distgear.Any(), 0)
			steps := make([]*distgear.Step[int], 1+next(6))
			after := make([][]int, len(steps))
			taken := map[string]bool{}
			for i := range steps {
				var deps []distgear.Dep
				for range next(4) {
					switch k := next(i + 6); {
					case k < i:
						deps, after[i] = append(deps, steps[k]), append(after[i], k)
					case k == i:
						deps, faulty = append(deps, stranger), true
					case k == i+1:
						var nobody *distgear.Step[int]
						deps, faulty = append(deps, nobody), true
					}
				}
				on, a := distgear.Any(), op
				switch next(8) {
				case 6:
					on, faulty = distgear.Any("=\n"), true
				case 7:
					a, faulty = none, true
				}
				steps[i] = a.Step(&p, on, i, deps...)
				if name := names[next(len(names))]; name != "" {
					steps[i].Named(name)
					faulty = faulty || taken[name]
					taken[name] = true
				}
			}
			err := r.Do(ctx, &p)
			for i := range steps {
				if _, bad := steps[i].Result(); bad == nil {
					ran[i]++
					for _, k := range after[i] {
						if _, bad := steps[k].Result(); bad != nil {
							t.Errorf("step %d is OK, and %d before it is not: %v", i, k, bad)
						}
					}
				}
			}
			return len(steps), err
		}}
		n, err := distgear.Join(t.Context(), distgear.Config{Name: "node-1", Handlers: []distgear.Handler{op, e}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := n.Leave(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}()
		fut, err := e.Raise(t.Context(), n, 0)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := fut.Wait(t.Context())
		switch {
		case err == nil && (faulty || len(ran) != steps):
			t.Errorf("faulty %v, and %d of %d steps ran", faulty, len(ran), steps)
		case err != nil && (!errors.Is(err, distgear.ErrInvalid) || len(ran) > 0):
			t.Errorf("%v, and %d steps ran", err, len(ran))
		}
	})
}
