//go:build !unix

package geartest

import (
	"errors"
	"os"
	"syscall"
)

// Signals that do not exist here: sending them fails the test.
const (
	pause  = syscall.Signal(0x13)
	resume = syscall.Signal(0x12)
)

func sysProcAttr() *syscall.SysProcAttr { return nil }

func stopped(int) (bool, error) { return false, errors.ErrUnsupported }

// killGroup kills the child; there are no groups.
func killGroup(p *os.Process) error {
	if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
