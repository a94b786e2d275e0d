// Package history records what clients did with an object and were answered, and checks it against a model of the object: whether all of it could have happened
// one after the other (linearizability), or whatever the model asks for.
//
//	h := history.New[history.RegisterIn, history.Value]()
//	err := h.Do(client, history.RegisterIn{Verb: history.Add, A: 1}, func() (history.Value, error) {
//		v, err := counter.Add(ctx, 1)
//		return history.Value{V: v}, err
//	})
//	history.Check(t, history.RegisterModel(), h)
//
// There are models of locks, semaphores, registers and counters, maps and sets, queues, latches, barriers and unique numbers; a Model of your own is one function.
//
// # Guarantees
//
// What Check refuses is wrong: no order of the operations, with the unknown ones done at some time or not at all, is one that the model allows. What it lets pass
// may still be wrong in a way that this history does not show.
//
// # Failures
//
// A history that is refused fails the test, and stays as a page to look at. The checker itself is porcupine's.
package history

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/distgear/distgear"
)

// An Op is one operation of a History: who asked for what, what was answered, and between which times.
type Op[In, Out any] struct {
	Client  int // who asked: one thing at a time; a Model may know it as the holder of something
	In      In
	Out     Out  // zero where Unknown
	Unknown bool // nobody knows whether it was done, and if so when: at any time after Call, also long after the caller was told so

	Call, Return time.Duration // since the history began
}

// A History is what clients did with one object, as they saw it: the input of Check. Its methods may be called by several goroutines.
type History[In, Out any] struct {
	began time.Time

	mu  sync.Mutex
	ops []*Op[In, Out]
}

// never marks an operation that is certain not to have been done.
const never = time.Duration(-1)

// New begins a history.
func New[In, Out any]() *History[In, Out] { return &History[In, Out]{began: time.Now()} }

// A Pending is an operation that was begun. If it is not ended when the history is checked, it is Unknown.
type Pending[In, Out any] struct {
	h  *History[In, Out]
	op *Op[In, Out]
}

// Begin records that an operation begins now.
func (h *History[In, Out]) Begin(client int, in In) Pending[In, Out] {
	op := &Op[In, Out]{Client: client, In: in, Unknown: true}
	h.mu.Lock()
	defer h.mu.Unlock()
	op.Call = time.Since(h.began)
	h.ops = append(h.ops, op)
	return Pending[In, Out]{h, op}
}

// Done records that the operation was answered.
func (p Pending[In, Out]) Done(out Out) {
	at := time.Since(p.h.began)
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	p.op.Out, p.op.Unknown, p.op.Return = out, false, at
}

// Unknown records that the operation ended and nobody knows whether it was done.
func (p Pending[In, Out]) Unknown() {}

// Never records that the operation was not done, and never will be.
func (p Pending[In, Out]) Never() {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	p.op.Return = never
}

// Do records one call, and returns its error. With nil it was done; with distgear.ErrUnknown or a context's error it may have been, then or later; any other
// error says that it was not done. Use Begin where an object promises more, or less.
func (h *History[In, Out]) Do(client int, in In, f func() (Out, error)) error {
	p := h.Begin(client, in)
	out, err := f()
	switch {
	case err == nil:
		p.Done(out)
	case errors.Is(err, distgear.ErrUnknown), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		p.Unknown()
	default:
		p.Never()
	}
	return err
}

// Ops are the operations that were, or may have been, done, by their Call.
func (h *History[In, Out]) Ops() []Op[In, Out] {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ops []Op[In, Out]
	for _, op := range h.ops {
		if op.Return != never {
			ops = append(ops, *op)
		}
	}
	slices.SortStableFunc(ops, func(a, b Op[In, Out]) int { return cmp.Compare(a.Call, b.Call) })
	return ops
}

// A Model says what an object may answer. A history is right if its operations, each at one moment between its Call and its Return, could have been made one
// after the other: it is linearizable.
type Model[S, In, Out any] struct {
	// Init makes the first state; nil means the zero S.
	Init func() S

	// Step is what op does to a state, and whether op.Out is what it may answer there. It must not change s. When op is Unknown it is what op would do, or
	// s if it could do nothing there; it is never refused: what is taken up after everything else has not been done. Nil means that Audit is all.
	Step func(s S, op Op[In, Out]) (S, bool)

	// Key splits a history into parts that have nothing to do with each other, each with a state of its own, which makes the check faster; nil means one part.
	Key func(in In) string

	// Audit looks at the whole history, for what is not a question of order; nil means nothing.
	Audit func(ops []Op[In, Out]) error

	// Equal compares states; nil means ==, which S must have.
	Equal func(a, b S) bool
}

// checkTime is how long Check thinks before it gives up. What it does not find in seconds it does not find in hours.
const checkTime = 30 * time.Second

