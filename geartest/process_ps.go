//go:build unix && !linux

package geartest

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// sysProcAttr makes the child the head of a group of its own. Only Linux kills it when we die.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// stopped asks ps.
func stopped(pid int) (bool, error) {
	out, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output() //nolint:noctx // ps answers at once
	return strings.HasPrefix(strings.TrimSpace(string(out)), "T"), err
}
