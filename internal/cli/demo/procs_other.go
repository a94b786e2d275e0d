//go:build !linux

package demo

import "os/exec"

// dieWithParent does nothing here: workers end when their stdin does.
func dieWithParent(*exec.Cmd) {}
