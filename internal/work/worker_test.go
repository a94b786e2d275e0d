package work

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

var errEnough = errors.New("enough")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testRoom is a node without a network, whose handlers are functions.
func testRoom(t testing.TB) *room.Room {
	r := &room.Room{Node: "a"}
	r.Works = room.Works{
		Pool: runner.New(), Hold: func() bool { return true }, Free: func() {}, Valid: func() bool { return true },
		Serve: func(ctx context.Context, _ *runner.Context, h any, _ *wire.Command, _ string) wire.Report {
			h.(func(context.Context))(ctx)
			return wire.Report{Outcome: wire.OK, Over: true}
		},
	}
	t.Cleanup(r.Pool.Close)
	return r
}

// reports notes what became of attempts.
type reports struct {
	mu   sync.Mutex
	all  []wire.Report
	told chan struct{} // as many as a test has attempts
}

func (r *reports) Reported(_ *Attempt, rep *wire.Report) {
	r.mu.Lock()
	r.all = append(r.all, *rep)
	r.mu.Unlock()
	r.told <- struct{}{}
}

func (r *reports) Advanced(*Attempt, int64, int64) {}

func attempt(to Reporter) *Attempt {
	return &Attempt{Context: &runner.Context{}, Kind: "x", From: "b", To: to}
}

// An attempt of an action that the worker does not have never ran, and the report
// says what to do.
func TestWorkerWithoutTheAction(t *testing.T) {
	to := &reports{told: make(chan struct{}, 1)}
	w := NewWorker(testRoom(t), 1, map[string]any{"x": func(context.Context) {}}, false)
	a := attempt(to)
	a.Kind = "y"
	if !w.Put(a) {
		t.Fatal("it is closed")
	}
	<-to.told
	if r := to.all[0]; r.Outcome != wire.NeverRan || r.Error == nil || r.Error.Flags&fault.Permanent == 0 || !strings.Contains(r.Error.Message, `does not work on "y": name the action in its Work`) {
		t.Errorf("%+v", r)
	}
}

// A worker runs as many at once as it has slots; what waits can be taken back, and
// is given back when it closes.
func TestWorkerSlots(t *testing.T) {
	open, began := make(chan struct{}), make(chan struct{}, 100)
	var now, most atomic.Int64
	w := NewWorker(testRoom(t), 3, map[string]any{"x": func(context.Context) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		began <- struct{}{}
		<-open
		now.Add(-1)
	}}, false)
	to := &reports{told: make(chan struct{}, 100)}
	var as []*Attempt
	for range 20 {
		a := attempt(to)
		if !w.Put(a) {
			t.Fatal("refused")
		}
		as = append(as, a)
	}
	for range 3 {
		<-began
	}
	if w.TakeBack(as[0]) || !w.TakeBack(as[10]) || w.TakeBack(as[10]) {
		t.Error("only what waits can be taken back, once")
	}
	short, cancel := context.WithCancelCause(t.Context())
	w.Close()
	w.Close()
	if w.Put(attempt(to)) || w.TakeBack(as[12]) {
		t.Error("it is closed")
	}
	cancel(errEnough)
	if err := w.Await(short); !errors.Is(err, errEnough) {
		t.Error(err)
	}
	close(open)
	if err := w.Await(t.Context()); err != nil {
		t.Error(err)
	}
	for range 19 {
		<-to.told
	}
	ok, back := 0, 0
	for i := range to.all {
		switch {
		case to.all[i].Outcome == wire.OK:
			ok++
		case GivenBack(&to.all[i]):
			back++
		}
	}
	if ok != 3 || back != 16 || most.Load() != 3 {
		t.Error(ok, back, most.Load())
	}
}

// The prefetch is what lasts about 60 ms; tasks of seconds are not fetched ahead.
func TestWorkerPrefetch(t *testing.T) {
	w := NewWorker(testRoom(t), 4, nil, false)
	changes := 0
	for _, c := range []struct {
		cost time.Duration
		want int
	}{{time.Millisecond, 240}, {time.Microsecond, 4096}, {2 * time.Second, 0}, {15 * time.Millisecond, 16}} {
		for range 200 {
			if w.measureLocked(c.cost) {
				changes++
			}
		}
		if o := w.Offer(); o.Prefetch > 2*c.want || o.Prefetch < c.want/2 {
			t.Errorf("tasks of %v: %d ahead, want about %d", c.cost, o.Prefetch, c.want)
		}
	}
	if changes == 0 || changes > 60 {
		t.Errorf("%d changes were told", changes)
	}
}
