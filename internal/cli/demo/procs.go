package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
)

// fleet is the worker processes. One goroutine uses it.
type fleet struct {
	exe, hub, root, token string
	procs                 map[cluster.NodeName]*process
}

type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	errs  tail
	gone  chan struct{} // closed when it was waited for
}

// start starts the worker of that name and returns when it says that it is a
// member.
func (f *fleet) start(ctx context.Context, name cluster.NodeName) error {
	p := &process{gone: make(chan struct{})}
	p.cmd = exec.Command(f.exe, //nolint:noctx // it ends with the demo, not with this call
		"demo-worker", "--name", string(name), "--hub", f.hub, "--root", f.root)
	p.cmd.Dir = f.root // no distgear.yaml here
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "DISTGEAR_") || strings.HasPrefix(kv, "DISTGEAR_DEMO_") {
			p.cmd.Env = append(p.cmd.Env, kv)
		}
	}
	p.cmd.Env = append(p.cmd.Env, "DISTGEAR_TOKEN="+f.token)
	p.cmd.Stderr = &p.errs
	p.cmd.WaitDelay = time.Second
	dieWithParent(p.cmd)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	line := make(chan string, 1) // one line is all it says
	go func() {                  // owned by close and kill, which end the process and wait for gone
		runtime.LockOSThread() // the thread must live as long as the process: see dieWithParent
		defer close(p.gone)
		err := p.cmd.Start()
		if started <- err; err != nil {
			return
		}
		s, _ := bufio.NewReader(stdout).ReadString('\n') // without one it is not ready
		line <- s
		_ = p.cmd.Wait() // how it ended is told by what is missing
	}()
	if err := <-started; err != nil {
		return err
	}
	p.stdin = stdin
	f.procs[name] = p
	select {
	case s := <-line:
		if strings.TrimSpace(s) != "ready" {
			return fmt.Errorf("worker %s ended before it was ready: %s", name, p.errs.String())
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("worker %s is not ready: %w", name, context.Cause(ctx))
	}
}

// kill ends a worker as kill -9 does.
func (f *fleet) kill(name cluster.NodeName) error {
	p := f.procs[name]
	if p == nil {
		return fmt.Errorf("no worker %s", name)
	}
	err := p.cmd.Process.Kill()
	<-p.gone
	_ = p.stdin.Close()
	delete(f.procs, name)
	return err
}

// close ends all workers: first, if there is time, by closing their stdin; then
// by force.
func (f *fleet) close(gently bool) {
	patience := time.Duration(0)
	if gently {
		patience = 2 * time.Second
	}
	late := make(chan struct{})
	t := time.AfterFunc(patience, func() { close(late) })
	defer t.Stop()
	for _, p := range f.procs {
		_ = p.stdin.Close() // it may be gone
	}
	for _, p := range f.procs {
		select {
		case <-p.gone:
		case <-late:
		}
	}
	for _, p := range f.procs {
		if err := p.cmd.Process.Kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
			<-p.gone
		}
	}
}

// complaints is what the workers wrote to stderr.
func (f *fleet) complaints() string {
	var b strings.Builder
	for name, p := range f.procs {
		if s := p.errs.String(); s != "" {
			fmt.Fprintf(&b, "── %s\n%s\n", name, s)
		}
	}
	return b.String()
}

// tail keeps the last of what is written to it. It is safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 8 << 10 // bytes

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
