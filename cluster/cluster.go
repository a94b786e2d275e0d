// Package cluster says who is in a cluster: the nodes that joined under one
// name, as the others see them. distgear.Node's Members and Watch yield them.
//
//	for m, err := range n.Watch(ctx) {
//		if err == nil && m.State == cluster.Lost {
//			log.Printf("%s is gone since %v", m.Name, m.Since)
//		}
//	}
//
// # Guarantees
//
// Values only: nothing here changes by itself.
//
// # Failures
//
// Of UnmarshalText, at a word that is no state.
package cluster

import (
	"fmt"
	"slices"
	"time"
)

// NodeName is the name of a node: unique among the live members of a cluster.
type NodeName string

// Member is a node as the others see it.
type Member struct {
	Name        NodeName          `json:"name"`
	Incarnation uint64            `json:"incarnation"` // grows with every join under that name
	State       State             `json:"state"`
	Since       time.Time         `json:"since"` // when it came into that state
	Labels      map[string]string `json:"labels,omitempty"`
	Kinds       []string          `json:"kinds,omitempty"` // the actions and events it handles, sorted
	Version     string            `json:"version,omitempty"`
	Load        Load              `json:"load"`
}

// Load is what a node last told about itself.
type Load struct {
	CPU         float64        `json:"cpu"`          // share of the host's processors in use, 0 to 1
	Memory      uint64         `json:"memory"`       // bytes resident
	MemoryTotal uint64         `json:"memory_total"` // bytes of the host
	InFlight    int            `json:"in_flight"`    // commands it has not finished
	Kinds       map[string]int `json:"kinds,omitempty"`
}

// State is what the hub holds of a node.
type State uint8

// The states. Only alive nodes are chosen by distgear.Any.
const (
	Joining State = 1 + iota // being looked at by a handler of distgear.NodeJoin
	Alive
	Suspect // silent for half the TTL
	Left    // on purpose
	Lost    // silent for the TTL
)

var stateNames = [...]string{"", "joining", "alive", "suspect", "left", "lost"}

// String is the state in a word.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText writes the word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word.
func (s *State) UnmarshalText(b []byte) error {
	i := slices.Index(stateNames[:], string(b))
	if i <= 0 {
		return fmt.Errorf("no member state is called %q", b)
	}
	*s = State(i)
	return nil
}
