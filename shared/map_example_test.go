package shared_test

import (
	"context"
	"fmt"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

func ExampleNewMap() {
	ctx := context.Background()
	n, err := distgear.Join(ctx, distgear.Config{}) // alone; with a Hub the same program is one of many
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = n.Leave(ctx) }() // the process ends

	stock := shared.NewMap[string, int](n, "stock")
	if err := stock.Store(ctx, "bolts", 100); err != nil {
		fmt.Println(err)
	}
	left, ok, err := stock.Compute(ctx, "bolts", func(old int, ok bool) (int, bool) { return old - 30, ok })
	fmt.Println(left, ok, err)
	_, ok, err = stock.Load(ctx, "nuts")
	fmt.Println(ok, err)
	// Output:
	// 70 true <nil>
	// false <nil>
}

func ExampleNewQueue() {
	ctx := context.Background()
	n, err := distgear.Join(ctx, distgear.Config{}) // alone; with a Hub the same program is one of many
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = n.Leave(ctx) }() // the process ends

	jobs := shared.NewQueue[string](n, "jobs", 10)
	for _, j := range []string{"wash", "dry"} {
		if err := jobs.Put(ctx, j); err != nil {
			fmt.Println(err)
		}
	}
	for range 2 {
		fmt.Println(jobs.Take(ctx))
	}
	_, ok, err := jobs.Poll(ctx)
	fmt.Println(ok, err)
	// Output:
	// wash <nil>
	// dry <nil>
	// false <nil>
}
