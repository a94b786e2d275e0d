// Workspaces is a private cloud's workspace manager. A workspace is a directory
// tree, a shared secret, worker processes that listen on ports, and a reverse
// proxy before them; one event makes all of it, on several nodes, or nothing.
//
//	workspaces node -label storage=yes -dir /srv/workspaces   # handles the events
//	workspaces node -label worker=yes
//	workspaces node -label proxy=yes
//
// A node does what its labels say. Exactly one node has storage=yes: it keeps,
// on its disk, what workspaces there are, and orders the events of each. Workers
// and proxies keep what they hold in memory: it ends with their process.
//
// # Failures
//
// An event that fails leaves the workspace as it was. A worker's node that dies
// takes its worker processes with it; the next scale, stop or destroy passes
// over it. When the storage node dies, the others stop what they hold for it,
// and it sweeps half-made directories when it starts again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == workerRole:
		err = runWorker(ctx, os.Stdin, os.Stdout)
	case len(os.Args) > 1 && os.Args[1] == "node":
		err = runNode(ctx, os.Args[2:])
	default:
		err = fmt.Errorf("usage: workspaces node [-hub URL] [-serve ADDR] [-name NAME] [-label storage=yes|worker=yes|proxy=yes]… [-dir DIR]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// labels are flags that may be repeated.
type labels map[string]string

func (l labels) String() string { return fmt.Sprint(map[string]string(l)) }

func (l labels) Set(s string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("want key=value")
	}
	l[k] = v
	return nil
}

// runNode runs a node until it is interrupted.
func runNode(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("node", flag.ContinueOnError)
	l := labels{}
	hub := fs.String("hub", "", "NATS address of the hub; empty means DISTGEAR_HUB, or alone")
	serve := fs.String("serve", "", "address on which to host the hub; empty means it does not")
	name := fs.String("name", "", "of the node; empty means the host's and a suffix")
	dir := fs.String("dir", "workspaces.data", "where the storage node keeps the workspaces")
	fs.Var(l, "label", "storage=yes, worker=yes, proxy=yes; none means all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if len(l) == 0 {
		l = labels{"storage": "yes", "worker": "yes", "proxy": "yes"}
	}
	n, err := distgear.Join(ctx, distgear.Config{Hub: *hub, Serve: *serve, Name: cluster.NodeName(*name), Labels: l})
	if err != nil {
		return err
	}
	a, err := newActor(n, l, *dir, nil)
	if err != nil {
		_ = n.Leave(ctx) // the error that counts is why it has nothing to do
		return err
	}
	fmt.Println("ready", n.Name(), n.HubURL())
	<-ctx.Done()
	lctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = n.Leave(lctx)
	a.close()
	return err
}
