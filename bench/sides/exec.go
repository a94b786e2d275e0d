package sides

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/bench/proc"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/executor"
)

// execSlots is how many tasks a worker runs at once.
const execSlots = 256

// tasks is what a process of the DistGear side of a row about executors knows.
type tasks struct {
	sp   spec
	n    *distgear.Node
	ex   *executor.Executor
	none *distgear.Action[int64, int64] // a task that does nothing: it answers its number
	hold *distgear.Action[int64, int64] // one that never ends at the first worker
	busy *distgear.Action[int64, int64] // one that computes for 1 ms
	runs *distgear.Action[struct{}, int64]
	held []*executor.Future[int64]
	stop context.CancelFunc // of the work
	work sync.WaitGroup

	handed int64 // tasks that were submitted to workers elsewhere

	mu    sync.Mutex
	tally proc.Tally // alone, or a worker's
	ran   int64
}

// execRole is a process of the DistGear side of a row about executors.
func execRole(sp spec) (*role, error) {
	if sp.Role == "hub" {
		return sharedHub(sp)
	}
	cfg := gearConfig(cluster.NodeName(fmt.Sprint(sp.Role, sp.Node)))
	cfg.Hub = sp.URL // none: alone
	x := &tasks{sp: sp}
	x.none = &distgear.Action[int64, int64]{Name: "none", Idempotent: true, Do: func(_ context.Context, i int64) (int64, error) {
		x.count(i)
		return i, nil
	}}
	x.hold = &distgear.Action[int64, int64]{Name: "hold", Idempotent: true, Timeout: time.Hour, Do: func(ctx context.Context, i int64) (int64, error) {
		if sp.Role == "worker" && sp.Node == 1 {
			<-ctx.Done()
		}
		return i, nil
	}}
	x.busy = &distgear.Action[int64, int64]{Name: "busy", Idempotent: true, Do: func(_ context.Context, i int64) (int64, error) {
		x.count(i)
		return i, compute(time.Millisecond)
	}}
	x.runs = &distgear.Action[struct{}, int64]{Name: "runs", Do: x.total}
	var err error
	if x.n, err = distgear.Join(context.Background(), cfg); err != nil {
		return nil, err
	}
	x.ex = executor.Config{Durable: strings.HasPrefix(sp.Row, "exec-durable")}.New(x.n, "bench")
	rl := &role{Answers: map[string]func(string) (reply, error){}, Stop: x.leave}
	switch {
	case sp.Role == "worker":
		ctx, stop := context.WithCancel(context.Background())
		x.stop = stop
		x.work.Go(func() {
			slots := execSlots
			switch sp.Row {
			case "exec-durable-cpu":
				slots = 1
			case "exec-durable-recovery":
				slots = 64
			}
			_ = x.ex.Work(ctx, slots, x.none, x.hold, x.busy) // what it cannot do shows in the figures
		})
		return rl, x.n.Handle(x.runs)
	case sp.URL == "":
		rl.Answers["run"] = func(string) (reply, error) { return proc.Tasks(sp, x.some) }
	case sp.Row == "exec-durable-latency":
		rl.Answers["run"] = func(string) (reply, error) { return x.checked(proc.Sequence(sp, 1, x.begin, x.one)) }
	case sp.Row == "exec-durable-recovery":
		rl.Answers["stick"] = func(string) (reply, error) { return reply{}, x.stick() }
		rl.Answers["ended"] = func(string) (reply, error) { return reply{}, x.ended() }
	case sp.Row == "exec-durable-queued":
		rl.Answers["fill"] = func(string) (reply, error) { return reply{}, x.fill() }
		rl.Answers["all"] = func(string) (reply, error) { return reply{}, x.waiting(sp.Count) }
	case sp.Row == "exec-durable-cpu":
		rl.Answers["warm"] = func(string) (reply, error) { return reply{}, x.compute(0, 100) }
		rl.Answers["run"] = func(string) (reply, error) { return x.checked(reply{}, x.compute(100, sp.Count)) }
	default:
		rl.Answers["run"] = func(string) (reply, error) { return x.checked(x.burn()) }
	}
	return rl, nil
}

