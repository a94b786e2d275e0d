package durable_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

// chaosSoak is how long the chaos lasts; make soak says longer.
var (
	chaosSoak = flag.Duration("soak", 4*time.Second, "how long each TestChaos kills processes")
	chaosSeed = flag.Uint64("seed", 0, "of TestChaos; 0: another one each time")
)

// note appends a line to a file that processes share: one write, so that a killed
// process leaves whole lines.
type note struct{ f *os.File }

func openNote(path string) (note, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return note{f}, err
}

func (n note) write(line string) { _, _ = n.f.WriteString(line + "\n") } // a test that reads less fails

// read counts the lines of a note.
func read(t *testing.T, path string) map[string]int {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	all := map[string]int{}
	for in := bufio.NewScanner(f); in.Scan(); {
		all[in.Text()]++
	}
	return all
}

// chaosPace is how often each of the four who submit does so at most: in a minute
// that is fewer tasks than the 100 000 that are remembered when they have ended.
const chaosPace = 3 * time.Millisecond

// chaosWorks are the actions of the chaos: both write down that they ran.
func chaosWorks(ran note) (again, once *distgear.Action[int, int]) {
	do := func(ctx context.Context, n int) (int, error) {
		ran.write(distgear.KeyOf(ctx))
		t := time.NewTimer(time.Duration(n%5) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
			return 3 * n, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	again = &distgear.Action[int, int]{Name: "again", Idempotent: true, Do: do}
	once = &distgear.Action[int, int]{Name: "once", Do: do}
	return again, once
}

func chaosJoin(ctx context.Context, hub, name string) (*distgear.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return distgear.Join(ctx, distgear.Config{Hub: hub, Name: cluster.NodeName(name), Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
}

// chaosWorker is a role: it works until it is killed. Its arguments: the hubs, its
// name, the folder.
func chaosWorker(ctx context.Context, args []string) error {
	ran, err := openNote(filepath.Join(args[2], "ran"))
	if err != nil {
		return err
	}
	n, err := chaosJoin(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	geartest.Ready()
	again, once := chaosWorks(ran)
	err = durably.New(n, durableName).Work(ctx, 4, again, once)
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, n.Leave(left))
}

// chaosSubmitter is a role: it submits tasks from a number on until it is killed,
// and writes down what was accepted. Its arguments: as those of chaosWorker, and the number.
func chaosSubmitter(ctx context.Context, args []string) error {
	accepted, err := openNote(filepath.Join(args[2], "accepted"))
	if err != nil {
		return err
	}
	tried, err := openNote(filepath.Join(args[2], "tried"))
	if err != nil {
		return err
	}
	from, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	n, err := chaosJoin(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	geartest.Ready()
	ex := durably.New(n, durableName)
	again, once := chaosWorks(note{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			pace := time.NewTicker(chaosPace)
			defer pace.Stop()
			for i := from + g; ctx.Err() == nil; i += 4 {
				<-pace.C
				id := chaosID(i)
				a := again
				if i%4 == 3 {
					a = once
				}
				tried.write(id)
				switch _, err := executor.Submit(ctx, ex, a, i, executor.ID(id)); {
				case err == nil:
					accepted.write(id)
				case errors.Is(err, distgear.ErrUnknown), ctx.Err() != nil:
				default:
					fmt.Fprintln(os.Stderr, "submit:", err)
				}
			}
		})
	}
	wg.Wait()
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return n.Leave(left)
}

func chaosID(i int) string { return fmt.Sprint("t-", i) }

// TestChaos kills workers, the submitter and the hub at random. Every task that was
// accepted ends once: idempotent ones OK, others OK or parked as unknown, and those ran
// once at most.
func TestChaos(t *testing.T) {
	for _, hubs := range []int{1, 3} {
		t.Run(fmt.Sprint(hubs, " hubs"), func(t *testing.T) { chaos(t, hubs) })
	}
}

func chaos(t *testing.T, count int) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // to be repeated
	dir := t.TempDir()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "hubs", Count: count, Disk: true, TTL: 3 * time.Second})
	serial := 0
	start := func(role string, more ...string) *geartest.Process {
		serial++
		return geartest.Start(t, geartest.Child{Role: role, Args: append([]string{hubs.URLs(), fmt.Sprint(role, "-", serial), dir}, more...), Wait: 90 * time.Second})
	}
	workers := []*geartest.Process{start("worker"), start("worker")}
	submitter := start("submitter", "0")
	next := 1_000_000
	kills := map[string]int{}
	for began := time.Now(); time.Since(began) < *chaosSoak; {
		wait := time.NewTimer(time.Duration(200+random.IntN(1200)) * time.Millisecond)
		<-wait.C
		switch k := random.IntN(6); {
		case k < 3:
			i := random.IntN(len(workers))
			workers[i].Kill()
			workers[i] = start("worker")
			kills["worker"]++
		case k < 5:
			submitter.Kill()
			submitter = start("submitter", fmt.Sprint(next)) // others than before: what was tried and not accepted may be there or not
			next += 1_000_000
			kills["submitter"]++
		default:
			i := hubs.Writer()
			hubs.Kill(i)
			hubs.Start(i)
			kills["hub"]++
		}
	}
	submitter.Kill()

	n, err := chaosJoin(t.Context(), hubs.URLs(), "judge")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Leave(context.WithoutCancel(t.Context())) }() // the test is over
	ex := durably.New(n, durableName)
	accepted, tried := read(t, filepath.Join(dir, "accepted")), read(t, filepath.Join(dir, "tried"))
	if len(accepted) == 0 {
		t.Fatal("nothing was accepted")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	var ok, parked, poisonous int
	ends := map[string]string{}
	judge := func(id string) {
		i, _ := strconv.Atoi(strings.TrimPrefix(id, "t-"))
		f, err := executor.Find[int](ctx, ex, executor.TaskID(id))
		if err != nil {
			t.Errorf("%s was accepted and is lost: %v", id, err)
			return
		}
		v, err := f.Wait(ctx)
		if i%4 != 3 && errors.Is(err, executor.ErrParked) {
			v, err = retried(ctx, n, executor.TaskID(id))
			mu.Lock()
			poisonous++
			mu.Unlock()
		}
		end := fmt.Sprint(v, err)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil && v == 3*i:
			ok++
		case i%4 == 3 && errors.Is(err, executor.ErrParked) && errors.Is(err, distgear.ErrUnknown):
			parked++
		default:
			t.Errorf("%s ended with %v, %v", id, v, err)
		}
		if before, known := ends[id]; known && before != end {
			t.Errorf("%s ended twice: %s and %s", id, before, end)
		}
		ends[id] = end
	}
	for range 2 { // what has ended stays as it is
		ids := make(chan string) // handed over
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for id := range ids {
					judge(id)
				}
			})
		}
		for id := range accepted {
			ids <- id
		}
		close(ids)
		wg.Wait()
	}
	ran := read(t, filepath.Join(dir, "ran"))
	again := 0
	for id, times := range ran {
		i, _ := strconv.Atoi(strings.TrimPrefix(id, "t-"))
		if tried[id] == 0 {
			t.Errorf("%s ran and was never submitted", id)
		}
		if i%4 == 3 && times > 1 {
			t.Errorf("%s is not idempotent and ran %d times", id, times)
		}
		again += times - 1
	}
	for id, end := range ends {
		if ran[id] == 0 && strings.HasSuffix(end, "<nil>") {
			t.Errorf("%s ended OK and never ran", id)
		}
	}
	t.Logf("%v killed; %d tasks: %d OK, %d parked; %d were with three workers that were killed, and were retried by hand; %d executions more than one", kills, len(accepted), ok/2, parked/2, poisonous, again)
	if sum := kills["worker"] + kills["hub"]; again > 0 && sum == 0 {
		t.Error("tasks ran again and no worker was lost")
	}
}

