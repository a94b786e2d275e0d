// Package crash tells what becomes of a durable event when nodes die in the middle of it: it runs the event once to count the points of the run, and then once for
// each, with a death there and somebody who goes on.
//
//	func TestOrder(t *testing.T) {
//		crash.Everywhere(t, func(t *testing.T) crash.Case[Order, Receipt] {
//			s := newShop()                 // what the steps change: new for each run
//			return crash.Case[Order, Receipt]{
//				Event: s.order, Input: Order{…}, Steps: []distgear.Handler{s.pay, s.reserve, s.ship},
//				Check: func(end crash.End[Receipt]) { … }, // all of it was done, or nothing
//			}
//		})
//	}
//
// A point is before and after each entry of the run's journal, and before and after each step and each undo. At each one dies, first, the owner only: the node that
// drives the run, while its steps go on elsewhere. Then the whole process, with the steps that it does: what they have changed stays, their results are lost, and they
// are unknown to who goes on. Everywhere tries each point, Pairwise each two.
//
// # Guarantees
//
// Handlers and steps are the real ones, on real nodes, and so is what drives them. The ledger is simulated: it keeps the journal by the same rules, and is never lost
// itself. Each run is in a bubble of testing/synctest, where waiting costs no time: retries, Sleep and timeouts are waited for. In a sub-test's name is where who died:
// `go test -run 'TestOrder/owner_at_7'` does it again.
//
// A process cannot really be killed in a test. The context of a step that is being done when its process dies ends, and the step is waited for; what a handler does besides
// its plans, it may do until it looks at its context. All steps are done at one node. Not covered: events as steps, owners that are frozen and thaw, the loss of hubs, and what
// the node's own ledger is asked (FindRun, SignalRun): geartest.StartCluster has these, with processes to kill.
//
// # Failures
//
// A run that is parked, or stuck, or waits for what never comes fails the test, and so does what Check says; then the points are logged that the run passed. After three
// failures no more points are tried.
package crash

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/record"
)

// Case is one run of an event, and the world that its steps change.
type Case[In, Out any] struct {
	Event *distgear.Event[In, Out] // it must be Durable
	Input In
	Steps []distgear.Handler // the actions of its plans
	// Signal is asked when the run waits for a signal of that name and does nothing else: what it is sent then, or false.
	// The name of an approval is "approve NAME", and its value a record.Approval. Nil means that nobody sends signals.
	Signal func(name string) (value any, ok bool)
	// Check looks at how the run ended, and at the world. Nothing of the run goes on then.
	Check func(end End[Out])

	Name   cluster.NodeName  // of the node; empty means node-1
	Labels map[string]string // of the node
}

// End is how a run ended.
type End[Out any] struct {
	Out  Out
	Err  error      // nil: it is OK
	Run  record.Run // as `distgear runs show` tells it
	Died []string   // who died, and where
}

// maxFailures is after how many failed runs no more are tried.
const maxFailures = 3

// Everywhere runs the event that setUp makes with one death, at each point. setUp is called for each run, and its t is that run's.
func Everywhere[In, Out any](t *testing.T, setUp func(t *testing.T) Case[In, Out]) {
	t.Helper()
	(&tour{run: once(setUp)}).from(t, nil, 1)
}

// Pairwise is Everywhere and then two deaths, at each two points: of n points about 2n² runs.
func Pairwise[In, Out any](t *testing.T, setUp func(t *testing.T) Case[In, Out]) {
	t.Helper()
	(&tour{run: once(setUp)}).from(t, nil, 2)
}

// who dies.
type who string

const (
	theOwner   who = "owner"
	theProcess who = "process"
)

// death is who dies at which point, counted from 1.
type death struct {
	who who
	at  int
}

func (d death) String() string { return fmt.Sprintf("%s at %d", d.who, d.at) }

// tour is all runs of a test.
type tour struct {
	run    func(t *testing.T, deaths []death) (points int)
	failed int
}

// from makes the run with these deaths, and those with some more after them.
func (x *tour) from(t *testing.T, deaths []death, more int) {
	points := x.run(t, deaths)
	if t.Failed() || more == 0 {
		return
	}
	first := 1
	if n := len(deaths); n > 0 {
		first = deaths[n-1].at + 1
	}
	for at := first; at <= points; at++ {
		for _, who := range []who{theOwner, theProcess} {
			d := death{who, at}
			ok := t.Run(d.String(), func(t *testing.T) { x.from(t, append(slices.Clip(deaths), d), more-1) })
			if !ok {
				x.failed++
			}
			if x.failed >= maxFailures {
				return
			}
		}
	}
}

// once makes a run.
func once[In, Out any](setUp func(t *testing.T) Case[In, Out]) func(t *testing.T, deaths []death) int {
	return func(t *testing.T, deaths []death) (points int) {
		synctest.Test(t, func(t *testing.T) {
			c := setUp(t)
			if c.Event == nil || !c.Event.Durable || c.Check == nil {
				t.Fatal("crash: a Case needs a durable Event and a Check")
			}
			in, err := codec.AppendAny(nil, c.Input)
			if err != nil {
				t.Fatalf("crash: Input: %v", err)
			}
			w := newWorld(t, &scene{event: c.Event, input: in, steps: c.Steps, signal: c.Signal, name: c.Name, labels: c.Labels}, deaths)
			defer w.told()
			defer w.close()
			if w.play(); t.Failed() {
				return
			}
			end := End[Out]{Err: w.err(), Run: w.summary(), Died: w.died}
			w.close()
			if end.Err == nil {
				if end.Out, err = (codec.Of[Out]{}).New(w.gave.Report.Payload); err != nil {
					t.Fatalf("crash: the result of event %s: %v", c.Event.Name, err)
				}
			}
			c.Check(end)
			points = w.points
		})
		return points
	}
}
