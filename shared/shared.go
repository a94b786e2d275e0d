// Package shared holds objects that every node of a cluster can see: locks,
// conditions, barriers, counters, maps, queues. In a process that is alone they
// are what the same objects are in any program.
//
//	m := shared.NewMutex(n, "accounts")       // cheap, no I/O
//	lease, err := m.Lock(ctx)
//	defer lease.Unlock()
//
//	q := shared.NewQueue[Job](n, "jobs", 100) // bounded
//	err = q.Put(ctx, job)                     // blocks while it is full
//
// An object is known by its name, at most 256 bytes; the first use makes it. The
// same name used as another kind, or with another size, is an error
// (ErrMismatch). An object lives until Destroy, or until nobody could tell the
// difference: it is empty, nobody holds it and nobody waits.
//
// A node keeps a handle of each object but locks that it has
// used, and the hub notes it, until the object is destroyed or the node leaves: use few
// names of these, not one for each request. All other objects are forgotten at the node when
// nobody has one of them any more, locks when they were not used for a minute or two.
//
// Values are encoded as package distgear does it. In a process that is alone
// they are handed on as they are: do not change what you have put in.
//
// # Guarantees
//
// What an operation answered is in the hub's ledger: on disk if the hub has a
// directory. Operations of one object are linearizable; what a node did before it
// released a lock is seen by everybody who gets the lock after it. Every grant has
// a Token that only grows. docs/guarantees.md has a row for each object.
//
// # Failures
//
// Every method that may block obeys its context. When the node's session with
// the hub is lost, what the node held is lost (Lease.Lost), waiting ends with
// ErrSessionLost, and operations under way end with it too: their outcome is
// unknown. Later operations work in a new session. While the hub is away,
// operations wait. ErrDestroyed, ErrMismatch, ErrNotHeld and ErrInvalid mean that
// nothing was changed.
package shared

import (
	"errors"
	"fmt"
	"slices"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/objects"
)

// The errors of shared objects.
var (
	ErrDestroyed   = objects.ErrDestroyed
	ErrMismatch    = objects.ErrMismatch
	ErrSessionLost = objects.ErrSessionLost
	ErrNotHeld     = objects.ErrNotHeld
	ErrHeld        = objects.ErrHeld
	ErrUpgrade     = objects.ErrUpgrade
	ErrBroken      = errors.New("shared: the barrier is broken")
	ErrInvalid     = objects.ErrInvalid
)

// LostError is ErrSessionLost, and names what was under way: its outcome is
// unknown.
type LostError struct {
	Op, Object string // what this call asked for

	// Unconfirmed is what this node had sent in that session and was not told to be
	// done, also by other goroutines, oldest first, as `counter add of "n"`: at most 64,
	// and one that says how many there are besides.
	Unconfirmed []string
}

// Error says what is unknown.
func (e *LostError) Error() string {
	return fmt.Sprintf("%s of %q: the session with the hub was lost: it is not known whether it was done", e.Op, e.Object)
}

// Is makes it ErrSessionLost and distgear.ErrUnknown.
func (e *LostError) Is(target error) bool {
	return target == ErrSessionLost || target == distgear.ErrUnknown
}

// Token fences: of two grants of one object the later has the higher Token, on
// whatever node and after whatever crash of the hub. A resource that remembers
// the highest one it has seen can refuse what comes late.
type Token uint64

// host is where a node's objects are.
func host(n *distgear.Node) objects.Host {
	r := n.Room()
	return objects.Host{Room: r, Unknown: func(op, name string, _ error) error {
		loss := r.Ledger.Loss()
		e := &LostError{Op: op, Object: name, Unconfirmed: slices.Clone(loss.Unconfirmed)}
		if loss.More > 0 {
			e.Unconfirmed = append(e.Unconfirmed, fmt.Sprintf("and %d more", loss.More))
		}
		return e
	}}
}
