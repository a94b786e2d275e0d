package sides

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// work makes the loop body of one caller: a function that makes its call number k and checks the answer. The function is used by one goroutine.
type work func(caller int) func(k int) error

// ring is how many different payloads a caller goes through: an answer that belongs to another caller, or to this caller's call before, is noticed.
const ring = 8

// payloadSize is the size of an echoed payload on the wire, in bytes.
const payloadSize = 100

// ringOf makes the payloads of one caller, the same for all sides: 100 readable bytes that name the caller and the place in the ring.
func ringOf(caller int) [ring]string {
	var r [ring]string
	for i := range r {
		s := fmt.Sprintf("caller %06d payload %d ", caller, i)
		r[i] = s + strings.Repeat("x", payloadSize-len(s))
	}
	return r
}

// order is the struct of four fields; its JSON text has exactly 100 bytes.
type order struct {
	ID    uint64 `json:"id"`
	Name  string `json:"name"`
	Count int64  `json:"count"`
	Path  string `json:"path"`
}

func orderOf(caller, i int) order {
	return order{ID: 1e9 + uint64(caller), Name: "blue gear", Count: int64(100 + i), Path: "/srv/shelf/orders/2026/november/000001.log"}
}

// orderBytes is what the rivals send in an order's place.
func orderBytes(caller, i int) []byte {
	b, err := json.Marshal(orderOf(caller, i))
	if err != nil {
		panic(err) // four plain fields
	}
	return b
}

func errMixed(caller, k int) error {
	return fmt.Errorf("caller %d, call %d: the answer is not what was sent", caller, k)
}

// latency makes sp.Count sequential calls, after a tenth as many to warm up, and reports their quantiles in µs.
func latency(sp spec, w work) (reply, error) {
	call := w(0)
	warm := sp.Count/10 + 1
	for k := range warm {
		if err := call(k); err != nil {
			return reply{}, err
		}
	}
	took := make([]time.Duration, sp.Count)
	for k := range took {
		t := time.Now()
		if err := call(k); err != nil {
			return reply{}, err
		}
		took[k] = time.Since(t)
	}
	slices.Sort(took)
	us := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))]) / 1e3 }
	return reply{Calls: uint64(warm + sp.Count), Values: map[string]float64{"p50": us(0.50), "p99": us(0.99)}}, nil
}

// throughput keeps sp.Callers calls in flight and reports how many per second were answered within the window. Every call that began is waited for.
func throughput(sp spec, w work) (reply, error) {
	type counter struct {
		n atomic.Uint64
		_ [56]byte // a cache line of its own
	}
	var (
		stop   atomic.Bool
		failed atomic.Pointer[error]
		wg     sync.WaitGroup
		done   = make([]counter, sp.Callers)
	)
	for c := range sp.Callers {
		call := w(c)
		wg.Go(func() {
			for k := 0; !stop.Load(); k++ {
				if err := call(k); err != nil {
					first := err // &err would put an err on the heap for every call
					failed.CompareAndSwap(nil, &first)
					return
				}
				done[c].n.Add(1)
			}
		})
	}
	sum := func() (n uint64) {
		for i := range done {
			n += done[i].n.Load()
		}
		return n
	}
	time.Sleep(sp.Warm)
	t0, n0 := time.Now(), sum()
	time.Sleep(sp.Window)
	n1, took := sum(), time.Since(t0)
	stop.Store(true)
	wg.Wait()
	if p := failed.Load(); p != nil {
		return reply{}, *p
	}
	return reply{Calls: sum(), Values: map[string]float64{"rate": float64(n1-n0) / took.Seconds()}}, nil
}

// flow is the receiving end of one-way commands: how many came, and the sum of what they carried.
type flow struct {
	n   atomic.Uint64
	sum atomic.Int64
}

func (f *flow) take(v int64) { f.n.Add(1); f.sum.Add(v) }

// oneWay sends sp.Count numbers from one goroutine and waits until all have arrived.
func oneWay(sp spec, f *flow, send func(int64) error, flush func() error) (reply, error) {
	t := time.Now()
	for i := range sp.Count {
		if err := send(int64(i)); err != nil {
			return reply{}, fmt.Errorf("number %d: %w", i, err)
		}
	}
	if err := flush(); err != nil {
		return reply{}, err
	}
	want := uint64(sp.Count)
	last, since := f.n.Load(), time.Now()
	for {
		n := f.n.Load()
		if n >= want {
			break
		}
		if n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > 3*time.Second {
			return reply{}, fmt.Errorf("lost: %d of %d arrived", n, want)
		}
		time.Sleep(100 * time.Microsecond) // not a spin: the receiver needs the core
	}
	took := time.Since(t)
	time.Sleep(20 * time.Millisecond) // for a duplicate to show itself
	if n, s := f.n.Load(), f.sum.Load(); n != want || s != int64(want)*(int64(want)-1)/2 {
		return reply{}, fmt.Errorf("%d of %d arrived, with sum %d", n, want, s)
	}
	return reply{Values: map[string]float64{"rate": float64(want) / took.Seconds()}}, nil
}

// local makes sp.Count calls one after another within this process and reports ns and allocations per call.
func local(sp spec, call func(k int) error) (reply, error) {
	for k := range sp.Count/10 + 1 {
		if err := call(k); err != nil {
			return reply{}, err
		}
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	t := time.Now()
	for k := range sp.Count {
		if err := call(k); err != nil {
			return reply{}, err
		}
	}
	took := time.Since(t)
	runtime.ReadMemStats(&after)
	n := float64(sp.Count)
	return reply{Values: map[string]float64{
		"ns":     float64(took) / n,
		"allocs": float64(after.Mallocs-before.Mallocs) / n,
		"bytes":  float64(after.TotalAlloc-before.TotalAlloc) / n,
	}}, nil
}

// plansByHand is the rivals' side of the plan row; like DistGear's side it checks the result of each.
func plansByHand(step func(int64) (int64, error)) work {
	return func(caller int) func(int) error {
		return func(k int) error {
			x := int64(caller)<<32 | int64(k)
			switch v, err := planByHand(x, step); {
			case err != nil:
				return err
			case v != planResult(x):
				return errMixed(caller, k)
			}
			return nil
		}
	}
}

// planByHand is the shape of six steps, written by hand for the rivals: a, b → c → d; d, e → f. step runs one step on the other process.
func planByHand(x int64, step func(int64) (int64, error)) (int64, error) {
	type res struct {
		v   int64
		err error
	}
	bs, es := make(chan res, 1), make(chan res, 1) // one: the step's only result
	go func() { v, err := step(x); bs <- res{v, err} }()
	go func() { v, err := step(x); es <- res{v, err} }()
	a, err := step(x)
	b := <-bs
	var d int64
	if err == nil && b.err == nil {
		var c int64
		if c, err = step(a + b.v); err == nil {
			d, err = step(c)
		}
	}
	e := <-es
	for _, other := range []error{b.err, e.err} {
		if err == nil {
			err = other
		}
	}
	if err != nil {
		return 0, err
	}
	return step(d + e.v)
}

// planResult is what the six steps make of x, where each step adds one to its input.
func planResult(x int64) int64 { return 3*x + 6 }

func putInt(b []byte, v int64) []byte { return binary.LittleEndian.AppendUint64(b[:0], uint64(v)) }
func getInt(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%d bytes are no number", len(b))
	}
	return int64(binary.LittleEndian.Uint64(b)), nil
}
