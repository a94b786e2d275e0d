package outcome

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told is an outcome, and whether it says that it may be sent again.
type told struct {
	outcome wire.Outcome
	refused bool
}

var (
	notSeen = told{wire.NeverRan, true}
	stale   = told{wire.NeverRan, false}
	unknown = told{wire.Unknown, false}
	ok      = told{wire.OK, false}
)

func start() time.Time { return time.Unix(1_700_000_000, 0) }

// serve serves a command of run r at a time; do is what it does, nil: OK.
func serve(t *Table, key string, o wire.Owner, now time.Time, do func() wire.Report) (told, int) {
	ran := 0
	o.Run = 1
	c := &wire.Command{Kind: "op", Key: key, Owner: o}
	if o.Attach {
		c.Start = now.UnixMilli()
	}
	r := t.Serve(new(runner.Context), c, now, func() wire.Report {
		if ran++; do != nil {
			return do()
		}
		return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("x")}
	})
	return told{r.Outcome, r.Error != nil && r.Error.Flags&fault.Refused != 0}, ran
}

// What is asked of the table one after the other, and what it answers.
func TestTable(t *testing.T) {
	type ask struct {
		key    string
		o      wire.Owner
		letGo  uint64 // instead: the run ends under that epoch
		want   told
		ran    int
		fails  wire.Outcome
		minute int
	}
	at := func(epoch uint64, number uint32) wire.Owner { return wire.Owner{Epoch: epoch, Number: number} }
	attach := func(epoch uint64, number uint32) wire.Owner {
		return wire.Owner{Epoch: epoch, Number: number, Attach: true}
	}
	for _, c := range []struct {
		name string
		asks []ask
	}{
		{"an attempt runs once, and its outcome is asked for", []ask{
			{key: "r/a", o: at(1, 0), want: ok, ran: 1}, {key: "r/a", o: attach(2, 0), want: ok}, {key: "r/a", o: at(2, 0), want: ok},
		}},
		{"who asks for what did not come fences who would have sent it", []ask{
			{key: "r/a", o: attach(2, 0), want: notSeen}, {key: "r/a", o: at(1, 0), want: stale}, {key: "r/a", o: at(2, 1), want: ok, ran: 1},
		}},
		{"another attempt is another", []ask{
			{key: "r/a", o: at(1, 0), fails: wire.Clean, want: told{wire.Clean, false}, ran: 1}, {key: "r/a", o: attach(2, 1), want: notSeen},
			{key: "r/a", o: at(2, 1), want: ok, ran: 1}, {key: "r/a", o: attach(3, 0), want: unknown},
		}},
		{"what never ran may be sent again", []ask{
			{key: "r/a", o: at(1, 0), fails: wire.NeverRan, want: stale, ran: 1}, {key: "r/a", o: at(1, 0), want: ok, ran: 1},
		}},
		{"a run that has ended takes nothing more, unless it is leased again", []ask{
			{key: "r/a", o: at(2, 0), want: ok, ran: 1}, {letGo: 2}, {key: "r/b", o: at(1, 1), want: stale}, {key: "r/b", o: at(2, 1), want: stale},
			{key: "r/a/undo", o: at(3, 2), want: ok, ran: 1},
		}},
		{"an owner before cannot let go", []ask{{key: "r/a", o: at(2, 0), want: ok, ran: 1}, {letGo: 1}, {key: "r/a", o: attach(3, 0), want: ok}}},
		{"after an hour it is unknown whether it came", []ask{
			{key: "r/a", o: at(1, 0), want: ok, ran: 1}, {key: "r/a", o: attach(2, 0), want: ok, minute: 59},
			{key: "s/a", o: at(1, 0), want: ok, ran: 1, minute: 61}, {key: "r/b", o: attach(2, 1), want: notSeen, minute: 61},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var x Table
			for i, a := range c.asks {
				now := start().Add(time.Duration(a.minute) * time.Minute)
				if a.letGo > 0 {
					x.LetGo("r", a.letGo, now)
					continue
				}
				var do func() wire.Report
				if a.fails != 0 {
					do = func() wire.Report { return wire.Report{Outcome: a.fails, Over: true, Error: &wire.Error{}} }
				}
				if got, ran := serve(&x, a.key, a.o, now, do); got != a.want || ran != a.ran {
					t.Errorf("%d: %+v: %+v, ran %d times; want %+v, %d", i, a, got, ran, a.want, a.ran)
				}
			}
		})
	}
}

