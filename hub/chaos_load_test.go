package hub_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// loadArgs says what a process of the role "load" is.
type loadArgs struct {
	Name  string
	Hub   string
	TTL   time.Duration
	Fence string // file in which whoever has the lock says so
	Nodes int    // that pass the turn on under the condition
	Me    int    // of these, from 0
	Quick bool   // nothing but the counter
}

// tally is what a process of the role "load" was told, and what it does not know.
type tally struct {
	Sums    []int64  // that its additions of 1 were answered
	Put     []string // items that are in the queue, or were taken
	Took    []string
	Stored  map[string]int // what its keys hold
	Turns   int            // it had
	Unknown []string       // what became of these
	Wrong   []string       // what cannot be
	Kept    bool           // the lock that it holds all the time was not lost
}

// loader makes load until it is told to stop.
type loader struct {
	args loadArgs
	n    *distgear.Node

	mu   sync.Mutex
	sum  tally
	last time.Time // of an answer
	gap  time.Duration
	num  int // answers since the last reset
}

// answered notes an answer of the hub.
func (l *loader) answered(f func(*tally)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.last.IsZero() {
		l.gap = max(l.gap, now.Sub(l.last))
	}
	l.last = now
	l.num++
	f(&l.sum)
}

func (l *loader) wrong(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Wrong = append(l.sum.Wrong, fmt.Sprintf(format, v...))
}

// failed notes an error that is not the end of the load, and tells whether there is one.
func (l *loader) failed(ctx context.Context, what string, err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, shared.ErrSessionLost), ctx.Err() != nil:
		l.mu.Lock()
		l.sum.Unknown = append(l.sum.Unknown, what)
		l.mu.Unlock()
	default:
		l.wrong("%s: %v", what, err)
	}
	return true
}

// loadRole is a process that uses shared objects all the time. It answers the lines "reset", "gap" and "stop" on standard input.
func loadRole(ctx context.Context, args []string) error {
	l := &loader{}
	if err := json.Unmarshal([]byte(args[0]), &l.args); err != nil {
		return err
	}
	var err error
	l.n, err = distgear.Join(ctx, distgear.Config{
		Name: cluster.NodeName(l.args.Name), Hub: l.args.Hub, TTL: l.args.TTL, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	all, err := shared.NewMutex(l.n, "of "+l.args.Name).Lock(ctx)
	if err != nil {
		return err
	}
	lost := all.Lost()
	work, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	l.start(work, &wg)
	geartest.Ready()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "reset":
			l.mu.Lock()
			l.gap, l.last, l.num = 0, time.Now(), 0
			l.mu.Unlock()
			fmt.Println("reset")
		case "gap":
			l.mu.Lock()
			fmt.Println("gap", l.num, l.gap.Microseconds())
			l.mu.Unlock()
		case "members":
			alive := 0
			for m := range l.n.Members(ctx) {
				if m.State == cluster.Alive {
					alive++
				}
			}
			fmt.Println("members", alive)
		case "stop":
			stop()
			wg.Wait()
			select {
			case <-lost:
			default:
				l.sum.Kept = true
			}
			said, err := json.Marshal(&l.sum)
			if err != nil {
				return err
			}
			fmt.Println("tally", string(said))
		case "leave":
			return l.n.Leave(ctx)
		}
	}
	return nil
}

// start starts the load. Each loop is paced: the machine has other tests to run.
func (l *loader) start(ctx context.Context, wg *sync.WaitGroup) {
	loop := func(f func(i int)) {
		wg.Go(func() {
			t := time.NewTicker(3 * time.Millisecond)
			defer t.Stop()
			for i := 0; ; i++ {
				select {
				case <-t.C:
				case <-ctx.Done():
					return
				}
				f(i)
			}
		})
	}
	forever := context.WithoutCancel(ctx) // an operation that was begun is waited for
	for range 2 {
		c := shared.NewCounter(l.n, "n")
		loop(func(int) {
			if sum, err := c.Add(forever, 1); !l.failed(ctx, "add", err) {
				l.answered(func(t *tally) { t.Sums = append(t.Sums, sum) })
			}
		})
	}
	if l.args.Quick {
		return
	}
	m := shared.NewMutex(l.n, "m")
	for range 2 {
		loop(func(int) { l.fenced(ctx, forever, m) })
	}
	q := shared.NewQueue[string](l.n, "q", 20)
	loop(func(i int) {
		item := fmt.Sprint(l.args.Name, "-", i)
		if err := q.Put(ctx, item); ctx.Err() == nil && !l.failed(ctx, "put "+item, err) {
			l.answered(func(t *tally) { t.Put = append(t.Put, item) })
		} else if err == nil {
			l.answered(func(t *tally) { t.Put = append(t.Put, item) })
		}
	})
	loop(func(int) {
		if item, err := q.Take(ctx); err == nil {
			l.answered(func(t *tally) { t.Took = append(t.Took, item) })
		} else if ctx.Err() == nil {
			l.failed(ctx, "take", err)
		}
	})
	kept := shared.NewMap[string, int](l.n, "kept")
	l.sum.Stored = map[string]int{}
	loop(func(i int) {
		key := fmt.Sprint(l.args.Name, "/", i%50)
		if err := kept.Store(forever, key, i); l.failed(ctx, "store "+key, err) {
			return
		}
		l.answered(func(t *tally) { t.Stored[key] = i })
		if v, ok, err := kept.Load(forever, key); err == nil && (!ok || v != i) {
			l.wrong("%s was stored as %d and is %d, %v", key, i, v, ok)
		}
	})
	wg.Go(func() { l.turns(ctx, forever) })
}

// fenced has the lock for a moment, and says so in the file.
func (l *loader) fenced(ctx, forever context.Context, m *shared.Mutex) {
	s, err := m.Lock(forever)
	if l.failed(ctx, "lock", err) {
		return
	}
	f, err := os.OpenFile(l.args.Fence, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintln(f, "in", s.Token())
		_, err2 := fmt.Fprintln(f, "out", s.Token())
		err = errors.Join(err, err2, f.Close())
	}
	l.failed(ctx, "write", err)
	if err := s.Unlock(); err != nil {
		l.failed(ctx, "unlock", err)
	}
	l.answered(func(*tally) {})
}

// turns takes the turn when it is its own, which it is told under a condition, and passes it on. A wake-up that is lost stops all.
func (l *loader) turns(ctx, forever context.Context) {
	m := shared.NewMutex(l.n, "turns")
	next := shared.NewCond(m, "next")
	at := shared.NewMap[string, int](l.n, "turn")
	for ctx.Err() == nil {
		s, err := m.Lock(forever)
		if l.failed(ctx, "lock turns", err) {
			continue
		}
		for {
			turn, _, err := at.Load(forever, "")
			if l.failed(ctx, "load turn", err) {
				break
			}
			if turn%l.args.Nodes == l.args.Me {
				if l.failed(ctx, "store turn", at.Store(forever, "", turn+1)) {
					break
				}
				l.failed(ctx, "signal", next.Broadcast(s))
				l.answered(func(t *tally) { t.Turns++ })
				break
			}
			if err := next.Wait(ctx, &s); err != nil {
				if ctx.Err() == nil {
					l.failed(ctx, "wait", err)
				}
				break
			}
		}
		if err := s.Unlock(); err != nil && !errors.Is(err, shared.ErrNotHeld) {
			l.failed(ctx, "unlock turns", err)
		}
	}
}
