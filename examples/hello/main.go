// Hello books a trip: an action that can be undone, an event with a plan of three
// steps. Alone, or with DISTGEAR_SERVE or DISTGEAR_HUB set a node of a cluster.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/distgear/distgear"
)

var book = &distgear.Action[string, string]{Name: "book",
	Do: func(_ context.Context, what string) (string, error) {
		if what == "hotel in Atlantis" {
			return "", distgear.Clean(fmt.Errorf("no %s", what))
		}
		return what + " booked", nil
	},
	Undo: func(_ context.Context, d distgear.Did[string, string]) error {
		return log.Output(0, string(d.Node)+": "+d.In+" cancelled")
	}}

var trip = &distgear.Event[string, string]{Name: "trip",
	On: func(ctx context.Context, r *distgear.Run, city string) (string, error) {
		p := distgear.Plan{Rollback: true}
		flight := book.Step(&p, distgear.Any(), "flight to "+city).Named("flight")
		train := book.Step(&p, distgear.Any(), "train to "+city).Named("train")
		hotel := book.Step(&p, distgear.Any(), "hotel in "+city, flight, train).Named("hotel") // after both
		if err := r.Do(ctx, &p); err != nil {
			return "", err // what was booked is cancelled by now
		}
		return hotel.Result()
	}}

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := n.Handle(book, trip); err != nil {
		log.Fatal(err)
	}
	for _, city := range []string{"Oslo", "Atlantis"} {
		f, err := trip.Raise(ctx, n, city)
		if err != nil {
			log.Fatal(err)
		}
		out, failure := f.Wait(ctx)
		fmt.Printf("%s: %q, failed: %t\n", city, out, failure != nil)
	}
	if n.HubURL() != "" {
		<-ctx.Done() // in a cluster: serve the others until interrupted
	}
	_ = n.Leave(context.Background()) // it ends either way
}
