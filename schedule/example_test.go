package schedule_test

import (
	"context"
	"fmt"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/schedule"
)

func ExampleEvery() {
	ctx := context.Background()
	backup := &distgear.Event[string, string]{Name: "backup", Durable: true, On: func(_ context.Context, _ *distgear.Run, what string) (string, error) {
		return what + " is saved", nil
	}}
	n, err := distgear.Join(ctx, distgear.Config{}) // alone; Config{Hub: …} makes it one of many
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = n.Leave(ctx) }()
	if err := n.Handle(backup); err != nil {
		fmt.Println(err)
		return
	}
	err = schedule.Every(ctx, n, "nightly", "TZ=Europe/Vienna 0 3 * * *", backup, "all", schedule.LeaveOut)
	if err != nil {
		fmt.Println(err)
		return
	}
	all, err := schedule.List(ctx, n)
	for _, s := range all {
		fmt.Println(s.Name, s.Event, s.When, s.Missed, s.Next.IsZero())
	}
	fmt.Println(err)
	// Output:
	// nightly backup TZ=Europe/Vienna 0 3 * * * none false
	// <nil>
}
