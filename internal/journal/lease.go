package journal

import "time"

// Journal takes what is recorded of one durable run, for the node that owns it.
// Its other side is the hub, or a fake.
type Journal interface {
	// Append appends e as a whole, after all that was appended before. then is
	// called once, in the order of the calls and not from within Append: with nil
	// when e is kept for good, else when it was refused; what follows is refused
	// too. A journal whose node has died may never call it.
	Append(e Entry, then func(err error))
}

// Entry is what is appended at once.
type Entry struct {
	Unit  []byte   // one input and what follows from it; empty: nothing is recorded
	Took  []uint64 // the numbers of the signals that it takes
	Give  *Give    // the run is given back; this is the last entry of its owner
	Stuck string   // a step that needs a person from now on; empty: none
}

// Why says why a run is given back.
type Why uint8

// The reasons.
const (
	Finished  Why = 1 + iota // Report says how
	Suspended                // it waits for Until or a signal; for neither: another node may go on at once
	Parked                   // a person has to decide: Text says about what
	Panicked                 // its handler did: Text
)

// Give is how a run is given back.
type Give struct {
	Why     Why
	Until   time.Time // zero: for no instant
	Signals []string
	Text    string
	State   string // a record.RunState
	Report  Report
	Summary func() []byte // of a run that has ended: a record.Run in JSON, for when its journal is not kept; to be called within Append
}

// Lease is what the owner of a durable run begins with.
type Lease struct {
	Journal   Journal
	Epoch     uint64    // not zero; higher than that of all owners before
	Units     [][]byte  // all that was appended, in order
	Signals   []Signal  // not taken yet
	Started   time.Time // when it was accepted; zero: now
	Cancelled bool
	Adopt     bool // a person decided: plans of another shape go on in that
	Unwind    bool // the run has ended and is to be undone: the handler is called for its plans

	// Past is what Units tell, once the run has begun: which plans its handler has
	// come to may be read while Journal is called.
	Past *Past
}

// Signal is a signal to a run.
type Signal struct {
	Number uint64 // of the run's
	Name   string
	Value  []byte
}
