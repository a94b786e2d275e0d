// Command gear is a minimal program on DistGear: it joins, raises one event, says how long that took, and idles until its standard input ends.
//
//	gear alone        one node, no hub
//	gear hub          hosts the hub on a loopback port
//	gear worker URL   joins the hub at URL
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/distgear/distgear"
)

var hello = &distgear.Event[string, string]{Name: "hello", On: func(_ context.Context, _ *distgear.Run, s string) (string, error) { return "hello " + s, nil }}

func main() {
	start := time.Now()
	var cfg distgear.Config
	switch os.Args[1] {
	case "hub":
		cfg.Serve = "127.0.0.1:0"
	case "worker":
		cfg.Hub = os.Args[2]
	}
	ctx := context.Background()
	n, err := distgear.Join(ctx, cfg)
	check(err)
	check(n.Handle(hello))
	f, err := hello.Raise(ctx, n, "gear")
	check(err)
	s, err := f.Wait(ctx)
	check(err)
	if s != "hello gear" {
		check(fmt.Errorf("answered %q", s))
	}
	fmt.Printf("{\"URL\": %q, \"Values\": {\"main\": %d}}\n", n.HubURL(), time.Since(start).Nanoseconds())
	io.Copy(io.Discard, os.Stdin)
	check(n.Leave(ctx))
}

func check(err error) {
	if err != nil {
		fmt.Printf("{\"Err\": %q}\n", err.Error())
		os.Exit(1)
	}
}
