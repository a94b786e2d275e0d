package proc

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Locker is one caller's way to the lock that is measured. Lock returns a token that only grows, or 0 where the side has none. A Locker is used by one goroutine.
type Locker struct {
	Lock   func() (token uint64, err error)
	Unlock func() error
}

// Contend has sp.Callers callers that want the lock all the time, for sp.Warm and then sp.Window, or longer on a machine so slow that nobody got it. It answers how many grants there were in the window (those of
// all processes, as the page saw them), and a histogram of the waits that began in it.
func Contend(sp Spec, locker func(caller int) (Locker, error)) (Reply, error) {
	page, err := OpenPage(sp.Page)
	if err != nil {
		return Reply{}, err
	}
	lockers := make([]Locker, sp.Callers)
	for c := range lockers {
		if lockers[c], err = locker(c); err != nil {
			return Reply{}, err
		}
	}
	var (
		stop, warm atomic.Bool
		mine       atomic.Uint64
		waited     atomic.Bool // a wait that began in the window has ended
		mu         sync.Mutex
		first      error
		waits      = map[int]float64{}
		wg         sync.WaitGroup
	)
	for c, l := range lockers {
		wg.Go(func() {
			hist := map[int]float64{}
			who := sp.Node*1000 + c + 1
			err := func() error {
				for !stop.Load() {
					counts, t := warm.Load(), time.Now()
					token, err := l.Lock()
					if err != nil {
						return err
					}
					page.Enter(who, sp.Node+1, token)
					if counts {
						hist[bucket(time.Since(t))]++
						waited.Store(true)
					}
					page.Leave(who)
					mine.Add(1)
					if err := l.Unlock(); err != nil {
						return err
					}
				}
				return nil
			}()
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil {
				first = err
				stop.Store(true)
			}
			for b, n := range hist {
				waits[b] += n
			}
		})
	}
	time.Sleep(sp.Warm)
	warm.Store(true)
	g0, h0, _ := page.Counts()
	t := time.Now()
	for !stop.Load() && (time.Since(t) < sp.Window || !waited.Load() && time.Since(t) < sp.Window+longest) {
		time.Sleep(min(max(sp.Window-time.Since(t), time.Millisecond), 50*time.Millisecond))
	}
	g1, h1, _ := page.Counts()
	took := time.Since(t).Seconds()
	stop.Store(true)
	wg.Wait()
	r := Reply{Calls: mine.Load(), Values: map[string]float64{"grants": float64(g1-g0) / took, "handoffs": float64(h1-h0) / took}}
	for b, n := range waits {
		r.Values["wait"+strconv.Itoa(b)] = n
	}
	return r, first
}

// longest is how much longer than its window a trial lasts in which nobody has got the lock.
const longest = 10 * time.Second

// growth is what a bucket of a histogram is wider than the one before.
const growth = 1.02

func bucket(d time.Duration) int { return int(math.Log(float64(max(d, 1))) / math.Log(growth)) }

// Quantile is the quantile of the waits in several answers of Contend.
func Quantile(q float64, answers ...Reply) (time.Duration, error) {
	hist, total, top := map[int]float64{}, 0.0, 0
	for _, a := range answers {
		for name, n := range a.Values {
			if b, ok := strings.CutPrefix(name, "wait"); ok {
				i, err := strconv.Atoi(b)
				if err != nil {
					return 0, err
				}
				hist[i] += n
				total += n
				top = max(top, i)
			}
		}
	}
	if total == 0 {
		return 0, fmt.Errorf("nobody got the lock")
	}
	left := q * total
	for i := 0; ; i++ {
		if left -= hist[i]; left <= 0 || i >= top {
			return time.Duration(math.Pow(growth, float64(i)+0.5)), nil
		}
	}
}

// Paced calls op more and more often, until that takes sp.Window, and answers ns and allocations for each of the last calls. op is told its number.
func Paced(sp Spec, op func(k int) error) (Reply, error) {
	k, n := 0, 1
	for {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		t := time.Now()
		for range n {
			if err := op(k); err != nil {
				return Reply{}, err
			}
			k++
		}
		took := time.Since(t)
		runtime.ReadMemStats(&after)
		if took >= sp.Window {
			return Reply{Calls: uint64(k), Values: map[string]float64{
				"ns":     float64(took) / float64(n),
				"allocs": math.Round(100*float64(after.Mallocs-before.Mallocs)/float64(n)) / 100, // what the runtime did meanwhile is not the call's
			}}, nil
		}
		n = min(100*n, max(n+1, int(1.2*float64(n)*float64(sp.Window)/float64(took+1))))
	}
}
