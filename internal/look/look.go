// Package look is what can be asked of a ledger, or of the executors in the memory of
// a node, and the answers: queries, pages, and how each thing stands. They travel
// as JSON. It is pure.
//
//	q := look.Query{What: look.Tasks, Executor: "render", State: "parked"}
//	p, ok := s.Page(q) // of a shard
//
// # Guarantees
//
// Names in JSON stay as they are: nodes and hubs of several versions ask each other.
//
// # Failures
//
// What is not asked for is left out; nothing here fails.
package look

import "github.com/distgear/distgear/internal/machine"

// What a Query asks for.
const (
	Locks    = "locks"
	Objects  = "objects"
	Queues   = "queues"
	Sessions = "sessions"

	Executors = "executors"
	Tasks     = "tasks"     // of one executor
	Schedules = "schedules" // of one executor
)

// Query asks for a page of what there is, by name.
type Query struct {
	What   string `json:"what"`
	Prefix string `json:"prefix,omitempty"` // of the name; of a session, of its node's name
	After  string `json:"after,omitempty"`  // what comes after this: a Page's Next
	Limit  int    `json:"limit,omitempty"`  // at most so many; zero: 100; at most 1000

	// Of Schedules Executor, and as ID the name of the only one that is asked for. Of Tasks, by number, the newest first; Prefix is of the ID, and ID is of the only one.
	Executor string `json:"executor,omitempty"`
	State    string `json:"state,omitempty"` // one of tasks.Words
	Kind     string `json:"kind,omitempty"`
	Key      string `json:"key,omitempty"`
	ID       string `json:"id,omitempty"`
}

// MaxPage is how many bytes a page has as JSON, about, before it ends; one thing more
// may be in it.
const MaxPage = 256 << 10

// Page is the answer to a Query. Times are ledger ms.
type Page struct {
	Now      int64          `json:"now"` // ledger time of the last entry that was applied
	Locks    []LockState    `json:"locks,omitempty"`
	Objects  []ObjectState  `json:"objects,omitempty"`
	Queues   []QueueState   `json:"queues,omitempty"`
	Sessions []SessionState `json:"sessions,omitempty"`

	Executors []ExecutorState `json:"executors,omitempty"` // of Tasks: the one, if there is such
	Tasks     []TaskState     `json:"tasks,omitempty"`
	Schedules []ScheduleState `json:"schedules,omitempty"`

	Next string `json:"next,omitempty"` // After of the next page; empty: this is the last
}

// Party is one that holds a lock or waits for it.
type Party struct {
	Node     string          `json:"node"`
	Session  machine.Session `json:"session"`
	Token    uint64          `json:"token,omitempty"` // of a holder: the grant's number
	Mode     string          `json:"mode"`            // "read" or "write"
	Since    int64           `json:"since"`
	Recalled bool            `json:"recalled,omitempty"` // of a holder: it was asked back
	Try      bool            `json:"try,omitempty"`      // of a place: it does not wait long
}

// Sleeper is a goroutine on a condition of a lock.
type Sleeper struct {
	Node     string          `json:"node"`
	Session  machine.Session `json:"session"`
	Since    int64           `json:"since"`
	Notified bool            `json:"notified,omitempty"` // and has not the lock again yet
}

// LockState is one lock. The lists have the first 64; the counts are of all.
type LockState struct {
	Name        string    `json:"name"`
	Param       uint64    `json:"param,omitempty"`
	Holders     []Party   `json:"holders,omitempty"`
	Queue       []Party   `json:"queue,omitempty"`
	Waiters     []Sleeper `json:"waiters,omitempty"`
	Queued      int       `json:"queued,omitempty"`  // places, one for each session
	Waiting     int       `json:"waiting,omitempty"` // goroutines on conditions
	Contentions uint32    `json:"contentions,omitempty"`
}

// ObjectState is one object of any kind.
type ObjectState struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"`
	Param   uint64   `json:"param,omitempty"`
	Open    int      `json:"open"`            // sessions that have it open
	Nodes   []string `json:"nodes,omitempty"` // of those, the first 16
	Entries int      `json:"entries"`         // what it holds: entries, items, subscribers, permits in use
	Waiting int      `json:"waiting,omitempty"`
	Value   int64    `json:"value,omitempty"` // of a counter, a latch, a wait group
}

// QueueState is one queue.
type QueueState struct {
	Name     string `json:"name"`
	Length   int    `json:"length"`
	Capacity int    `json:"capacity,omitempty"` // zero: none
	Takers   int    `json:"takers,omitempty"`   // who wait for an item
	Putters  int    `json:"putters,omitempty"`  // who wait for room
}

// SessionState is one session.
type SessionState struct {
	Node    string          `json:"node"`
	ID      machine.Session `json:"id"`
	TTL     int64           `json:"ttl"`               // ms
	Open    int             `json:"open"`              // objects
	Unacked int             `json:"unacked,omitempty"` // bytes told to it that it has not acknowledged
}
