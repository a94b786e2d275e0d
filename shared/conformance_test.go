package shared_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/geartest/history"
	"github.com/distgear/distgear/shared"
)

// The suite over all objects: each is used at random by six clients at three nodes, in every placement and mode, and what they were answered is checked against
// the object's model. make soak says for longer.
var (
	conformanceSeed = flag.Uint64("seed", 0, "of the choices in TestConformance; 0: others each time")
	conformanceSoak = flag.Duration("soak", 0, "how long TestConformance lets bad days last, each; 0: a few seconds")
)

func conformanceMatrix() geartest.Matrix {
	m := geartest.Matrix{Seed: *conformanceSeed, Faults: 2, Every: 300 * time.Millisecond}
	if *conformanceSoak > 0 {
		m.Every = 2 * time.Second
		m.Least = *conformanceSoak
		m.Faults = max(2, int(*conformanceSoak/(3*time.Second)))
	}
	return m
}

func TestConformance(t *testing.T) {
	m := conformanceMatrix()
	m.Placements = []geartest.Placement{geartest.OnOneNode, geartest.OnNodes}
	m.Modes = []geartest.Mode{geartest.Calm, geartest.Tiny, geartest.Cuts, geartest.Isolations, geartest.Restarts, geartest.Absences}
	geartest.RunScenarios(t, m, conformance()...)
}

func TestConformance_Failovers(t *testing.T) {
	t.Parallel() // mostly it waits for elections
	m := conformanceMatrix()
	m.Faults = max(1, m.Faults/2)
	m.Placements, m.Modes = []geartest.Placement{geartest.OnNodes}, []geartest.Mode{geartest.Failovers}
	geartest.RunScenarios(t, m, conformance()...)
}

// Those scenarios whose parts know of each other by shared objects only, in processes of their own.
func TestConformance_Processes(t *testing.T) {
	m := conformanceMatrix()
	m.Role, m.Placements, m.Faults = "conformance", []geartest.Placement{geartest.InProcesses}, max(1, m.Faults/2)
	if *conformanceSoak == 0 {
		m.Modes = []geartest.Mode{geartest.Calm, geartest.Restarts} // TestConformance has had the others
	}
	geartest.RunScenarios(t, m, passEvents, countUnderLock)
}

// conformanceRoles are for TestMain.
func conformanceRoles() geartest.Roles {
	return geartest.Roles{"conformance": geartest.ScenarioRole(passEvents, countUnderLock), "hubs": geartest.HubsRole}
}

func conformance() []func() geartest.Scenario {
	return []func() geartest.Scenario{
		random("mutex", 25, history.LockModel, lockClient(func(n *distgear.Node, name string) rwLocker { return plainLocker{shared.NewMutex(n, name)} })),
		random("rwmutex", 25, history.LockModel, lockClient(func(n *distgear.Node, name string) rwLocker { return shared.NewRWMutex(n, name) })),
		random("election", 15, history.LockModel, electionClient),
		random("semaphore", 20, func() history.Model[int, history.PermitsIn, bool] { return history.SemaphoreModel(permits) }, semaphoreClient),
		random("tokens", 15, history.UniqueModel, tokenClient),
		random("counter", 25, history.RegisterModel, counterClient),
		random("ids", 25, history.UniqueModel, idClient),
		random("map", 30, history.MapModel, mapClient),
		random("set", 30, history.MapModel, setClient),
		random("queue", 20, func() history.Model[history.Queues, history.QueueIn, history.Value] {
			return history.QueueModel(queueSize)
		}, queueClient(queueSize)),
		random("tiny queue", 20, func() history.Model[history.Queues, history.QueueIn, history.Value] { return history.QueueModel(1) }, queueClient(1)),
		random("latch", 10, func() history.Model[uint64, history.LatchIn, int] { return history.LatchModel(latchIDs) }, latchClient),
		random("barrier", 10, func() history.Model[struct{}, struct{}, history.Arrival] { return history.BarrierModel(clients) }, barrierClient),
		allDay("mutex", history.LockModel, lockClient(func(n *distgear.Node, name string) rwLocker { return plainLocker{shared.NewMutex(n, name)} })),
		allDay("rwmutex", history.LockModel, lockClient(func(n *distgear.Node, name string) rwLocker { return shared.NewRWMutex(n, name) })),
		allDay("election", history.LockModel, electionClient),
		allDay("semaphore", func() history.Model[int, history.PermitsIn, bool] { return history.SemaphoreModel(permits) }, semaphoreClient),
		passEvents, countUnderLock, putAndTakeWithConditions, readNearby, hearTopic, doOnce,
	}
}

