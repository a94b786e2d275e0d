package replay_test

import (
	"context"
	"fmt"
	"log"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest/replay"
)

// A run of one version is recorded; the next version gives a plan another shape.
func ExampleJournal_Check() {
	ctx := context.Background()
	weigh := &distgear.Action[int, int]{Name: "weigh", Do: func(_ context.Context, in int) (int, error) { return in, nil }}
	send := &distgear.Action[int, int]{Name: "send", Do: func(_ context.Context, in int) (int, error) { return in, nil }}
	version := func(first, second *distgear.Action[int, int]) *distgear.Event[int, int] {
		return &distgear.Event[int, int]{Name: "parcel", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			p := distgear.Plan{Name: "parcel"}
			a := first.Step(&p, distgear.Any(), in)
			second.Step(&p, distgear.Any(), in, a)
			return in, r.Do(ctx, &p)
		}}
	}
	v1, v2 := version(weigh, send), version(send, weigh)

	n, err := distgear.Join(ctx, distgear.Config{Name: "hall", Handlers: []distgear.Handler{v1, weigh, send}})
	if err != nil {
		log.Fatal(err)
	}
	defer n.Leave(ctx)
	f, err := v1.Raise(ctx, n, 7, distgear.ID("p-7"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	j, err := replay.Record(ctx, n, "p-7") // Write it to testdata; a test will Read it
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println("version 1:", j.Check(ctx, v1))
	fmt.Println("version 2:", j.Check(ctx, v2))
	// Output:
	// version 1: <nil>
	// version 2: run p-7 cannot go on: plan "parcel" has another shape than the journal of run p-7 says: run the version that made it, or adopt the new shape, or fork:
	//   step weigh (ok): came after nothing, now send
	//   step send (ok): came after weigh, now nothing
}
