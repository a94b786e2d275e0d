package main

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// workerRole is the first argument of a worker process; its second says whose.
const workerRole = "workspace-worker"

// runWorker is a worker process: it reads the secret from in, tells its address
// on out, and answers who has the secret until in ends, which it does at the
// latest when the node dies.
func runWorker(ctx context.Context, in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	secret, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("no secret: %w", err)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	whose := strings.Join(os.Args[2:], " ")
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: guarded(strings.TrimSpace(secret), http.HandlerFunc(
		func(w http.ResponseWriter, q *http.Request) {
			fmt.Fprintf(w, "%s %d %s\n", whose, os.Getpid(), q.URL.Path) //nolint:errcheck // the client is gone
		}))}
	go func() {
		_, _ = io.Copy(io.Discard, r) // until it ends, however
		_ = srv.Close()
	}()
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return err
	}
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// guarded lets through who has the secret.
func guarded(secret string, h http.Handler) http.Handler {
	want := []byte("Bearer " + secret)
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if subtle.ConstantTimeCompare([]byte(q.Header.Get("Authorization")), want) != 1 {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, q)
	})
}

// child is a worker process as its node holds it.
type child struct {
	cmd  *exec.Cmd
	addr string
	in   io.Closer
	done chan struct{}
}

// startChild starts a worker process and waits until it listens.
func startChild(ctx context.Context, whose, secret string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{done: make(chan struct{})}
	c.cmd = exec.Command(self, workerRole, whose) //nolint:noctx // it outlives the command that starts it
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = dieWithParent()
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c.in = in
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1) // the starter does not wait for us
	read := make(chan struct{})
	go func() { // one OS thread starts it and waits: the kernel ties "die with the parent" to the thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			<-read
			_ = c.cmd.Wait() // killed, as a rule
		}
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() })
	defer stop()
	_, err = fmt.Fprintln(in, secret)
	var line string
	if err == nil {
		line, err = bufio.NewReader(out).ReadString('\n')
	}
	close(read)
	if err != nil {
		c.stop()
		return nil, errors.Join(err, context.Cause(ctx))
	}
	c.addr = strings.TrimSpace(line)
	return c, nil
}

// stop ends the process and waits until it is gone.
func (c *child) stop() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.in.Close()
	<-c.done
}
