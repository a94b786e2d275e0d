package waitlist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/distgear/distgear/record"
)

// future is a Pending that a test resolves.
type future struct {
	id   record.RunID
	over chan struct{}
	out  json.RawMessage
	err  error
}

func newFuture(id record.RunID) *future { return &future{id: id, over: make(chan struct{})} }

func (f *future) resolve(out string, err error) *future {
	f.out, f.err = json.RawMessage(out), err
	close(f.over)
	return f
}

func (f *future) ID() record.RunID                              { return f.id }
func (f *future) Done() <-chan struct{}                         { return f.over }
func (f *future) Wait(context.Context) (json.RawMessage, error) { return f.out, f.err }

// TestList_Bounded: what is over is forgotten, but for the latest failures.
func TestList_Bounded(t *testing.T) {
	var l List
	open := newFuture("open")
	l.Add(open, "e")
	l.Add(newFuture("open").resolve("", errors.New("raised again")), "e")
	for i := range 10_000 {
		l.Add(newFuture(record.RunID(fmt.Sprint("ok-", i))).resolve("1", nil), "e")
	}
	if len(l.byID) > 64 || len(l.order) != len(l.byID) {
		t.Errorf("%d and %d entries", len(l.byID), len(l.order))
	}
	for i := range 10_000 {
		l.Add(newFuture(record.RunID(fmt.Sprint("failed-", i))).resolve("", errors.New("no")), "e")
	}
	if len(l.byID) > 2*maxFailed+64 || len(l.order) != len(l.byID) {
		t.Errorf("%d and %d entries", len(l.byID), len(l.order))
	}
	again := newFuture("failed-9999")
	if l.Add(again, "e"); l.Get("failed-9999").F != again {
		t.Error("what is over hides what was raised again under its id")
	}
	if l.Get("open") == nil || l.Get("open").F != open || l.Get("failed-9999") == nil || l.Get("failed-9000") == nil || l.Get("failed-0") != nil || l.Get("ok-0") != nil {
		t.Error("the wrong ones are kept")
	}
}
