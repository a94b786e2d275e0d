package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/distgear/distgear/bench/proc"
)

// programs are the minimal programs of the sides. They are programs of their own, not this binary, because what this one imports would be in their memory
// and in their start. The zero value is ready; they are built when first needed. Not safe for concurrent use.
type programs struct {
	dir   string // empty until something is built
	named named
}

// named is the programs that the command line names, by side.
type named map[string]string

func (n named) String() string { return fmt.Sprint(map[string]string(n)) }

// Set takes SIDE=PATH.
func (n *named) Set(text string) error {
	side, path, ok := strings.Cut(text, "=")
	if !ok || titles[side] == "" || path == "" {
		return fmt.Errorf("SIDE=PATH is asked for, not %q", text)
	}
	if *n == nil {
		*n = named{}
	}
	(*n)[side] = path
	return nil
}

func (p *programs) drop() {
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// folder makes the folder that the programs are in, once.
func (p *programs) folder() (err error) {
	if p.dir != "" {
		return nil
	}
	if p.dir, err = os.MkdirTemp("", "distgear-bench-"); err != nil {
		return err
	}
	return os.Mkdir(filepath.Join(p.dir, "empty"), 0o755)
}

// build builds a program of this module, once.
func (p *programs) build(folder string) (bin string, err error) {
	if err := p.folder(); err != nil {
		return "", err
	}
	bin = filepath.Join(p.dir, filepath.Base(folder))
	if _, err := os.Stat(bin); err != nil {
		out, err := exec.Command("go", "build", "-o", bin, "github.com/distgear/distgear/bench/"+folder).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("go build (run this in bench/): %w\n%s", err, out)
		}
	}
	return bin, nil
}

// child starts a process of a trial: this binary again, the program of most rivals, that of Temporal, or one that the command line names.
func (p *programs) child(sp spec) (*proc.Child, error) {
	var bin string
	var err error
	switch {
	case sp.Side == "distgear":
		return proc.StartSelf(sp)
	case sp.Side == "dbos" && sp.Role == "hub": // PostgreSQL
		bin, err = p.build("rivals")
	case p.named[sp.Side] != "":
		bin = p.named[sp.Side]
	case sp.Side == "temporal":
		bin, err = p.buildDurable()
	case sp.Side == "goworkflows", sp.Side == "dbos":
		err = fmt.Errorf("no program: name one with -program %s=PATH (see README.md)", sp.Side)
	default:
		bin, err = p.build("rivals")
	}
	if err != nil {
		return nil, err
	}
	return proc.StartProgram(bin, sp)
}

// buildDurable builds the program of Temporal's side and, beside it, Temporal's server: modules of their own, which take minutes and much of a disk.
func (p *programs) buildDurable() (bin string, err error) {
	if err := p.folder(); err != nil {
		return "", err
	}
	bin = filepath.Join(p.dir, "durable")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	for _, b := range []struct{ folder, to, what string }{
		{"durable/server", filepath.Join(p.dir, "temporal"), "github.com/temporalio/cli/cmd/temporal"},
		{"durable", bin, "."},
	} {
		if out, err := exec.Command("go", "build", "-C", b.folder, "-o", b.to, b.what).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build (run this in bench/): %w\n%s", err, out)
		}
	}
	return bin, nil
}

// start runs a side's minimal program in an empty folder, where no distgear.yaml is.
func (p *programs) start(side, mode, url string) (*proc.Child, error) {
	bin, err := p.build("small/" + map[string]string{"distgear": "gear", "nats": "nats", "grpc": "grpc"}[side])
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, mode, url)
	cmd.Dir, cmd.Env = filepath.Join(p.dir, "empty"), proc.CleanEnv()
	var log bytes.Buffer // a node says at length who joins; shown only if the program fails
	cmd.Stderr = &log
	c, err := proc.Start(cmd, side+" "+mode)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, log.Bytes()) // start has waited for the program
	}
	return c, err
}
