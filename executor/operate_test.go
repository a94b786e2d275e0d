package executor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

// memberOf joins a cluster, and leaves when the test is over.
func memberOf(t *testing.T, cfg distgear.Config) *distgear.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := distgear.Join(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Leave(ctx); err != nil {
			t.Error(err)
		}
	})
	return n
}

func infos(t *testing.T, o executor.Ops, prefix string) (all []executor.Info) {
	t.Helper()
	for in, err := range o.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, in)
	}
	return all
}

// TestOps_ElsewhereInMemory: what is in the memory of one node can be seen, paused
// and cancelled from another that has no executors.
func TestOps_ElsewhereInMemory(t *testing.T) {
	hub := memberOf(t, distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	n := memberOf(t, distgear.Config{Name: "submitter", Hub: hub.HubURL()})
	o := executor.Operate(hub)
	ctx := t.Context()
	geartest.Eventually(t, 10*time.Second, "the hub's own node has heard of the other", func() bool {
		known := 0
		for _, err := range hub.Members(ctx) {
			if err == nil {
				known++
			}
		}
		return known == 2
	})
	if all := infos(t, o, ""); len(all) > 0 {
		t.Error(all)
	}
	if _, err := o.Task(ctx, "pics", "one"); !errors.Is(err, executor.ErrNoExecutor) {
		t.Error(err)
	}
	ex := executor.New(n, "pics")
	f, err := executor.Submit(ctx, ex, double, 21, executor.ID("one"), executor.Key("k"))
	if err != nil {
		t.Fatal(err)
	}
	unnamed, err := executor.Submit(ctx, ex, double, 1)
	if err != nil {
		t.Fatal(err)
	}
	if all := infos(t, o, "pi"); len(all) != 1 || all[0].Class != executor.Fast || all[0].Node != "submitter" || all[0].Ready != 2 || all[0].Workers != 0 || all[0].Unserved[0] != "double" {
		t.Error(all)
	}
	task, err := o.Task(ctx, "pics", "one")
	if err != nil || task.State != "ready" || task.Queue != "submitter" || string(task.Input) != "21" || task.Key != "k" || task.Submitted.IsZero() {
		t.Error(task, err)
	}
	if task, err := o.Task(ctx, "pics", unnamed.ID()); err != nil || task.ID != unnamed.ID() {
		t.Error(task, err)
	}
	var ids []string
	for task, err := range o.Tasks(ctx, "pics", executor.TaskFilter{State: "ready"}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, string(task.ID))
	}
	if strings.Join(ids, " ") != string(unnamed.ID())+" one" {
		t.Error(ids)
	}
	if err := o.Pause(ctx, "pics", "lunch"); err != nil {
		t.Error(err)
	}
	if s, err := ex.Stats(ctx); err != nil || s.Paused != "lunch" {
		t.Error(s, err)
	}
	if err := o.Resume(ctx, "pics"); err != nil {
		t.Error(err)
	}
	if err := o.Cancel(ctx, "pics", "one"); err != nil {
		t.Error(err)
	}
	if _, err := f.Wait(ctx); !errors.Is(err, distgear.ErrCancelled) {
		t.Error(err)
	}
	if err := o.Cancel(ctx, "pics", "one"); !errors.Is(err, executor.ErrState) {
		t.Error(err)
	}
	if err := o.Retry(ctx, "pics", "one"); !errors.Is(err, executor.ErrState) {
		t.Error(err)
	}
	if err := o.Cancel(ctx, "pics", unnamed.ID()); err != nil {
		t.Error(err)
	}
	if err := o.Park(ctx, "pics", "one", ""); !errors.Is(err, distgear.ErrInvalid) {
		t.Error(err)
	}
}

// TestOps_Parked: what runs is parked by hand, retried and cancelled; its history stays.
func TestOps_Parked(t *testing.T) {
	hub := memberOf(t, distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	cfg := executor.Config{Durable: true, Grace: time.Millisecond}
	ctx := t.Context()
	began := make(chan struct{}, 1)
	once := &distgear.Action[int, int]{Name: "once", Do: func(ctx context.Context, _ int) (int, error) {
		began <- struct{}{}
		<-ctx.Done()
		return 0, distgear.Clean(context.Cause(ctx))
	}}
	work, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- cfg.New(hub, "jobs").Work(work, 1, once) }()
	o := executor.Operate(hub)
	if _, err := executor.Submit(ctx, cfg.New(hub, "jobs"), once, 1, executor.ID("j")); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := o.Park(ctx, "jobs", "j", "by hand"); err != nil {
		t.Error(err)
	}
	geartest.Eventually(t, 10*time.Second, "it is parked", func() bool {
		task, err := o.Task(ctx, "jobs", "j")
		return err == nil && task.State == "parked" && task.Reason == "by hand" && len(task.History) == 1 && task.History[0].Node == "hub" && task.History[0].Outcome == "clean"
	})
	if err := o.Retry(ctx, "jobs", "j"); err != nil {
		t.Error(err)
	}
	<-began
	if err := o.Cancel(ctx, "jobs", "j"); err != nil {
		t.Error(err)
	}
	geartest.Eventually(t, 10*time.Second, "it is cancelled", func() bool {
		task, err := o.Task(ctx, "jobs", "j")
		return err == nil && task.State == "cancelled"
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func ExampleOperate() {
	ctx := context.Background()
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Leave(ctx)
	for _, in := range []int{1, -1} {
		f, err := executor.Submit(ctx, executor.New(n, "sums"), double, in, executor.ID(fmt.Sprint("n", in)))
		if err != nil {
			fmt.Println(err)
			return
		}
		<-f.Done()
	}
	for t, err := range executor.Operate(n).Tasks(ctx, "sums", executor.TaskFilter{State: "ended"}) {
		fmt.Println(t.ID, t.Action, t.State, t.Error, err)
	}
	err = executor.Operate(n).Cancel(ctx, "sums", "n2")
	fmt.Println(err)
	// Output:
	// n-1 double failed odd <nil>
	// n1 double ok  <nil>
	// executor: no such task, or its result is not kept any more (see Retain): "n2" of executor "sums": did you mean "n1" or "n-1"?
}
