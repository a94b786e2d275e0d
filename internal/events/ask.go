package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/distgear/distgear/audit"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
)

// What may be done with a run, wherever it is.
const (
	Cancel    = operation.RunCancel
	Adopt     = operation.RunAdopt
	Unwind    = operation.RunUnwind
	Terminate = operation.RunTerminate
)

// Do does one of the above with a run; why is for people. It returns when the
// ledger has taken that down. fault.ErrNoRun: it does not know the run.
func (d *Desk) Do(ctx context.Context, id string, what uint64, why string) error {
	if what == Terminate && why == "" {
		return fmt.Errorf("%w: say why run %s is terminated", fault.ErrInvalid, id)
	}
	return d.order(ctx, id, operation.Op{Verb: operation.VTask, A: what, Val: []byte(why)})
}

// Note has the ledger note that somebody did something with a run, which its journal or
// another run tells besides.
func (d *Desk) Note(ctx context.Context, id, verb, text string) error {
	return d.order(ctx, id, operation.Op{Verb: operation.VTask, A: operation.RunNote, Val: []byte(verb + "\x00" + text)})
}

// order asks for something to be done with a run, and says who asks.
func (d *Desk) order(ctx context.Context, id string, op operation.Op) error {
	who := audit.Who(ctx)
	op.Key, op.B, op.Val = []byte(id), uint64(len(who)), append([]byte(who), op.Val...)
	_, err := d.ask(ctx, id, op, false)
	return err
}

// MaxSignal is how large the value of a signal may be, in bytes.
const MaxSignal = 256 << 10

// Signal sends a signal to a run.
func (d *Desk) Signal(ctx context.Context, id string, s journal.Signal) error {
	if len(s.Value) > MaxSignal {
		return fmt.Errorf("%w: signal %s has %d bytes encoded, %d are allowed: pass large data by reference", fault.ErrInvalid, s.Name, len(s.Value), MaxSignal)
	}
	if _, ok := s.Decision(); !ok && strings.HasPrefix(s.Name, "\x00") {
		return fmt.Errorf("%w: a signal is not named %q", fault.ErrInvalid, s.Name)
	}
	return d.order(ctx, id, operation.Op{Verb: operation.VSignal, Val: runs.AppendSignal(nil, &runs.Signal{Name: s.Name, Value: s.Value})})
}

// Look is what the ledger has of a run.
func (d *Desk) Look(ctx context.Context, id string) (runs.View, error) {
	b, err := d.ask(ctx, id, operation.Op{Verb: operation.VWatch, A: operation.WatchRun, Key: []byte(id)}, true)
	if err != nil {
		return runs.View{}, err
	}
	v, err := runs.ParseView(b)
	if err == nil {
		err = d.fetchView(ctx, &v)
	}
	if node, _, ok := parseReport(v.Report); ok {
		v.Node = node // that ended it
	}
	return v, err
}

// List is a page of what the ledger has of runs, newest first, and the after of the page
// that follows; empty: there is none.
func (d *Desk) List(ctx context.Context, after string) (page []look.TaskState, next string, err error) {
	p, err := d.page(ctx, client.Query{What: look.Tasks, Executor: Name, After: after, Limit: listed})
	return p.Tasks, p.Next, err
}

// page asks the hub what it knows.
func (d *Desk) page(ctx context.Context, q client.Query) (look.Page, error) {
	if d.h.Room.Ledger.Alone() {
		return d.h.Room.Ledger.Page(q), nil
	}
	var in client.Inspection
	b, err := json.Marshal(q)
	if err == nil {
		b, err = d.h.Room.Ask(ctx, client.KindInspect, b)
	}
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err == nil && in.Error != "" {
		err = fmt.Errorf("%w: the hub cannot tell: %s", fault.ErrNoNode, in.Error)
	}
	for i := range in.Page.Tasks {
		in.Page.Tasks[i].Shift(in.Zero)
	}
	return in.Page, err
}

// listed is how many runs or schedules a page has at most.
const listed = 1000

func (d *Desk) ask(ctx context.Context, id string, op operation.Op, retry bool) ([]byte, error) {
	a, err := d.obj.Do(ctx, op, retry)
	switch {
	case errors.Is(err, client.ErrClosed):
		return nil, fault.ErrLeft
	case errors.Is(err, client.ErrLost):
		return nil, fmt.Errorf("%w: the session with the hub was lost: ask about run %s, and try again", fault.ErrUnknown, id)
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%w: the ledger has not answered about run %s: %w", fault.ErrUnknown, id, err)
	case err != nil:
		return nil, err
	case a.Code == machine.OK:
		return a.Val, nil
	}
	why := words.Error(a.Aux)
	switch {
	case errors.Is(why, tasks.ErrNoTask):
		return nil, fmt.Errorf("%w: %s", fault.ErrNoRun, id)
	case errors.Is(why, tasks.ErrConflict):
		return nil, fmt.Errorf("%w: %s", fault.ErrConflict, id)
	case errors.Is(why, tasks.ErrEnded):
		return nil, fmt.Errorf("%w: run %s has ended", fault.ErrInvalid, id)
	case errors.Is(why, tasks.ErrSignals):
		return nil, fmt.Errorf("%w: run %s has %d signals that it has not taken", fault.ErrOverloaded, id, runs.MaxSignals)
	case errors.Is(why, tasks.ErrNotRetried):
		return nil, fmt.Errorf("%w: run %s is not in the state for that: only a parked run can be adopted", fault.ErrInvalid, id)
	}
	return nil, fmt.Errorf("%w: run %s: %w", fault.ErrInvalid, id, why)
}
