package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// start runs a side's minimal program in an empty folder, where no distgear.yaml is.
func (p *programs) start(side, mode, url string) (*child, error) {
	name := map[string]string{"distgear": "gear", "nats": "nats", "grpc": "grpc"}[side]
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "distgear-bench-")
		if err != nil {
			return nil, err
		}
		p.dir = dir
		if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
			return nil, err
		}
	}
	bin := filepath.Join(p.dir, name)
	if _, err := os.Stat(bin); err != nil {
		out, err := exec.Command("go", "build", "-o", bin, "github.com/distgear/distgear/bench/small/"+name).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("go build (run this in bench/): %w\n%s", err, out)
		}
	}
	cmd := exec.Command(bin, mode, url)
	cmd.Dir, cmd.Env = filepath.Join(p.dir, "empty"), cleanEnv()
	var log bytes.Buffer // a node says at length who joins; shown only if the program fails
	cmd.Stderr = &log
	c, err := start(cmd, side+" "+mode)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, log.Bytes()) // start has waited for the program
	}
	return c, err
}
