// Chat is a room: what one process reads from its standard input, all print.
//
//	DISTGEAR_SERVE=127.0.0.1:4222 DISTGEAR_NAME=ann chat
//	DISTGEAR_HUB=nats://127.0.0.1:4222 DISTGEAR_NAME=bob chat   over machines: with DISTGEAR_TOKEN for both
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// line is what somebody said.
type line struct{ From, Text string }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Leave(context.WithoutCancel(ctx))) }()
	room := shared.NewTopic[line](n, "room")
	heard, err := room.Subscribe(ctx, 0)
	if err != nil {
		return err
	}
	defer heard.Close()
	fmt.Println("joined as", n.Name())

	said := make(chan error, 1) // one answer
	go func() { said <- say(ctx, room, string(n.Name())) }()
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(<-said) }()
	for m, err := range heard.All(reading) {
		switch {
		case ctx.Err() != nil || errors.Is(context.Cause(reading), errBye):
			return nil // interrupted, or the end of what there was to say
		case err != nil:
			return err
		}
		fmt.Printf("%s: %s\n", m.Value.From, m.Value.Text)
	}
	return nil
}

var errBye = errors.New("bye")

// say publishes standard input, until its end.
func say(ctx context.Context, room *shared.Topic[line], me string) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if _, err := room.Publish(ctx, line{From: me, Text: in.Text()}); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return errBye
}
