// Package sides is the processes of the sides that are measured: hubs, callers and workers on DistGear, on plain NATS, on gRPC, and on what Go itself has.
// A process stands ready, answers the questions of the parent, which is package main, and checks what it gets. The parent decides what runs when.
//
// Each side has its file (gear.go, nats.go, grpc.go; exec.go for executors; durable.go for durable events; shared.go, values.go and adder.go for shared objects, with Go's own beside DistGear's). What all sides do
// alike is in load.go and memory.go: the payloads, the loops that are timed, and the checks.
package sides

import (
	"fmt"
	"strings"

	"github.com/distgear/distgear/bench/proc"
)

// The words of package proc.
type (
	spec  = proc.Spec
	reply = proc.Reply
	role  = proc.Role
)

// New makes the process that a spec describes: it picks the side, and the side picks the role.
func New(sp proc.Spec) (*proc.Role, error) {
	switch sp.Side {
	case "distgear":
		if strings.HasPrefix(sp.Row, "shared-") {
			return sharedRole(sp)
		}
		if strings.HasPrefix(sp.Row, "exec-") {
			return execRole(sp)
		}
		if strings.HasPrefix(sp.Row, "durable-") {
			return durableRole(sp)
		}
		return gearRole(sp)
	case "go":
		return goRole(sp)
	case "nats":
		return natsRole(sp)
	case "grpc":
		return grpcRole(sp)
	}
	return nil, fmt.Errorf("no side %q", sp.Side)
}
