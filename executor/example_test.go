package executor_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
)

var square = &distgear.Action[int, int]{Name: "square", Idempotent: true, Do: func(_ context.Context, n int) (int, error) { return n * n, nil }}

// join is a node alone; Config{Hub: …} makes it one of many.
func join(ctx context.Context) (n *distgear.Node, leave func()) {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		panic(err)
	}
	return n, func() { _ = n.Leave(ctx) }
}

func ExampleNew() {
	ctx := context.Background()
	n, leave := join(ctx)
	defer leave()

	ex := executor.New(n, "squares")
	fs, err := executor.InvokeAll(ctx, ex, square, 1, 2, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range fs {
		fmt.Println(f.Wait(ctx))
	}
	// Output:
	// 1 <nil>
	// 4 <nil>
	// 9 <nil>
}

func ExampleConfig_New() {
	ctx := context.Background()
	n, leave := join(ctx)
	defer leave()

	ex := executor.Config{Capacity: 100, KeyConcurrency: 1, Retain: time.Hour}.New(n, "orders")
	f, err := executor.Submit(ctx, ex, square, 7, executor.ID("order-7"), executor.Key("customer-1"), executor.Priority(1))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Wait(ctx))
	again, err := executor.Find[int](ctx, ex, "order-7")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(again.Wait(ctx))
	// Output:
	// 49 <nil>
	// 49 <nil>
}

func ExampleMap() {
	ctx := context.Background()
	n, leave := join(ctx)
	defer leave()

	ex := executor.New(n, "squares")
	sum := 0
	for v, err := range executor.Map(ctx, ex, square, slices.Values([]int{1, 2, 3, 4})) {
		if err != nil {
			fmt.Println(err)
			return
		}
		sum += v // as they come
	}
	fmt.Println(sum)
	for v, err := range executor.Map(ctx, ex, square, slices.Values([]int{1, 2, 3}), executor.Ordered(true)) {
		fmt.Println(v, err)
	}
	// Output:
	// 30
	// 1 <nil>
	// 4 <nil>
	// 9 <nil>
}

func ExampleExecutor_Work() {
	ctx := context.Background()
	n, leave := join(ctx)
	defer leave()

	ex := executor.New(n, "squares")
	work, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- ex.Work(work, 4, square) }() // in a cluster: on any node

	v, err := executor.InvokeAny(ctx, ex, square, 3)
	fmt.Println(v, err)
	stop() // what has not started is given back, what runs is awaited
	fmt.Println(<-done)
	// Output:
	// 9 <nil>
	// <nil>
}

func ExampleProgress() {
	ctx := context.Background()
	n, leave := join(ctx)
	defer leave()

	count := &distgear.Action[int, string]{Name: "count", Do: func(ctx context.Context, to int) (string, error) {
		for i := range to {
			executor.Progress(ctx, int64(i+1), int64(to))
		}
		return "done", nil
	}}
	f, err := executor.Submit(ctx, executor.New(n, "counts"), count, 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Wait(ctx))
	fmt.Println(f.Progress())
	// Output:
	// done <nil>
	// 10 10
}