// user is one that uses an object at random.
type user[In, Out any] struct {
	*geartest.Part
	rand *rand.Rand
	id   int    // 0 … clients-1
	name string // of the object
	h    *history.History[In, Out]
	left int  // how often it uses it
	day  bool // it holds what it gets for longer, all day
}

// clients is how many clients there are.
const clients = 6

// more counts down.
func (c *user[In, Out]) more() bool { c.left--; return c.left >= 0 && (!c.day || c.Going()) }

// brief is a context that ends soon, so that waits are taken back now and then.
func (c *user[In, Out]) brief(ctx context.Context) (context.Context, context.CancelFunc) {
	d := time.Duration(1+c.rand.IntN(20)) * time.Millisecond
	if c.day {
		d = 2 * time.Second // others hold it over the loss of their session
	}
	return context.WithTimeout(ctx, d)
}

// call records a call that says with an error whether it was done; see history.History.Do.
func (c *user[In, Out]) call(in In, f func() (Out, error)) error {
	return expected(c.h.Do(c.id, in, f))
}

// expected is nil for an error that a bad day explains.
func expected(err error) error {
	if errors.Is(err, shared.ErrSessionLost) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// allDay is random with one object, which is held for so long that sessions are lost meanwhile, or gone on with by a node that does not know yet that its was.
func allDay[S, In, Out any](name string, model func() history.Model[S, In, Out], use func(ctx context.Context, c *user[In, Out]) error) func() geartest.Scenario {
	scenario := random(name+" all day", 2000, model, func(ctx context.Context, c *user[In, Out]) error {
		c.day = true
		return use(ctx, c)
	})
	return func() geartest.Scenario {
		s := scenario()
		s.Modes = []geartest.Mode{geartest.Isolations, geartest.Absences, geartest.Failovers}
		return s
	}
}

// random is a scenario: object after object of one kind, each used some times by each client, until the day is over. No client waits for another one.
func random[S, In, Out any](name string, times int, model func() history.Model[S, In, Out], use func(ctx context.Context, c *user[In, Out]) error) func() geartest.Scenario {
	return func() geartest.Scenario {
		var mu sync.Mutex
		var all []*history.History[In, Out]
		round := func(i int) *history.History[In, Out] {
			mu.Lock()
			defer mu.Unlock()
			for len(all) <= i {
				all = append(all, history.New[In, Out]())
			}
			return all[i]
		}
		return geartest.Scenario{
			Name: name,
			Run: func(ctx context.Context, p *geartest.Part) error {
				most := 30 // on a good day more would find no more
				if p.Mode != geartest.Calm && p.Mode != geartest.Tiny {
					most = 400
				}
				errs := make([]error, clients/p.Count)
				var wg sync.WaitGroup
				for k := range errs {
					r := rand.New(rand.NewPCG(p.Rand.Uint64(), 0))
					wg.Go(func() {
						for i := 0; i < most && (i == 0 || p.Going()) && errs[k] == nil; i++ {
							c := &user[In, Out]{Part: p, rand: r, id: p.Index + k*p.Count, name: fmt.Sprint(name, " ", i), h: round(i), left: times}
							if errs[k] = use(ctx, c); errs[k] == nil {
								errs[k] = context.Cause(ctx)
							}
						}
					})
				}
				wg.Wait()
				return errors.Join(errs...)
			},
			Verify: func(_ context.Context, t testing.TB, _ *distgear.Node) {
				ops, unknown := 0, 0
				for i, h := range all {
					for _, op := range h.Ops() {
						ops++
						if op.Unknown {
							unknown++
						}
					}
					if !history.Check(t, model(), h) {
						t.Logf("it was %s %d", name, i)
						return
					}
				}
				t.Logf("%d histories, %d operations, %d of them unknown", len(all), ops, unknown)
			},
		}
	}
}
