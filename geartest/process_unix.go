//go:build unix

package geartest

import (
	"errors"
	"os"
	"syscall"
)

const (
	pause  = syscall.SIGSTOP
	resume = syscall.SIGCONT
)

// killGroup kills a child and what it may have started.
func killGroup(p *os.Process) error {
	if err := syscall.Kill(-p.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) { // they ended by themselves
		return err
	}
	return nil
}