// Check fails the test if the history is not one that the model allows. It leaves the history as a page to look at in a browser, and as text, and prints where:
// in t's ArtifactDir if `go test -artifacts` keeps it, otherwise in a directory below os.TempDir. It reports whether all was well.
//
// The time it takes grows with the number of operations that overlap, at worst exponentially: many short histories say more than a long one. One that could not
// be decided in 30 s fails the test, and says so.
func Check[S, In, Out any](t testing.TB, m Model[S, In, Out], h *History[In, Out]) bool {
	t.Helper()
	ops := h.Ops()
	c := checker[S, In, Out]{m, ops}
	if m.Audit != nil {
		if err := m.Audit(ops); err != nil {
			t.Errorf("the history of %d operations is not right: %v\n%s", len(ops), err, c.draw(t, nil))
			return false
		}
	}
	if m.Step == nil || len(ops) == 0 {
		return true
	}
	model := c.model()
	result, info := porcupine.CheckOperationsVerbose(model, c.operations(), checkTime)
	switch result {
	case porcupine.Ok:
		return true
	case porcupine.Unknown:
		t.Errorf("the history of %d operations could not be checked in %v: make it shorter\n%s", len(ops), checkTime, c.draw(t, nil))
	case porcupine.Illegal:
		t.Errorf("the history of %d operations is not linearizable\n%s", len(ops), c.draw(t, &info))
	}
	return false
}

// checker is a history and its model in porcupine's words. An operation's input is its place in ops.
type checker[S, In, Out any] struct {
	m   Model[S, In, Out]
	ops []Op[In, Out]
}

func (c checker[S, In, Out]) model() porcupine.Model {
	m := porcupine.Model{
		Init: func() any {
			var s S
			if c.m.Init != nil {
				s = c.m.Init()
			}
			return s
		},
		Step: func(state, in, _ any) (bool, any) {
			if c.m.Step == nil {
				return true, state
			}
			s, ok := c.m.Step(state.(S), c.ops[in.(int)])
			return ok, s
		},
		DescribeOperation: func(in, _ any) string { return c.ops[in.(int)].said() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	if c.m.Equal != nil {
		m.Equal = func(a, b any) bool { return c.m.Equal(a.(S), b.(S)) }
	}
	if c.m.Key != nil {
		m.Partition = func(all []porcupine.Operation) (parts [][]porcupine.Operation) {
			place := map[string]int{}
			for _, o := range all {
				k := c.m.Key(c.ops[o.Input.(int)].In)
				if _, ok := place[k]; !ok {
					place[k] = len(parts)
					parts = append(parts, nil)
				}
				parts[place[k]] = append(parts[place[k]], o)
			}
			return parts
		}
	}
	return m
}

// operations are the history for porcupine. After an unknown outcome a client goes on under another number: there, one does one thing at a time.
func (c checker[S, In, Out]) operations() []porcupine.Operation {
	all := make([]porcupine.Operation, 0, len(c.ops))
	row, rows := map[int]int{}, 0
	for i, op := range c.ops {
		n, ok := row[op.Client]
		if !ok {
			n, rows = rows, rows+1
			row[op.Client] = n
		}
		o := porcupine.Operation{ClientId: n, Input: i, Call: int64(op.Call), Return: int64(op.Return)}
		if op.Unknown {
			o.Return = math.MaxInt64
			delete(row, op.Client)
		}
		all = append(all, o)
	}
	return all
}

func (op Op[In, Out]) said() string {
	if op.Unknown {
		return fmt.Sprintf("%+v → ?", op.In)
	}
	return fmt.Sprintf("%+v → %+v", op.In, op.Out)
}

// draw writes the history down, and says where. Without info it is drawn as it was recorded.
func (c checker[S, In, Out]) draw(t testing.TB, info *porcupine.LinearizationInfo) string {
	var dir string
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		dir = t.ArtifactDir()
	} else {
		var err error
		if dir, err = os.MkdirTemp("", "history-"); err != nil { //nolint:usetesting // it must outlive the test
			return err.Error()
		}
	}
	model, fits := c.model(), map[int]bool{}
	if info == nil {
		c.m.Step = nil // everything fits, so that it can be drawn
		model = c.model()
		_, all := porcupine.CheckOperationsVerbose(model, c.operations(), checkTime)
		info = &all
	}
	for _, part := range info.PartialLinearizationsOperations() {
		var longest []porcupine.Operation
		for _, some := range part {
			if len(some) > len(longest) {
				longest = some
			}
		}
		for _, o := range longest {
			fits[o.Input.(int)] = true
		}
	}
	var text strings.Builder
	first := -1
	for i, op := range c.ops {
		mark, end := ' ', "…"
		if !fits[i] {
			mark = '!'
			if first < 0 {
				first = i
			}
		}
		if !op.Unknown {
			end = fmt.Sprint(op.Return.Microseconds())
		}
		fmt.Fprintf(&text, "%c client %d, %d to %s µs: %s\n", mark, op.Client, op.Call.Microseconds(), end, op.said())
	}
	page := filepath.Join(dir, "history.html")
	err := errors.Join(porcupine.VisualizePath(model, *info, page), os.WriteFile(filepath.Join(dir, "history.txt"), []byte(text.String()), 0o600))
	if err != nil {
		return err.Error()
	}
	const around = 12 // lines before and after the first that does not fit: mostly that is where it went wrong
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	from := max(0, first-around)
	return fmt.Sprintf("history: %s\nof it, where the first (!) does not fit:\n%s", page, strings.Join(lines[from:min(len(lines), max(0, first)+around)], "\n"))
}
