package geartest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Child says what to start.
type Child struct {
	Role  string        // of Main's Roles; empty means that Path is a program of its own
	Path  string        // the program; empty means this test binary
	Args  []string      // nil means none
	Env   []string      // "KEY=value", on top of this process's environment; nil means none
	Dir   string        // working directory; empty means this process's
	Host  *Host         // where it runs; nil means beside the test
	Ready string        // how the line of its output begins that says it serves; empty means "ready", as the function Ready prints it
	Wait  time.Duration // for that line; zero means 30 s

	whole bool // all of its standard output is kept
}

// A Process is a child process of a test. Its methods may be called by several goroutines.
type Process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	ready string
	stdin *os.File // our end of a pipe
	out   output
	done  chan struct{} // closed when the process ended and its output was read
	err   error         // of cmd.Wait; read after done
}

// Start starts a child and waits until it says that it is ready; the test fails if it ends before, or takes too long. It is killed when the test is over, and
// what it printed is logged if the test failed.
func Start(t testing.TB, c Child) *Process {
	t.Helper()
	p, err := start(t, c)
	if err != nil {
		t.Fatalf("starting %s: %v", c.name(), err)
	}
	prefix, within := c.Ready, c.Wait
	if prefix == "" {
		prefix = "ready"
	}
	if within == 0 {
		within = patience
	}
	rest, ok := p.out.next(prefix, within, p.done)
	if !ok {
		select {
		case <-p.done:
			t.Fatalf("%s ended before it was ready: %v", p.name, p.state())
		default:
			t.Fatalf("%s was not ready after %v", p.name, within)
		}
	}
	p.ready = rest
	return p
}

func (c Child) name() string {
	switch {
	case c.Role != "":
		return c.Role
	case c.Path != "":
		return c.Path[strings.LastIndexByte(c.Path, '/')+1:]
	}
	return "child"
}

func start(t testing.TB, c Child) (*Process, error) {
	if _, child := os.LookupEnv(roleEnv); child {
		return nil, errors.New("this is a child itself: TestMain must call geartest.Main")
	}
	path := c.Path
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		path = self
	}
	argv := append(c.Host.prefix(), path)
	p := &Process{t: t, name: c.name(), done: make(chan struct{})}
	if c.whole {
		p.out.whole = new(bytes.Buffer)
	}
	p.cmd = exec.Command(argv[0], append(argv[1:], c.Args...)...) //nolint:noctx // it ends when the test says so, in its own way
	p.cmd.Dir = c.Dir
	p.cmd.Env = append(os.Environ(), c.Env...)
	if os.Getenv("GORACE") == "" {
		p.cmd.Env = append(p.cmd.Env, "GORACE=atexit_sleep_ms=10") // under the race detector each process would take a second to end
	}
	if c.Role != "" {
		p.cmd.Env = append(p.cmd.Env, roleEnv+"="+c.Role)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, p.out.stderr()
	p.cmd.SysProcAttr = sysProcAttr()
	p.cmd.WaitDelay = time.Second // for what a child of the child still holds open
	stdin, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = stdin.Close() }() // the child has its own copy
	p.cmd.Stdin, p.stdin = stdin, w
	started := make(chan error, 1) // the sender may be gone before we look
	go p.run(started)
	if err := <-started; err != nil {
		_ = w.Close()
		return nil, err
	}
	t.Cleanup(p.cleanup)
	return p, nil
}

// run starts the process and waits for it on one OS thread, because the kernel ties "kill it when the parent dies" to the thread that started it.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	p.out.end()
	close(p.done)
}

func (p *Process) cleanup() {
	if err := killGroup(p.cmd.Process); err != nil {
		p.t.Errorf("killing %s: %v", p.name, err)
	}
	<-p.done
	_ = p.stdin.Close()
	if strings.Contains(p.Output(), "WARNING: DATA RACE") {
		p.t.Errorf("%s has a data race", p.name)
	}
	if p.t.Failed() {
		p.t.Logf("%s (pid %d, %v) printed:\n%s", p.name, p.Pid(), p.state(), p.Output())
	}
}

// Ready returns what followed the word in the line that said the process is ready.
func (p *Process) Ready() string { return p.ready }

// Pid returns the id of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the process ended by itself, and returns how: nil for exit code 0, otherwise an *exec.ExitError. The test fails after 30 s.
func (p *Process) Wait() error {
	p.t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		p.t.Fatalf("%s has not ended after %v", p.name, patience)
		return nil
	}
}

