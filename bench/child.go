package main

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

func newRole(sp spec) (*role, error) {
	switch sp.Side {
	case "distgear":
		if strings.HasPrefix(sp.Row, "shared-") {
			return sharedRole(sp)
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