func (x *tasks) leave() {
	if x.stop != nil {
		x.stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	x.n.Leave(ctx) // the parent has its figures; nothing hangs on this
	x.work.Wait()
}

// count counts one run of a task: alone in the tally, elsewhere for total.
func (x *tasks) count(i int64) {
	if x.tally != nil {
		x.tally.Ran(int(i))
		return
	}
	x.mu.Lock()
	x.ran++
	x.mu.Unlock()
}

// total tells how many runs there were here.
func (x *tasks) total(context.Context, struct{}) (int64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ran, nil
}

// checked asks all workers how much ran: each task has a result, so what is more than one run of each ran twice.
func (x *tasks) checked(r reply, err error) (reply, error) {
	if err != nil {
		return r, err
	}
	ctx := context.Background()
	var ran int64
	for m, err := range x.n.Members(ctx) {
		if err != nil {
			return r, err
		}
		if !slices.Contains(m.Kinds, x.runs.Name) {
			continue
		}
		n, err := x.runs.Call(ctx, x.n, distgear.On(m.Name), struct{}{})
		if err != nil {
			return r, err
		}
		ran += n
	}
	if ran != x.handed {
		err = fmt.Errorf("%d tasks were run %d times", x.handed, ran)
	}
	return r, err
}

// some runs the tasks first … first+n-1 alone.
func (x *tasks) some(t proc.Tally, first, n int) error {
	x.tally = t
	ctx := context.Background()
	if n == 1 {
		f, err := executor.Submit(ctx, x.ex, x.none, int64(first))
		if err != nil {
			return err
		}
		return same(f, int64(first))
	}
	fs, err := x.submit(ctx, first, n)
	if err != nil {
		return err
	}
	for i, f := range fs {
		if err := same(f, int64(first+i)); err != nil {
			return err
		}
	}
	return nil
}

// submit hands tasks in, one by one or together.
func (x *tasks) submit(ctx context.Context, first, n int) (fs []*executor.Future[int64], err error) {
	if x.sp.Row != "exec-alone-group" {
		fs = make([]*executor.Future[int64], n)
		for i := range fs {
			if fs[i], err = executor.Submit(ctx, x.ex, x.none, int64(first+i)); err != nil {
				return nil, err
			}
		}
		return fs, nil
	}
	ins := make([]int64, n)
	for i := range ins {
		ins[i] = int64(first + i)
	}
	return executor.InvokeAll(ctx, x.ex, x.none, ins...)
}

// same waits for a task's result, which is its number.
func same(f *executor.Future[int64], want int64) error {
	got, err := f.Wait(context.Background())
	if err == nil && got != want {
		err = fmt.Errorf("task %d has the result of %d", want, got)
	}
	return err
}

// until waits for what the hub says of the executor.
func (x *tasks) until(what string, is func(s executor.Stats) bool) (err error) {
	var s executor.Stats
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // a hub that was killed answers nothing
		s, err = x.ex.Stats(ctx)
		cancel()
		if err == nil && is(s) {
			return nil
		}
	}
	return fmt.Errorf("%s: %+v, %w", what, s, err)
}

// ready waits until somebody works.
func (x *tasks) ready() error {
	slots := execSlots
	if x.sp.Row == "exec-fast" {
		slots *= 2
	}
	return x.until("nobody works", func(s executor.Stats) bool { return s.Slots >= slots })
}

func (x *tasks) waiting(n int) error {
	return x.until("tasks are lost", func(s executor.Stats) bool { return s.Waiting == n })
}

