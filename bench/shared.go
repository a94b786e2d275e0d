package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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
	case "shared-takeover-frozen", "shared-takeover-killed", "shared-takeover-hub":
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
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := hub.Start(ctx, hub.Config{
		Listen: listen, Name: sp.Name, Route: sp.Route, Peers: sp.Peers, Dir: sp.Dir, Logger: log,
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

// heap answers what lives in this process's heap.
func heap(sp spec) func(string) (reply, error) {
	return func(arg string) (reply, error) {
		time.Sleep(sp.Settle)
		runtime.GC()
		runtime.GC() // what finalizers and pools let go of
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if sp.Profile != "" {
			if err := proc.WriteProfile(sp, "heap", arg); err != nil {
				return reply{}, err
			}
		}
		return reply{Values: map[string]float64{"heap": float64(m.HeapAlloc)}}, nil
	}
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

// stage is the processes of a row about shared objects, and a folder for what they keep.
type stage struct {
	cast
	dir     string
	hub     *proc.Child
	callers []*proc.Child
}

func (s *stage) end() {
	s.cast.end()
	os.RemoveAll(s.dir)
}

// open starts a server, which keeps what it has on disk if durable, and a process for each role.
func open(sp spec, o options, durable bool, roles ...string) (s *stage, err error) {
	s = new(stage)
	if s.dir, err = os.MkdirTemp(o.Dir, "distgear-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	h := sp
	h.Role = "hub"
	if durable || sp.Side != "distgear" {
		if durable && !o.Quick && inMemory(s.dir) {
			return nil, fmt.Errorf("%s is in memory: name a folder on a disk with -dir", o.Dir)
		}
		h.Dir = filepath.Join(s.dir, "hub")
		if err := os.Mkdir(h.Dir, 0o700); err != nil {
			return nil, err
		}
	}
	if s.hub, err = o.small.child(h); err != nil {
		return nil, err
	}
	s.all = append(s.all, s.hub)
	sp.URL, sp.Page = s.hub.Ready.URL, filepath.Join(s.dir, "page")
	if err := proc.NewPage(sp.Page); err != nil {
		return nil, err
	}
	for i, r := range roles {
		sp.Role, sp.Node = r, i
		p, err := o.small.child(sp)
		if err != nil {
			return nil, err
		}
		s.all, s.callers = append(s.all, p), append(s.callers, p)
	}
	if sp.Side == "distgear" && sp.Profile != "" {
		_, err = s.hub.Ask("run")
	}
	return s, err
}

// both asks all callers at once.
func (s *stage) both(question string) ([]reply, error) {
	answers, errs := make([]reply, len(s.callers)), make([]error, len(s.callers))
	var wg sync.WaitGroup
	for i, c := range s.callers {
		wg.Go(func() { answers[i], errs[i] = c.Ask(question) })
	}
	wg.Wait()
	return answers, errors.Join(errs...)
}

// remote is a trial with one caller and a server in another process.
func remote(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, sp.Side == "etcd", "caller") // etcd has no other way
	if err != nil {
		return nil, err
	}
	defer s.end()
	r, err := s.callers[0].Ask("run")
	return r.Values, err
}

// handoff is a trial in which all callers of two processes want one lock all the time.
func handoff(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, strings.HasSuffix(sp.Row, "-fsync"), "caller", "worker")
	if err != nil {
		return nil, err
	}
	defer s.end()
	answers, err := s.both("run")
	if err != nil {
		return nil, err
	}
	page, err := proc.OpenPage(filepath.Join(s.dir, "page"))
	if err != nil {
		return nil, err
	}
	var mine uint64
	for _, a := range answers {
		mine += a.Calls
	}
	if grants, _, violations := page.Counts(); violations > 0 || grants != mine {
		return nil, fmt.Errorf("%d locks taken, %d counted under the lock; %d times two held it or a token did not grow", mine, grants, violations)
	}
	v := answers[0].Values
	p99, err := proc.Quantile(0.99, answers...)
	if err != nil || v["grants"] == 0 {
		return nil, fmt.Errorf("nobody got the lock within %v: %w", sp.Window, err)
	}
	p50, err := proc.Quantile(0.5, answers...)
	fair := float64(len(s.callers)*sp.Callers) / v["grants"] * 1e9
	return map[string]float64{
		"grants": v["grants"], "handoffs": v["handoffs"], "p50": float64(p50) / 1e3, "p99": float64(p99) / 1e3, "unfair": float64(p99) / fair,
	}, err
}

// bytesEach is a trial that makes sp.Count idle things, and divides by them what the hub's and the caller's heap have grown.
func bytesEach(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, true, "caller") // or the log would be in the hub's heap
	if err != nil {
		return nil, err
	}
	defer s.end()
	caller := s.callers[0]
	var r [5]reply
	for i, q := range []struct {
		who      *proc.Child
		question string
	}{{s.hub, "heap 0"}, {caller, "heap 0"}, {caller, "fill"}, {s.hub, "heap 1"}, {caller, "heap 1"}} {
		if r[i], err = q.who.Ask(q.question); err != nil {
			return nil, err
		}
	}
	n := float64(r[2].Calls)
	return map[string]float64{
		"hub":    (r[3].Values["heap"] - r[0].Values["heap"]) / n,
		"caller": (r[4].Values["heap"] - r[1].Values["heap"]) / n,
	}, nil
}

// encode is for an argument of a question; it has no line breaks.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers
	}
	return string(b)
}
