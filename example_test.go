package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/distgear/distgear"
)

func ExampleJoin() {
	ctx := context.Background()
	hub, err := distgear.Join(ctx, distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	node, err := distgear.Join(ctx, distgear.Config{Name: "worker", Hub: hub.HubURL()})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(node.Name(), "has joined")
	fmt.Println(node.Leave(ctx), hub.Leave(ctx))
	// Output:
	// worker has joined
	// <nil> <nil>
}

func ExampleAction_Call() {
	ctx := context.Background()
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = n.Leave(ctx) }()
	double := &distgear.Action[int, int]{Name: "double", Do: func(_ context.Context, x int) (int, error) { return 2 * x, nil }}
	if err := n.Handle(double); err != nil {
		log.Fatal(err)
	}
	fmt.Println(double.Call(ctx, n, distgear.Any(), 21))
	// Output: 42 <nil>
}

func ExampleEvent_Raise() {
	ctx := context.Background()
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = n.Leave(ctx) }()
	greet := &distgear.Event[string, string]{Name: "greet", On: func(_ context.Context, _ *distgear.Run, who string) (string, error) {
		return "hello " + who, nil
	}}
	if err := n.Handle(greet); err != nil {
		log.Fatal(err)
	}
	f, err := greet.Raise(ctx, n, "world")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Wait(ctx))
	// Output: hello world <nil>
}

func ExamplePlan() {
	ctx := context.Background()
	n, err := distgear.Join(ctx, distgear.Config{Name: "alone"})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = n.Leave(ctx) }()
	reserve := &distgear.Action[string, string]{
		Name: "reserve",
		Do:   func(_ context.Context, what string) (string, error) { return what + " reserved", nil },
		Undo: func(_ context.Context, d distgear.Did[string, string]) error { fmt.Println("undo:", d.Out); return nil },
	}
	pay := &distgear.Action[int, bool]{
		Name: "pay",
		Do:   func(context.Context, int) (bool, error) { return false, distgear.Clean(errors.New("no money")) },
	}
	trip := &distgear.Event[int, bool]{Name: "trip", On: func(ctx context.Context, r *distgear.Run, price int) (bool, error) {
		p := distgear.Plan{Name: "book", Rollback: true}
		flight := reserve.Step(&p, distgear.Any(), "flight")
		hotel := reserve.Step(&p, distgear.Any(), "hotel", flight)
		paid := pay.Step(&p, distgear.Any(), price, hotel)
		if err := r.Do(ctx, &p); err != nil {
			return false, err
		}
		return paid.Result()
	}}
	if err := n.Handle(reserve, pay, trip); err != nil {
		log.Fatal(err)
	}
	f, err := trip.Raise(ctx, n, 100)
	if err != nil {
		log.Fatal(err)
	}
	_, err = f.Wait(ctx)
	fmt.Println(err)
	// Output:
	// undo: hotel reserved
	// undo: flight reserved
	// trip on alone: plan book: step pay: pay on alone: no money (rolled back)
}
