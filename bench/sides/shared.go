package sides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/bench/proc"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/shared"
)

// sharedRole is a process of the DistGear side of a row about shared objects.
func sharedRole(sp spec) (*role, error) {
	if sp.Role == "hub" {
		return sharedHub(sp)
	}
	cfg := gearConfig(cluster.NodeName(fmt.Sprint(sp.Role, sp.Node)))
	cfg.Hub = sp.URL // none: alone
	n, err := distgear.Join(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	answers := map[string]func(string) (reply, error){}
	rl := &role{Answers: answers, Stop: func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		n.Leave(ctx) // the parent has its figures; nothing hangs on this
	}}
	switch sp.Row {
	case "shared-lock":
		answers["run"] = func(string) (reply, error) { return uncontended(sp, n) }
	case "shared-alone-mutex":
		answers["run"] = func(string) (reply, error) {
			m := shared.NewMutex(n, "alone")
			return mutexes(sp, func() (func() error, func() error) {
				var s shared.Lease
				lock := func() (err error) {
					s, err = m.Lock(context.Background())
					return err
				}
				return lock, func() error { return s.Unlock() }
			})
		}
	case "shared-handoff-memory", "shared-handoff-fsync":
		answers["run"] = func(string) (reply, error) { return proc.Contend(sp, gearLocker(n)) }
	case "shared-memory-lock":
		answers["fill"] = func(string) (reply, error) { return fillLocks(sp, n) }
		answers["heap"] = heap(sp)
	case "shared-takeover-frozen", "shared-takeover-killed", "shared-takeover-hub", "shared-takeover-foreign":
		adderAnswers(n, answers)
	default:
		if !valueAnswers(sp, n, answers) {
			return nil, fmt.Errorf("distgear has no row %q", sp.Row)
		}
	}
	return rl, nil
}

// sharedHub runs a hub as the command distgear hub does.
func sharedHub(sp spec) (*role, error) {
	log := gearConfig("").Logger
	if len(sp.Peers) > 0 {
		log = slog.New(slog.DiscardHandler) // hubs that are killed on purpose make the others talk
	}
	listen := sp.Listen
	if sp.URL != "" { // a NATS of others
		log = slog.New(slog.DiscardHandler)
	} else if listen == "" {
		listen = "127.0.0.1:0"
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := hub.Start(ctx, hub.Config{
		URLs: sp.URL, Listen: listen, Name: sp.Name, Route: sp.Route, Peers: sp.Peers, Dir: sp.Dir, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return &role{Ready: reply{URL: h.URL()}, Stop: h.Close, Answers: map[string]func(string) (reply, error){
		"heap":   heap(sp),
		"run":    func(string) (reply, error) { return reply{}, nil }, // a profile begins
		"writer": func(string) (reply, error) { return reply{Values: map[string]float64{"writer": is(h.Writer())}}, nil },
	}}, nil
}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// uncontended locks and unlocks what no other node wants; the page sees to it that it is locked.
func uncontended(sp spec, n *distgear.Node) (reply, error) {
	ctx := context.Background()
	m := shared.NewMutex(n, "uncontended")
	var last shared.Token
	return proc.Paced(sp, func(int) error {
		s, err := m.Lock(ctx)
		if err != nil {
			return err
		}
		if t := s.Token(); t <= last {
			return fmt.Errorf("token %d after %d", t, last)
		} else {
			last = t
		}
		return s.Unlock()
	})
}

func gearLocker(n *distgear.Node) func(int) (proc.Locker, error) {
	ctx := context.Background()
	m := shared.NewMutex(n, "contended")
	return func(int) (proc.Locker, error) {
		var s shared.Lease
		return proc.Locker{
			Lock: func() (token uint64, err error) {
				s, err = m.Lock(ctx)
				return uint64(s.Token()), err
			},
			Unlock: func() error { return s.Unlock() },
		}, nil
	}
}

// mutexes locks and unlocks from one goroutine, and from eight that want it all the time, counting under the lock. pair makes one goroutine's lock and unlock.
func mutexes(sp spec, pair func() (lock, unlock func() error)) (reply, error) {
	var count int // guarded by the lock that is measured
	lock, unlock := pair()
	r, err := proc.Paced(sp, func(int) error {
		if err := lock(); err != nil {
			return err
		}
		count++
		return unlock()
	})
	if err != nil {
		return r, err
	}
	const goroutines = 8
	var wg sync.WaitGroup
	errs := make([]error, goroutines)
	each := max(int(sp.Window.Nanoseconds()/400/goroutines), 100) // about as long as one goroutine took
	began := time.Now()
	for g := range errs {
		lock, unlock := pair()
		wg.Go(func() {
			for k := 0; k < each && errs[g] == nil; k++ {
				if errs[g] = lock(); errs[g] == nil {
					count++
					errs[g] = unlock()
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	if want := int(r.Calls) + goroutines*each; count != want {
		return r, fmt.Errorf("counted %d under the lock, not %d", count, want)
	}
	r.Values["contended"] = float64(took) / float64(goroutines*each)
	return r, nil
}

// goRole is what a program within one process uses.
func goRole(sp spec) (*role, error) {
	rl := &role{Answers: map[string]func(string) (reply, error){}}
	switch sp.Row {
	case "shared-alone-mutex":
		rl.Answers["run"] = func(string) (reply, error) {
			var m sync.Mutex
			return mutexes(sp, func() (func() error, func() error) {
				return func() error { m.Lock(); return nil }, func() error { m.Unlock(); return nil }
			})
		}
	default:
		if !goValueAnswers(sp, rl.Answers) {
			return nil, fmt.Errorf("go has no row %q", sp.Row)
		}
	}
	return rl, nil
}

// fillLocks makes sp.Count locks that were used and are idle.
func fillLocks(sp spec, n *distgear.Node) (reply, error) {
	return fill(sp, func(ctx context.Context, i int) error {
		s, err := shared.NewMutex(n, fmt.Sprintf("lock-%07d", i)).Lock(ctx)
		return errors.Join(err, s.Unlock())
	})
}

// fill does something sp.Count times, 256 at a time.
func fill(sp spec, f func(ctx context.Context, i int) error) (reply, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 256)
	for g := range errs {
		wg.Go(func() {
			for errs[g] == nil {
				i := int(next.Add(1)) - 1
				if i >= sp.Count {
					return
				}
				errs[g] = f(context.Background(), i)
			}
		})
	}
	wg.Wait()
	return reply{Calls: uint64(sp.Count)}, errors.Join(errs...)
}

// encode is for an argument of a question; it has no line breaks.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers
	}
	return string(b)
}