// What was forgotten is unknown, not never ran: by age, and by size.
func TestTable_Forgets(t *testing.T) {
	sent := func(x *Table, at, now time.Time) told {
		c := &wire.Command{Kind: "op", Key: "r/a", Start: at.UnixMilli(), Owner: wire.Owner{Epoch: 2, Run: 1, Attach: true}}
		r := x.Serve(new(runner.Context), c, now, nil)
		return told{r.Outcome, r.Error != nil && r.Error.Flags&fault.Refused != 0}
	}
	var old Table
	serve(&old, "r/a", wire.Owner{Epoch: 1}, start(), nil)
	if got := sent(&old, start(), start().Add(Keep)); got != unknown {
		t.Errorf("after an hour: %+v", got)
	}
	var large Table
	payload := []byte(strings.Repeat("x", 1<<20))
	for i := range MaxBytes>>20 + 1 {
		serve(&large, "r/"+string(rune('a'+i)), wire.Owner{Epoch: 1}, start(), func() wire.Report {
			return wire.Report{Outcome: wire.OK, Over: true, Payload: payload}
		})
	}
	if large.bytes > MaxBytes {
		t.Errorf("%d bytes are kept", large.bytes)
	}
	if got := sent(&large, start(), start()); got != unknown {
		t.Errorf("after too much: %+v", got)
	}
	if got := sent(&large, start().Add(time.Hour), start()); got != notSeen {
		t.Errorf("sent after what was forgotten: %+v", got)
	}
}

// Of very many runs that have ended those that came first are forgotten, a few at a
// time, and of those that go on none is.
func TestTable_ManyRuns(t *testing.T) {
	var x Table
	id := func(i int) string { return fmt.Sprintf("%08d", i) }
	is := func(i int) *wire.Command {
		return &wire.Command{Kind: "op", Key: id(i) + "/a", Owner: wire.Owner{Epoch: 2, Run: 8}}
	}
	ok := func() wire.Report { return wire.Report{Outcome: wire.OK, Over: true} }
	const goOn, more = 100, 20_000
	for i := range maxRuns + more {
		x.Serve(new(runner.Context), is(i), start(), ok)
		if i >= goOn {
			x.LetGo(id(i), 2, start())
		}
	}
	if len(x.runs) > maxRuns+1 {
		t.Errorf("%d runs are known, %d are allowed", len(x.runs), maxRuns)
	}
	for i := range goOn {
		if x.runs[id(i)] == nil {
			t.Errorf("run %d is forgotten, and goes on", i)
		}
	}
	for i := range more / 2 {
		if n := maxRuns + more - 1 - i; x.runs[id(n)] == nil {
			t.Errorf("run %d is forgotten before others", n)
		}
	}
	for range maxRuns { // an hour later those that have ended go, as commands come
		x.Serve(new(runner.Context), is(0), start().Add(2*Keep), ok)
	}
	if len(x.runs) > goOn || len(x.queue)-x.first != len(x.runs) {
		t.Errorf("%d runs are known, %d queued", len(x.runs), len(x.queue)-x.first)
	}
}

// Who asks for an attempt that runs waits for it, and may cancel it; another
// attempt of the same key is refused meanwhile.
func TestTable_Running(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x Table
		ctx, asker := new(runner.Context), new(runner.Context)
		answers := make(chan wire.Outcome, 2) // as many as ask
		command := func(o wire.Owner) *wire.Command {
			o.Run = 1
			return &wire.Command{Kind: "op", Key: "r/a", Owner: o}
		}
		go func() {
			answers <- x.Serve(ctx, command(wire.Owner{Epoch: 1}), start(), func() wire.Report {
				<-ctx.Done()
				return wire.Report{Outcome: wire.Dirty, Over: true, Error: &wire.Error{Flags: fault.Cancelled}}
			}).Outcome
		}()
		synctest.Wait()
		go func() {
			answers <- x.Serve(asker, command(wire.Owner{Epoch: 2, Attach: true}), start(), nil).Outcome
		}()
		synctest.Wait()
		if got, ran := serve(&x, "r/a", wire.Owner{Epoch: 2, Number: 1}, start(), nil); got != notSeen || ran != 0 {
			t.Errorf("beside one that runs: %+v, ran %d", got, ran)
		}
		asker.Cancel(context.Canceled)
		if a, b := <-answers, <-answers; a != wire.Dirty || b != wire.Dirty {
			t.Errorf("told %d and %d", a, b)
		}
	})
}
