package geartest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main(m, Roles{
		"echo":   echo,
		"dial":   dial,
		"count":  count,
		"fails":  func(context.Context, []string) error { return errors.New("as it was told") },
		"silent": func(ctx context.Context, _ []string) error { <-ctx.Done(); return nil },
		"parent": parent,
		"node":   NodeRole(handlers),
		"calls": ScenarioRole(calls(nil), func() Scenario {
			return Scenario{Name: "modes", Run: func(context.Context, *Part) error { return nil }}
		}),
		"bad":    ScenarioRole(badScenario),
		"shares": shares,
	})
}

// echo answers each line of standard input, then ends with the exit code it was given as its argument.
func echo(_ context.Context, args []string) error {
	fmt.Fprintln(os.Stderr, "a line on standard error")
	fmt.Println("noise before")
	Ready(os.Getpid(), args[0])
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if in.Text() == "end" {
			code, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			fmt.Print("last words") // without a newline
			os.Exit(code)
		}
		fmt.Println("noise")
		fmt.Println("heard", in.Text())
	}
	return in.Err()
}

// count prints numbers as fast as it is read.
func count(ctx context.Context, _ []string) error {
	Ready()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
			fmt.Println("n", i)
		case <-ctx.Done():
			fmt.Println("stopping", context.Cause(ctx))
			return nil
		}
	}
}

// parent starts a child of its own, which ignores that its parent ends, and says its id.
func parent(ctx context.Context, _ []string) error {
	cmd := exec.Command("sleep", "1000")
	cmd.Stdout = os.Stdout // holds our pipe open
	if err := cmd.Start(); err != nil {
		return err
	}
	Ready(cmd.Process.Pid)
	<-ctx.Done()
	return nil
}

// listenEcho serves an echo of bytes until stopped.
func listenEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// dial is a host's program: "serve ADDR" echoes on an address; "ADDR" keeps a connection to one, sends each line it hears on standard input and prints what
// comes back.
func dial(ctx context.Context, args []string) error {
	if args[0] == "serve" {
		l, err := net.Listen("tcp", args[1])
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { l.Close() })
		Ready(l.Addr())
		listenEcho(l)
		return nil
	}
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	Ready()
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			fmt.Fprintln(c, in.Text())
			fmt.Println("sent", in.Text())
		}
	}()
	back := bufio.NewScanner(c)
	for back.Scan() {
		fmt.Println("back", back.Text())
	}
	return back.Err()
}
