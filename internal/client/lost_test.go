package client_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/operation"
)

// slowly is told of the loss of its session slowly.
type slowly struct {
	began, wait chan struct{} // wait is closed when Lost may return
	over        atomic.Bool
}

func (*slowly) Event(*operation.Output) {}
func (s *slowly) Lost() {
	if s.over.Load() { // of the last session
		return
	}
	close(s.began)
	<-s.wait
	s.over.Store(true)
}

// The next session begins when all have been told that the one before is lost: what somebody asked for in the
// next one would be taken for lost otherwise.
func TestClient_TheNextSessionBeginsAfterTheLoss(t *testing.T) {
	d, s := newDesk(t)
	c := join(t, s, 600*time.Millisecond)
	slow := &slowly{began: make(chan struct{}), wait: make(chan struct{})}
	if _, err := c.Object(operation.KLock, "l", 0, slow).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, _ := c.Session()
	d.mu.Lock() // the hub ends it, and says so: the keeper is not who tells
	d.shard.Apply(time.Now().UnixMilli(), operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: id}))
	d.shard.Cut().Release()
	d.mu.Unlock()
	<-slow.began
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // the keeper looks every 30
	defer cancel()
	if err := c.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a session has begun while the loss of the one before is told: %v", err)
	}
	close(slow.wait)
	if err := c.Ready(t.Context()); err != nil || !slow.over.Load() {
		t.Fatal(err)
	}
}
