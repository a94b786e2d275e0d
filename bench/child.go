package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"
)

// childVar carries a child's spec. It does not start with DISTGEAR_, which the library would read.
const childVar = "BENCH_CHILD"

// spec says what a child process is and does.
type spec struct {
	Side    string // distgear, nats, grpc
	Role    string // hub, caller, worker
	Row     string
	URL     string        // the hub's, or for grpc what the role needs
	Host    bool          // a caller that hosts the hub itself
	Callers int           // concurrent callers
	Warm    time.Duration // before the window
	Window  time.Duration // measured
	Count   int           // operations, for rows that count rather than time
	Settle  time.Duration // before memory is read
	Profile string        // folder for profiles; empty means none
}

// reply is a line from a child to its parent.
type reply struct {
	Err    string             `json:",omitempty"`
	URL    string             `json:",omitempty"` // of the hub, where the child hosts one
	Addr   string             `json:",omitempty"` // of the child's gRPC server
	Calls  uint64             `json:",omitempty"` // commands sent and answered rightly
	Runs   uint64             `json:",omitempty"` // commands run by this process
	Values map[string]float64 `json:",omitempty"` // figures
}

// role is a child that stands ready: it answers questions from its parent, one line each, until its standard input ends.
type role struct {
	ready   reply
	answers map[string]func(arg string) (reply, error)
	stop    func()
}

func isChild() bool { return os.Getenv(childVar) != "" }

// runChild is the main function of a child process.
func runChild() int {
	var sp spec
	if err := json.Unmarshal([]byte(os.Getenv(childVar)), &sp); err != nil {
		fmt.Fprintln(os.Stderr, "bench child:", err)
		return 2
	}
	out := json.NewEncoder(os.Stdout)
	rl, err := newRole(sp)
	if err != nil {
		out.Encode(reply{Err: err.Error()})
		return 1
	}
	rl.answers["usage"] = usage
	out.Encode(rl.ready)
	var profile *os.File
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // the parent is done with this child, or gone
		}
		q, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		f := rl.answers[q]
		if f == nil {
			out.Encode(reply{Err: "unknown question " + q})
			continue
		}
		if sp.Profile != "" && profile == nil && (q == "run" || q == "count") {
			if profile, err = os.Create(filepath.Join(sp.Profile, sp.Row+"-"+sp.Side+"-"+sp.Role+".pprof")); err == nil {
				err = pprof.StartCPUProfile(profile)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "bench child:", err)
			}
		}
		r, err := f(arg)
		if err != nil {
			r.Err = err.Error()
		}
		out.Encode(r)
	}
	if profile != nil {
		pprof.StopCPUProfile()
		profile.Close()
		if err := writeProfile(sp, "allocs"); err != nil {
			fmt.Fprintln(os.Stderr, "bench child:", err)
		}
	}
	if rl.stop != nil {
		rl.stop()
	}
	return 0
}

// writeProfile writes the profile of that name beside the CPU profile.
func writeProfile(sp spec, name string) error {
	f, err := os.Create(filepath.Join(sp.Profile, sp.Row+"-"+sp.Side+"-"+sp.Role+"-"+name+".pprof"))
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}

func newRole(sp spec) (*role, error) {
	switch sp.Side {
	case "distgear":
		return gearRole(sp)
	case "nats":
		return natsRole(sp)
	case "grpc":
		return grpcRole(sp)
	}
	return nil, fmt.Errorf("no side %q", sp.Side)
}

// child is a process that the parent started.
type child struct {
	cmd   *exec.Cmd
	name  string
	in    io.WriteCloser
	lines chan string
	ready reply
}

// patience is how long a child may take over one answer.
const patience = 2 * time.Minute

// startSelf executes this binary again as the child that sp describes, and returns when the child is ready.
func startSelf(sp spec) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(sp)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(cleanEnv(), childVar+"="+string(b))
	return start(cmd, sp.Side+" "+sp.Role)
}

// start runs a program that prints a reply when it is ready.
func start(cmd *exec.Cmd, name string) (*child, error) {
	c := &child{cmd: cmd, name: name, lines: make(chan string, 1)} // one: the answer to the one question asked
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.lines)
		s := bufio.NewScanner(out)
		for s.Scan() {
			c.lines <- s.Text()
		}
	}()
	if c.ready, err = c.answer(); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// ask puts a question to the child and waits for the answer.
func (c *child) ask(question string) (reply, error) {
	if _, err := io.WriteString(c.in, question+"\n"); err != nil {
		return reply{}, fmt.Errorf("%s: %w", c.name, err)
	}
	return c.answer()
}

func (c *child) answer() (reply, error) {
	var r reply
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case line, ok := <-c.lines:
		if !ok {
			return r, fmt.Errorf("%s: the process ended", c.name)
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return r, fmt.Errorf("%s: %w in %q", c.name, err, line)
		}
		if r.Err != "" {
			return r, fmt.Errorf("%s: %s", c.name, r.Err)
		}
		return r, nil
	case <-t.C:
		return r, fmt.Errorf("%s: no answer within %v", c.name, patience)
	}
}

// stop ends the child: softly by the end of its input, hard after five seconds.
func (c *child) stop() {
	c.in.Close()
	hard := time.AfterFunc(5*time.Second, func() { c.cmd.Process.Kill() })
	defer hard.Stop()
	for range c.lines { // until its output ends
	}
	c.cmd.Wait()
}

// cleanEnv is this process's environment without what would configure a node.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "DISTGEAR_") && !strings.HasPrefix(kv, childVar+"=") {
			env = append(env, kv)
		}
	}
	return env
}