// TestRecovery: what a killed worker was leased goes on elsewhere, soon.
func TestRecovery(t *testing.T) {
	dir := t.TempDir()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "hubs", Count: 1, Disk: true, TTL: 3 * time.Second})
	start := func(name string) *geartest.Process {
		return geartest.Start(t, geartest.Child{Role: "sleeper", Args: []string{hubs.URLs(), name, dir}})
	}
	victim := start("victim")
	n, err := chaosJoin(t.Context(), hubs.URLs(), "judge")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Leave(context.WithoutCancel(t.Context())) }() // the test is over
	ex := durably.New(n, durableName)
	fs, err := executor.InvokeAll(t.Context(), ex, sleeps(dir), 1, 2, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	geartest.Eventually(t, 0, "all run", func() bool { return len(read(t, filepath.Join(dir, "ran"))) == 4 })
	start("other")
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil { // from now on they end at once
		t.Fatal(err)
	}
	victim.Kill()
	began := time.Now()
	for _, f := range fs {
		if _, err := wait(t, f, nil); err != nil {
			t.Error(err)
		}
	}
	took := time.Since(began)
	t.Logf("%v after the worker was killed", took)
	if took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	for task, err := range executor.Operate(n).Tasks(t.Context(), durableName, executor.TaskFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if task, err = executor.Operate(n).Task(t.Context(), durableName, task.ID); err != nil || len(task.History) != 1 || !task.History[0].Lost || task.History[0].Node != "victim" {
			t.Errorf("%+v, %v", task.History, err)
		}
	}
}

// retried has a task run again that is parked because three workers were lost with it.
func retried(ctx context.Context, n *distgear.Node, id executor.TaskID) (int, error) {
	o := executor.Operate(n)
	task, err := o.Task(ctx, durableName, id)
	if err != nil {
		return 0, err
	}
	lost := map[cluster.NodeName]bool{}
	for _, h := range task.History {
		if h.Lost {
			lost[h.Node] = true
		}
	}
	if len(lost) < 3 {
		return 0, fmt.Errorf("it is parked after %d workers: %+v", len(lost), task)
	}
	if err := o.Retry(ctx, durableName, id); err != nil {
		return 0, err
	}
	f, err := executor.Find[int](ctx, durably.New(n, durableName), id)
	if err != nil {
		return 0, err
	}
	return f.Wait(ctx)
}

// sleeps is an action that never ends, unless there is a file "go" when it begins.
func sleeps(dir string) *distgear.Action[int, int] {
	return &distgear.Action[int, int]{Name: "sleeps", Idempotent: true, Do: func(ctx context.Context, n int) (int, error) {
		if _, err := os.Stat(filepath.Join(dir, "go")); err == nil {
			return n, nil
		}
		ran, err := openNote(filepath.Join(dir, "ran"))
		if err != nil {
			return 0, err
		}
		ran.write(fmt.Sprint(n))
		<-ctx.Done()
		return 0, ctx.Err()
	}}
}

// sleeper is a role: it works on sleeps.
func sleeper(ctx context.Context, args []string) error {
	n, err := chaosJoin(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	geartest.Ready()
	return durably.New(n, durableName).Work(ctx, 4, sleeps(args[2]))
}
