package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/distgear/distgear/bench/proc"
)

// programs are the minimal programs of the sides. They are programs of their own, not this binary, because what this one imports would be in their memory
// and in their start. The zero value is ready; they are built when first needed. Not safe for concurrent use.
type programs struct {
	dir string // empty until something is built
}

func (p *programs) drop() {
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// build builds a program of this module, once.
func (p *programs) build(folder string) (bin string, err error) {
	if p.dir == "" {
		if p.dir, err = os.MkdirTemp("", "distgear-bench-"); err != nil {
			return "", err
		}
		if err := os.Mkdir(filepath.Join(p.dir, "empty"), 0o755); err != nil {
			return "", err
		}
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

// child starts a process of a trial: this binary again, or the program of etcd and redsync.
func (p *programs) child(sp spec) (*proc.Child, error) {
	if sp.Side != "etcd" && sp.Side != "redsync" {
		return proc.StartSelf(sp)
	}
	bin, err := p.build("rivals")
	if err != nil {
		return nil, err
	}
	return proc.StartProgram(bin, sp)
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
