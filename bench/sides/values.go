package sides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/bench/proc"
	"github.com/distgear/distgear/shared"
)

// valueAnswers are a node's answers in the rows about maps and queues; false: it is another row.
func valueAnswers(sp spec, n *distgear.Node, answers map[string]func(string) (reply, error)) bool {
	ctx := context.Background()
	m := func() *shared.Map[string, string] { return shared.NewMap[string, string](n, "map") }
	switch sp.Row {
	case "shared-alone-map-load", "shared-alone-map-store":
		m := m()
		answers["run"] = func(string) (reply, error) {
			return mapping(sp, func(k string) (string, bool, error) { return m.Load(ctx, k) }, func(k, v string) error { return m.Store(ctx, k, v) })
		}
	case "shared-alone-queue":
		q := shared.NewQueue[int64](n, "queue", sp.Count)
		answers["run"] = func(string) (reply, error) {
			return queueing(sp, func(v int64) error { return q.Put(ctx, v) }, func() (int64, error) { return q.Take(ctx) })
		}
	case "shared-map":
		s := &storer{m: m(), done: make([]int, sp.Callers)}
		answers["run"] = func(string) (reply, error) { return s.run(sp) }
		answers["done"] = func(string) (reply, error) { return reply{URL: encode(s.done)}, nil }
		answers["check"] = func(arg string) (reply, error) { return reply{}, s.check(arg) }
	case "shared-queue", "shared-queue-many":
		p := &passing{many: sp.Row == "shared-queue-many", q: shared.NewQueue[int64](n, "queue", 8192), done: make([]int, sp.Callers)}
		answers["run"] = func(string) (reply, error) { return p.run(sp) }
		answers["done"] = func(string) (reply, error) { return reply{URL: encode(p.done)}, nil }
		answers["take"] = func(string) (reply, error) { p.take(sp); return reply{}, nil }
		answers["check"] = func(arg string) (reply, error) { return reply{}, p.check(arg) }
	case "shared-memory-entry":
		answers["heap"] = heap(sp)
		answers["fill"] = func(string) (reply, error) {
			m := m()
			r, err := fill(sp, func(ctx context.Context, i int) error { return m.Store(ctx, entryKey(i), entryValue(i)) })
			if err != nil {
				return r, err
			}
			if got, err := m.Len(ctx); err != nil || got != sp.Count {
				return r, fmt.Errorf("the map has %d entries, not %d: %w", got, sp.Count, err)
			}
			return r, nil
		}
	default:
		return false
	}
	return true
}

func goValueAnswers(sp spec, answers map[string]func(string) (reply, error)) bool {
	switch sp.Row {
	case "shared-alone-map-load", "shared-alone-map-store":
		var m sync.Map
		answers["run"] = func(string) (reply, error) {
			load := func(k string) (string, bool, error) {
				v, ok := m.Load(k)
				s, _ := v.(string)
				return s, ok, nil
			}
			return mapping(sp, load, func(k, v string) error { m.Store(k, v); return nil })
		}
	case "shared-alone-queue":
		q := make(chan int64, sp.Count)
		answers["run"] = func(string) (reply, error) {
			return queueing(sp, func(v int64) error { q <- v; return nil }, func() (int64, error) { return <-q, nil })
		}
	default:
		return false
	}
	return true
}

func entryKey(i int) string { return fmt.Sprintf("key-%06d", i) }

// entryValue has 100 bytes and names the entry.
func entryValue(i int) string {
	s := fmt.Sprintf("value of entry %06d ", i)
	return s + strings.Repeat("x", payloadSize-len(s))
}

// mapping loads, or stores, entries of a map that has them all.
func mapping(sp spec, load func(string) (string, bool, error), store func(k, v string) error) (reply, error) {
	keys, values := make([]string, sp.Count), make([]string, sp.Count)
	for i := range keys {
		keys[i], values[i] = entryKey(i), entryValue(i)
		if err := store(keys[i], values[i]); err != nil {
			return reply{}, err
		}
	}
	at := func(k int) int { return int(uint32(k) * 2654435761 % uint32(len(keys))) }
	if sp.Row == "shared-alone-map-load" {
		return proc.Paced(sp, func(k int) error {
			i := at(k)
			v, ok, err := load(keys[i])
			if err == nil && (!ok || v != values[i]) {
				err = errMixed(0, k)
			}
			return err
		})
	}
	last := make([]int, len(keys)) // number of the store, plus one; 0: as it was at first
	r, err := proc.Paced(sp, func(k int) error {
		i := at(k)
		last[i] = k + 1
		return store(keys[i], values[k%len(values)])
	})
	for i, k := range last {
		if err != nil {
			break
		}
		want := values[i]
		if k > 0 {
			want = values[(k-1)%len(values)]
		}
		var v string
		if v, _, err = load(keys[i]); err == nil && v != want {
			err = fmt.Errorf("%s is not what was stored last", keys[i])
		}
	}
	return r, err
}