// fill submits tasks that nobody does.
func (x *tasks) fill() error {
	const part = 20_000
	for first := 0; first < x.sp.Count; first += part {
		ins := make([]int64, min(part, x.sp.Count-first))
		for i := range ins {
			ins[i] = 1e14 + int64(first+i) // 16 bytes, encoded
		}
		if _, err := executor.InvokeAll(context.Background(), x.ex, x.none, ins...); err != nil {
			return err
		}
	}
	return x.waiting(x.sp.Count)
}

// stick submits tasks, and waits until those that can have ended.
func (x *tasks) stick() (err error) {
	if err := x.until("two work", func(s executor.Stats) bool { return s.Slots == 128 }); err != nil {
		return err
	}
	ins := make([]int64, x.sp.Count)
	for i := range ins {
		ins[i] = int64(i)
	}
	if x.held, err = executor.InvokeAll(context.Background(), x.ex, x.hold, ins...); err != nil {
		return err
	}
	return x.until("half of them are held", func(s executor.Stats) bool { return s.Leased == 64 && s.Waiting == 0 })
}

func (x *tasks) ended() error {
	for i, f := range x.held {
		if err := same(f, int64(i)); err != nil {
			return err
		}
	}
	return nil
}

// compute runs tasks that compute.
func (x *tasks) compute(first, n int) error {
	if err := x.until("two work", func(s executor.Stats) bool { return s.Slots == 2 }); err != nil {
		return err
	}
	ins := make([]int64, n)
	for i := range ins {
		ins[i] = int64(first + i)
	}
	x.handed += int64(n)
	fs, err := executor.InvokeAll(context.Background(), x.ex, x.busy, ins...)
	if err != nil {
		return err
	}
	for i, f := range fs {
		if err := same(f, ins[i]); err != nil {
			return err
		}
	}
	return nil
}

// compute uses a processor for so long, by the clock of the thread.
func compute(d time.Duration) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() (time.Duration, error) {
		var now syscall.Timespec
		if _, _, err := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, threadClock, uintptr(unsafe.Pointer(&now)), 0); err != 0 {
			return 0, err
		}
		return time.Duration(now.Nano()), nil
	}
	began, err := used()
	for now := began; err == nil && now-began < d; now, err = used() {
	}
	return err
}

// threadClock is CLOCK_THREAD_CPUTIME_ID of Linux.
const threadClock = 3

func (x *tasks) begin(t proc.Tally) { x.tally = t }

// one runs one task elsewhere; its result says that it ran.
func (x *tasks) one(i int) error {
	if i == 0 {
		if err := x.ready(); err != nil {
			return err
		}
	}
	x.handed++
	f, err := executor.Submit(context.Background(), x.ex, x.none, int64(i))
	if err != nil {
		return err
	}
	if err := same(f, int64(i)); err != nil {
		return err
	}
	x.tally.Ran(i)
	return nil
}

// burn submits all tasks and takes their results.
func (x *tasks) burn() (reply, error) {
	if err := x.ready(); err != nil {
		return reply{}, err
	}
	x.handed += int64(x.sp.Count)
	const part = 10_000
	type futures struct {
		fs    []*executor.Future[int64]
		first int64
	}
	parts := make(chan futures, x.sp.Count/part+1) // all of them
	var tally proc.Tally
	return proc.BurnDown(x.sp, func(t proc.Tally) error {
		tally = t
		defer close(parts)
		for first := 0; first < x.sp.Count; first += part {
			ins := make([]int64, min(part, x.sp.Count-first))
			for i := range ins {
				ins[i] = int64(first + i)
			}
			fs, err := executor.InvokeAll(context.Background(), x.ex, x.none, ins...)
			if err != nil {
				return err
			}
			parts <- futures{fs, int64(first)}
		}
		return nil
	}, func(ctx context.Context) error {
		for p := range parts {
			for i, f := range p.fs {
				if err := same(f, p.first+int64(i)); err != nil {
					return err
				}
				tally.Ran(int(p.first) + i)
			}
		}
		return ctx.Err()
	})
}
