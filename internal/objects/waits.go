package objects

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine/greedy"
	"github.com/distgear/distgear/internal/room"
)

// held is a context under a lock: that of the function which Do calls. It
// answers for holding, and for heldKey, and so knows all locks around.
type held struct {
	context.Context
	l *Lock
	t greedy.Token
}

// heldKey is the key of the innermost held.
type heldKey struct{}

// Value implements context.Context.
func (h *held) Value(key any) any {
	switch k := key.(type) {
	case heldKey:
		return h
	case holding:
		if k.l == h.l {
			return h.t
		}
	}
	return h.Context.Value(key)
}

// Times of reports about waits. A cycle is found by the second report that has
// all of it.
const (
	firstReport = 250 * time.Millisecond
	nextReport  = 500 * time.Millisecond
	mostReport  = 256 // waits
)

// nestedWaits are a node's goroutines that wait for a lock under another.
type nestedWaits struct {
	room *room.Room

	mu     sync.Mutex
	last   uint64
	all    map[uint64]*nestedWait
	timer  *time.Timer
	cancel context.CancelFunc // of a report that is under way
	hub    uint64             // of its last answer
	seen   uint64
	told   bool            // the last report had waits
	warned map[uint64]bool // alone: waits that were told of
}

type nestedWait struct {
	client.Wait
	holds []*held
}

type waitsKey struct{}

func waitsOf(r *room.Room) *nestedWaits {
	return r.Value(waitsKey{}, func() any {
		return &nestedWaits{room: r, all: map[uint64]*nestedWait{}, warned: map[uint64]bool{}}
	}).(*nestedWaits)
}

// Loops are the cycles among the waits of a node: all there are where it is alone.
func Loops(r *room.Room) []client.Loop { return waitsOf(r).loops() }

// AskHub asks the hub a question of which input and answer are JSON.
func AskHub(ctx context.Context, r *room.Room, kind string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if b, err = r.Ask(ctx, kind, b); err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%w: the hub's answer: %w", distgear.ErrNoNode, err)
	}
	return nil
}

// nested notes that the goroutine waits for l from now on, if it does so under
// another lock. Whoever is told calls done, which may be nil.
func (l *Lock) nested(ctx context.Context, to *waiter, m greedy.Mode) (done func()) {
	inner, ok := ctx.Value(heldKey{}).(*held)
	if !ok || to.Try || len(to.told) > 0 { // a try does not wait for who holds it
		return nil
	}
	fn, depth := caller()
	x := &nestedWait{Wait: client.Wait{Lock: l.Name, Write: m == greedy.Write, Func: fn, Since: time.Now().UnixMilli()}}
	for h := inner; h != nil && depth > 0; depth-- { // what is further out is another goroutine's
		if h.l.Room == l.Room {
			x.holds = append(x.holds, h)
		}
		h, _ = h.Context.Value(heldKey{}).(*held)
	}
	if len(x.holds) == 0 {
		return nil
	}
	w := waitsOf(l.Room)
	w.add(x)
	return func() { w.remove(x) }
}

// caller is the function that called into package shared, and how many functions
// under locks are on the goroutine's stack.
func caller() (fn string, depth int) {
	const (
		module = "github.com/distgear/distgear/"
		under  = module + "internal/objects.(*Lock).Under"
	)
	pcs := make([]uintptr, 256) // of a deeper stack the outer locks are not seen
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if fn == "" && !strings.HasPrefix(f.Function, module+"shared.") && !strings.HasPrefix(f.Function, module+"internal/objects.") {
			fn = f.Function
		}
		if f.Function == under {
			depth++
		}
	}
	return fn, depth
}

func (w *nestedWaits) add(x *nestedWait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	x.ID = w.last
	w.all[x.ID] = x
	if len(w.all) > 1 {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(firstReport, w.report)
		return
	}
	w.timer.Reset(firstReport)
}

func (w *nestedWaits) remove(x *nestedWait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, x.ID)
	delete(w.warned, x.ID)
	if len(w.all) == 0 {
		w.timer.Stop()
		if w.cancel != nil {
			w.cancel() // its end sets the timer
		} else if w.told {
			w.timer.Reset(0)
		}
	}
}

// list is all waits, the oldest first, with what they hold.
func (w *nestedWaits) list() []client.LoopWait {
	w.mu.Lock()
	xs := make([]*nestedWait, 0, len(w.all))
	for _, x := range w.all {
		xs = append(xs, x)
	}
	w.mu.Unlock()
	slices.SortFunc(xs, func(a, b *nestedWait) int { return int(int64(a.ID) - int64(b.ID)) })
	all := make([]client.LoopWait, 0, min(len(xs), mostReport))
	for _, x := range xs[:cap(all)] {
		l := client.LoopWait{Node: w.room.Node, Wait: x.Wait}
		for _, h := range x.holds {
			h.l.mu.Lock()
			m := h.l.state.ModeOf(h.t)
			h.l.mu.Unlock()
			if m != 0 {
				l.Holds = append(l.Holds, client.Hold{Lock: h.l.Name, Write: m == greedy.Write})
			}
		}
		all = append(all, l)
	}
	return all
}

// loops are the cycles among this node's own waits: all there are where it is
// alone.
func (w *nestedWaits) loops() (loops []client.Loop) {
	all := w.list()
	w.mu.Lock()
	defer w.mu.Unlock()
	still := func(path []int) bool { // so all of them waited when the list was made
		return !slices.ContainsFunc(path, func(i int) bool { return w.all[all[i].ID] == nil })
	}
	for _, path := range client.FindLoops(all, mostReport, still) {
		l := make(client.Loop, len(path))
		for i, j := range path {
			l[i] = all[j]
		}
		loops = append(loops, l)
	}
	return loops
}

// report tells the hub who waits. It runs when the timer fires, one at a time.
func (w *nestedWaits) report() {
	if w.room.Ledger.Alone() {
		w.warn()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.mu.Lock()
	if w.cancel != nil || len(w.all) == 0 && !w.told { // the one before is still under way and goes on, or there is nothing to tell
		w.mu.Unlock()
		return
	}
	w.cancel, w.told = cancel, len(w.all) > 0
	r := client.WaitsReport{Hub: w.hub, Seen: w.seen}
	w.mu.Unlock()
	for _, x := range w.list() {
		r.Waits = append(r.Waits, x.Wait)
	}
	var a client.WaitsReply
	err := AskHub(ctx, w.room, client.KindWaits, r, &a)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.hub, w.seen = a.Hub, a.Number
	}
	w.cancel = nil
	switch {
	case len(w.all) > 0:
		w.timer.Reset(nextReport)
	case w.told:
		w.timer.Reset(0)
	}
}

// warn logs the cycles of a process that is alone.
func (w *nestedWaits) warn() {
	loops := w.loops()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range loops {
		if !w.warned[l[0].ID] {
			w.room.Logger.Warn("goroutines wait for each other's locks, until a context ends", "cycle", l.String())
		}
		for _, x := range l {
			w.warned[x.ID] = true
		}
	}
	if len(w.all) > 0 {
		w.timer.Reset(nextReport)
	}
}
