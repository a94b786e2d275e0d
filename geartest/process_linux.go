package geartest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// sysProcAttr makes the child the head of a group of its own, and the kernel kill it when we die.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// stopped reports whether all threads of a process have stopped: each stops by itself after the signal, and one that runs on could still send.
func stopped(pid int) (bool, error) {
	tasks := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(tasks + "/" + thread.Name() + "/stat")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return false, nil // a thread has just ended: look again
		}
		if err != nil {
			return false, err
		}
		// pid (name) state …, and a name may contain anything, so what counts is the last parenthesis.
		_, after, _ := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(" "))
		if len(after) == 0 || after[0] != 'T' {
			return false, nil
		}
	}
	return len(threads) > 0, nil
}