// queueing puts and takes with one goroutine, and from one to another.
func queueing(sp spec, put func(int64) error, take func() (int64, error)) (reply, error) {
	r, err := proc.Paced(sp, func(k int) error {
		if err := put(int64(k)); err != nil {
			return err
		}
		v, err := take()
		if err == nil && v != int64(k) {
			err = errMixed(0, k)
		}
		return err
	})
	if err != nil {
		return r, err
	}
	n := max(int(sp.Window.Nanoseconds()/200), 100)
	var wg sync.WaitGroup
	var putErr error
	began := time.Now()
	wg.Go(func() {
		for k := 0; k < n && putErr == nil; k++ {
			putErr = put(int64(k))
		}
	})
	for k := 0; k < n && err == nil; k++ {
		var v int64
		if v, err = take(); err == nil && v != int64(k) {
			err = errMixed(0, k)
		}
	}
	took := time.Since(began)
	wg.Wait()
	r.Values["between"] = float64(took) / float64(n)
	return r, errors.Join(err, putErr)
}

// storer stores entries of a map: caller c has eight keys, and its store number k goes to the key k % 8.
type storer struct {
	m    *shared.Map[string, string]
	done []int // stores by caller
}

func storeKey(caller, k int) string { return fmt.Sprintf("caller-%03d-%d", caller, k%ring) }

// storeValue has 100 bytes; it is made with one allocation, which is not to be what is measured.
func storeValue(caller, k int) string {
	var b [payloadSize]byte
	s := append(b[:0], "caller "...)
	s = strconv.AppendInt(s, int64(caller), 10)
	s = append(s, " store "...)
	s = strconv.AppendInt(s, int64(k), 10)
	s = append(s, ' ')
	return string(append(s, filler[len(s):]...))
}

var filler = strings.Repeat("x", payloadSize)

func (s *storer) run(sp spec) (reply, error) {
	ctx := context.Background()
	return throughput(sp, func(caller int) func(int) error {
		var keys [ring]string
		for i := range keys {
			keys[i] = storeKey(caller, i)
		}
		return func(k int) error {
			err := s.m.Store(ctx, keys[k%ring], storeValue(caller, k))
			if err == nil {
				s.done[caller] = k + 1
			}
			return err
		}
	})
}

// check reads what the callers of another process have stored last.
func (s *storer) check(arg string) error {
	var done []int
	if err := json.Unmarshal([]byte(arg), &done); err != nil {
		return err
	}
	ctx := context.Background()
	entries := 0
	for c, n := range done {
		for k := max(0, n-ring); k < n; k++ {
			entries++
			v, ok, err := s.m.Load(ctx, storeKey(c, k))
			if err != nil {
				return err
			}
			if !ok || v != storeValue(c, k) {
				return fmt.Errorf("caller %d stored %d times; its store %d is not there: %q", c, n, k, v)
			}
		}
	}
	if n, err := s.m.Len(ctx); err != nil || n != entries {
		return errors.Join(err, fmt.Errorf("the map has %d entries, not %d", n, entries))
	}
	return nil
}

// passing is the two ends of a queue. Item k of caller c is c<<40 | k.
type passing struct {
	q    *shared.Queue[int64]
	many bool
	done []int // items put, by caller

	took atomic.Int64
	mu   sync.Mutex
	got  map[int]map[int]bool // caller → item
	err  error
}

const together = 64 // items at a time

func (p *passing) run(sp spec) (reply, error) {
	ctx := context.Background()
	r, err := throughput(sp, func(caller int) func(int) error {
		item := func(k int) int64 { return int64(caller)<<40 | int64(k) }
		if !p.many {
			return func(k int) error {
				err := p.q.Put(ctx, item(k))
				if err == nil {
					p.done[caller] = k + 1
				}
				return err
			}
		}
		items := make([]int64, together)
		return func(k int) error {
			for i := range items {
				items[i] = item(k*together + i)
			}
			n, err := p.q.PutAll(ctx, items...)
			if err == nil && n != together {
				err = fmt.Errorf("%d of %d items were put", n, together)
			}
			p.done[caller] += n
			return err
		}
	})
	if p.many && err == nil {
		r.Values["rate"] *= together
	}
	return r, err
}

// take takes from the queue until the process ends.
func (p *passing) take(sp spec) {
	p.got = map[int]map[int]bool{}
	ctx := context.Background()
	for range sp.Callers {
		go func() {
			var mine []int64
			for {
				var err error
				mine = mine[:0]
				if p.many {
					mine, err = p.q.TakeN(ctx, together)
				} else {
					var v int64
					v, err = p.q.Take(ctx)
					mine = append(mine, v)
				}
				p.mu.Lock()
				if err != nil {
					p.err = err
					p.mu.Unlock()
					return
				}
				for _, v := range mine {
					c, k := int(v>>40), int(v&(1<<40-1))
					if p.got[c] == nil {
						p.got[c] = map[int]bool{}
					}
					if p.got[c][k] {
						p.err = fmt.Errorf("item %d of caller %d was taken twice", k, c)
					}
					p.got[c][k] = true
				}
				p.mu.Unlock()
				p.took.Add(int64(len(mine)))
			}
		}()
	}
}

// check waits until all that was put has been taken.
func (p *passing) check(arg string) error {
	var done []int
	if err := json.Unmarshal([]byte(arg), &done); err != nil {
		return err
	}
	total := int64(0)
	for _, n := range done {
		total += int64(n)
	}
	for end := time.Now().Add(20 * time.Second); p.took.Load() < total && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // for a duplicate to show itself
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.took.Load(); n != total {
		return errors.Join(p.err, fmt.Errorf("%d items were put and %d taken", total, n))
	}
	for c, n := range done {
		if len(p.got[c]) != n || n > 0 && !p.got[c][n-1] {
			return fmt.Errorf("caller %d put %d items, and other %d were taken", c, n, len(p.got[c]))
		}
	}
	return p.err
}