// Kill ends the process as a crash does (SIGKILL), also when it is paused, and returns when it is gone.
func (p *Process) Kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end (SIGTERM: a role's context ends) and returns as Wait does.
func (p *Process) Stop() error {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	return p.Wait()
}

// Pause stops the process where it stands (SIGSTOP), as a long garbage collection, a suspended machine or a debugger does, and returns when all of its threads
// have stopped. Its connections stay open, and its kernel goes on acknowledging what arrives.
func (p *Process) Pause() {
	p.t.Helper()
	p.signal(pause)
	var err error
	if !poll(patience, func() bool {
		var is bool
		is, err = stopped(p.Pid())
		return is || err != nil
	}) {
		p.t.Fatalf("%s has not stopped after %v", p.name, patience)
	}
	if err != nil {
		p.t.Fatalf("pausing %s: %v", p.name, err)
	}
}

// Resume lets a paused process go on.
func (p *Process) Resume() {
	p.t.Helper()
	p.signal(resume)
}

// signal sends a signal. A process that has ended already is not an error for Kill and Stop, and is for the others.
func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	err := p.cmd.Process.Signal(s)
	if err == nil || errors.Is(err, os.ErrProcessDone) && (s == syscall.SIGKILL || s == syscall.SIGTERM) {
		return
	}
	p.t.Fatalf("sending %v to %s: %v", s, p.name, err)
}

// Say writes a line to the process's standard input.
func (p *Process) Say(line string) {
	p.t.Helper()
	if _, err := p.stdin.WriteString(line + "\n"); err != nil {
		p.t.Fatalf("telling %s %q: %v", p.name, line, err)
	}
}

// Line waits for the next line on standard output that begins with prefix, passing over others, and returns what follows the prefix, without spaces around it.
// The test fails if the process ends before, or after 30 s.
func (p *Process) Line(prefix string) string {
	p.t.Helper()
	rest, ok := p.out.next(prefix, patience, p.done)
	if !ok {
		p.t.Fatalf("%s (%v) printed no line that begins with %q", p.name, p.state(), prefix)
	}
	return rest
}

// Output returns what the process printed up to now, standard error included: the last 2,000 lines.
func (p *Process) Output() string { return p.out.String() }

// state says in words whether and how the process ended.
func (p *Process) state() string {
	select {
	case <-p.done:
		return p.cmd.ProcessState.String()
	default:
		return "running"
	}
}

// maxLines is how many lines of a child's output are kept.
const maxLines = 2000

// output collects the lines of a child, as the writer that exec copies its standard output into.
type output struct {
	mu      sync.Mutex
	partial []byte        // of standard output, up to the next newline
	stdout  []string      // lines that next has not seen
	all     []string      // the last lines of both
	whole   *bytes.Buffer // standard output; nil: it is not kept
	changed chan struct{} // closed when a line comes; nil while nobody waits
}

// Write takes what the child printed on standard output.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.whole != nil {
		o.whole.Write(b)
	}
	for line := range bytes.Lines(b) {
		o.partial = append(o.partial, line...)
		if bytes.HasSuffix(line, []byte("\n")) {
			o.add(string(bytes.TrimRight(o.partial, "\r\n")), true)
			o.partial = o.partial[:0]
		}
	}
	return len(b), nil
}

// end takes what was left of a line when the child ended.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.add(string(o.partial), true)
		o.partial = nil
	}
}

// add keeps a line. The caller holds mu.
func (o *output) add(line string, stdout bool) {
	if stdout {
		o.stdout = keep(o.stdout, line)
	}
	o.all = keep(o.all, line)
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

func keep(lines []string, line string) []string {
	if len(lines) >= maxLines {
		lines = slices.Delete(lines, 0, len(lines)-maxLines+1)
	}
	return append(lines, line)
}

// next takes lines until one begins with prefix. It returns false if none came in time, or the child has ended and none is left.
func (o *output) next(prefix string, within time.Duration, done <-chan struct{}) (string, bool) {
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		over := false
		select {
		case <-done:
			over = true // all its lines are here: look at them once more
		default:
		}
		o.mu.Lock()
		for len(o.stdout) > 0 {
			line := o.stdout[0]
			o.stdout = o.stdout[1:]
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				o.mu.Unlock()
				return strings.TrimSpace(rest), true
			}
		}
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if over {
			return "", false
		}
		select {
		case <-changed:
		case <-done:
		case <-late.C:
			return "", false
		}
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.all, "\n")
}

// stderr is a writer for standard error, whose lines Line does not see.
func (o *output) stderr() *errorLines { return &errorLines{o: o} }

type errorLines struct {
	o       *output
	partial []byte // used by exec's one copying goroutine only
}

func (e *errorLines) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		e.partial = append(e.partial, line...)
		if bytes.HasSuffix(line, []byte("\n")) {
			e.o.mu.Lock()
			e.o.add("! "+string(bytes.TrimRight(e.partial, "\r\n")), false)
			e.o.mu.Unlock()
			e.partial = e.partial[:0]
		}
	}
	return len(b), nil
}
