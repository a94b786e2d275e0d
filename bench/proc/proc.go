// Package proc is how the processes of a trial are started and talked to: a child prints one line of JSON when it is ready, and one for each question
// on its standard input, until that ends.
package proc

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

// Spec says what a child process is and does.
type Spec struct {
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
	Node    int           // number of the process among those that do the same
	Page    string        // file of the page that judges a lock
	Dir     string        // folder for what a server keeps; a hub without one keeps it in memory
	Name    string        // of a hub among several
	Listen  string        // where a hub listens; empty means a port of the system's choice
	Route   string        // of a hub among several
	Peers   []string      // the routes of all of them
}

// Reply is a line from a child to its parent.
type Reply struct {
	Err    string             `json:",omitempty"`
	URL    string             `json:",omitempty"` // of the hub, where the child hosts one
	Addr   string             `json:",omitempty"` // of the child's gRPC server
	Calls  uint64             `json:",omitempty"` // commands sent and answered rightly
	Runs   uint64             `json:",omitempty"` // commands run by this process
	Values map[string]float64 `json:",omitempty"` // figures
}

// Role is a child that stands ready: it answers questions from its parent, one line each, until its standard input ends.
type Role struct {
	Ready   Reply
	Answers map[string]func(arg string) (Reply, error)
	Stop    func()
}

// IsChild tells whether this process is a child of a trial.
func IsChild() bool { return os.Getenv(childVar) != "" }

// Run is the main function of a child process.
func Run(newRole func(Spec) (*Role, error)) int {
	var sp Spec
	if err := json.Unmarshal([]byte(os.Getenv(childVar)), &sp); err != nil {
		fmt.Fprintln(os.Stderr, "bench child:", err)
		return 2
	}
	out := json.NewEncoder(os.Stdout)
	rl, err := newRole(sp)
	if err != nil {
		out.Encode(Reply{Err: err.Error()})
		return 1
	}
	rl.Answers["usage"] = usage
	out.Encode(rl.Ready)
	var profile *os.File
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // the parent is done with this child, or gone
		}
		q, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		f := rl.Answers[q]
		if f == nil {
			out.Encode(Reply{Err: "unknown question " + q})
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
		if err := WriteProfile(sp, "allocs", ""); err != nil {
			fmt.Fprintln(os.Stderr, "bench child:", err)
		}
	}
	if rl.Stop != nil {
		rl.Stop()
	}
	return 0
}

// WriteProfile writes the profile of that name beside the CPU profile; the tag tells several apart.
func WriteProfile(sp Spec, name, tag string) error {
	f, err := os.Create(filepath.Join(sp.Profile, sp.Row+"-"+sp.Side+"-"+sp.Role+"-"+name+tag+".pprof"))
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}

// Child is a process that the parent started.
type Child struct {
	Cmd   *exec.Cmd
	name  string
	in    io.WriteCloser
	lines chan string
	Ready Reply
}

// patience is how long a child may take over one answer.
const patience = 2 * time.Minute

// StartSelf executes this binary again as the child that sp describes, and returns when the child is ready.
func StartSelf(sp Spec) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return StartProgram(self, sp)
}

// StartProgram executes a program whose main function is Run.
func StartProgram(path string, sp Spec) (*Child, error) {
	b, err := json.Marshal(sp)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Env = append(CleanEnv(), childVar+"="+string(b))
	return Start(cmd, sp.Side+" "+sp.Role)
}

// Start runs a program that prints a reply when it is ready.
func Start(cmd *exec.Cmd, name string) (*Child, error) {
	c := &Child{Cmd: cmd, name: name, lines: make(chan string, 1)} // one: the answer to the one question asked
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
	if c.Ready, err = c.answer(); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// Ask puts a question to the child and waits for the answer.
func (c *Child) Ask(question string) (Reply, error) {
	if _, err := io.WriteString(c.in, question+"\n"); err != nil {
		return Reply{}, fmt.Errorf("%s: %w", c.name, err)
	}
	return c.answer()
}

func (c *Child) answer() (Reply, error) {
	var r Reply
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

// Stop ends the child: softly by the end of its input, hard after five seconds.
func (c *Child) Stop() {
	c.in.Close()
	hard := time.AfterFunc(5*time.Second, func() { c.Cmd.Process.Kill() })
	defer hard.Stop()
	for range c.lines { // until its output ends
	}
	c.Cmd.Wait()
}

// CleanEnv is this process's environment without what would configure a node.
func CleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "DISTGEAR_") && !strings.HasPrefix(kv, childVar+"=") {
			env = append(env, kv)
		}
	}
	return env
}
