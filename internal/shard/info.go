package shard

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distgear/distgear/internal/machine"
)

// SessionInfo is what there is to tell of a session.
type SessionInfo struct {
	ID   machine.Session
	Name string // of the node
	TTL  time.Duration
}

// Sessions are the sessions, by ID. The answer is not nil.
func (s *Shard) Sessions() []SessionInfo {
	all := make([]SessionInfo, 0, len(s.sessions))
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		ses := s.sessions[id]
		all = append(all, SessionInfo{id, ses.name, TTL(ses.ttl)})
	}
	return all
}

// TTL is a time-to-live as an entry has it: in ms, at most a day.
func TTL(ms uint64) time.Duration { return time.Duration(min(ms, 86_400_000)) * time.Millisecond }

// What a Query asks for.
const (
	Locks    = "locks"
	Objects  = "objects"
	Queues   = "queues"
	Sessions = "sessions"

	Executors = "executors"
	Tasks     = "tasks" // of one executor
)

// Query asks for a page of what the shard holds, by name.
type Query struct {
	What   string `json:"what"`
	Prefix string `json:"prefix,omitempty"` // of the name; of a session, of its node's name
	After  string `json:"after,omitempty"`  // what comes after this: a Page's Next
	Limit  int    `json:"limit,omitempty"`  // at most so many; zero: 100; at most 1000

	// Of Tasks, by number, the newest first; Prefix is of the ID, and ID is of the only one that is asked for.
	Executor string `json:"executor,omitempty"`
	State    string `json:"state,omitempty"` // one of tasks.Words
	Kind     string `json:"kind,omitempty"`
	Key      string `json:"key,omitempty"`
	ID       string `json:"id,omitempty"`
}

// A page ends before it is larger, and of one object no more is told.
const (
	listed     = 100
	maxListed  = 1000
	maxPage    = 256 << 10 // bytes as JSON, about, and those of one thing more
	maxPerLock = 64        // holders, places and waiters each
	maxOpeners = 16
)

// Page is the answer to a Query. Times are ledger ms.
type Page struct {
	Now      int64          `json:"now"` // ledger time of the last entry that was applied
	Locks    []LockState    `json:"locks,omitempty"`
	Objects  []ObjectState  `json:"objects,omitempty"`
	Queues   []QueueState   `json:"queues,omitempty"`
	Sessions []SessionState `json:"sessions,omitempty"`

	Executors []ExecutorState `json:"executors,omitempty"` // of Tasks: the one, if there is such
	Tasks     []TaskState     `json:"tasks,omitempty"`

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

// Totals counts.
func (s *Shard) Totals() (sessions, objects int) { return len(s.sessions), len(s.names) }

// Page answers a query; false: there is no such What. It looks at every name
// once: with a million objects that takes 0.15 s (BenchmarkPage_OfAMillion), in
// which the writer does nothing else.
func (s *Shard) Page(q Query) (p Page, ok bool) {
	if q.Limit <= 0 {
		q.Limit = listed
	}
	q.Limit = min(q.Limit, maxListed)
	p.Now = s.now
	if q.What == Sessions {
		s.pageSessions(&p, q)
		return p, true
	}
	if q.What == Tasks {
		s.pageTasks(&p, q)
		return p, true
	}
	var kind Kind
	switch q.What {
	case Locks:
		kind = KLock
	case Queues:
		kind = KQueue
	case Executors:
		kind = KExecutor
	case Objects:
	default:
		return p, false
	}
	first := newFirst(q)
	for name, o := range s.names {
		if first.wants(name) && (kind == 0 || o.kind == kind) { // the name first: o is not in the cache
			first.add(name)
		}
	}
	size := 0
	for _, name := range first.done() {
		if size > maxPage {
			first.more = true
			break
		}
		o := s.names[name]
		size += 128 + 2*len(name)
		p.Next = name
		switch q.What {
		case Locks:
			l := s.lockState(o)
			size += 128 * (len(l.Holders) + len(l.Queue) + len(l.Waiters))
			p.Locks = append(p.Locks, l)
		case Queues:
			x := &o.thing.(*queue).Queue
			t, w := x.Waiting()
			p.Queues = append(p.Queues, QueueState{name, x.Length(), int(min(o.param, maxItems)), t, w})
		case Executors:
			x := s.executorState(name, o.thing.(*executor))
			size += 256 + 64*len(x.Unserved)
			p.Executors = append(p.Executors, x)
		default:
			os := s.objectState(o)
			size += 32 * len(os.Nodes)
			p.Objects = append(p.Objects, os)
		}
	}
	if !first.more {
		p.Next = ""
	}
	return p, true
}

func (s *Shard) pageSessions(p *Page, q Query) {
	first := newFirst(q)
	byKey := make(map[string]*session, len(s.sessions))
	for id, ses := range s.sessions {
		key := ses.name + "\x00" + strconv.FormatUint(uint64(id), 16)
		if first.wants(key) {
			byKey[key] = ses
			first.add(key)
		}
	}
	for _, key := range first.done() {
		ses := byKey[key]
		p.Sessions = append(p.Sessions, SessionState{ses.name, ses.id, TTL(ses.ttl).Milliseconds(), ses.open, ses.out.size})
		p.Next = key
	}
	if !first.more {
		p.Next = ""
	}
}

// first collects the first names of a query, out of any order.
type first struct {
	q     Query
	names []string
	bound string // none after it is wanted; empty: all are
	more  bool   // there are others
}

func newFirst(q Query) *first { return &first{q: q} }

// wants tells whether a name is asked for, and not after those there are.
func (f *first) wants(name string) bool {
	return name > f.q.After && strings.HasPrefix(name, f.q.Prefix) && (f.bound == "" || name <= f.bound)
}

func (f *first) add(name string) {
	if f.names = append(f.names, name); len(f.names) >= 4*f.q.Limit {
		f.cut()
	}
}

func (f *first) cut() {
	slices.Sort(f.names)
	if len(f.names) > f.q.Limit {
		f.names, f.more = f.names[:f.q.Limit], true
		f.bound = f.names[f.q.Limit-1]
	}
}

func (f *first) done() []string {
	f.cut()
	return f.names
}

// node is the name of a session's node.
func (s *Shard) node(id machine.Session) string {
	if ses := s.sessions[id]; ses != nil {
		return ses.name
	}
	return ""
}

func (s *Shard) lockState(o *object) LockState {
	in := o.thing.(*lock).Info()
	l := LockState{Name: o.name, Param: o.param, Queued: len(in.Queue), Waiting: len(in.Waiters), Contentions: in.Contentions}
	for _, h := range head(in.Holders) {
		l.Holders = append(l.Holders, Party{s.node(h.Session), h.Session, h.Token, h.Mode.String(), h.Since, h.Recalled, false})
	}
	for _, w := range head(in.Queue) {
		l.Queue = append(l.Queue, Party{s.node(w.Session), w.Session, 0, w.Mode.String(), w.Since, false, w.Try})
	}
	for _, w := range head(in.Waiters) {
		l.Waiters = append(l.Waiters, Sleeper{s.node(w.Session), w.Session, w.Since, w.Notified})
	}
	return l
}

func head[E any](all []E) []E { return all[:min(len(all), maxPerLock)] }

func (s *Shard) objectState(o *object) ObjectState {
	st := ObjectState{Name: o.name, Kind: o.kind.String(), Param: o.param, Open: o.count()}
	if o.count() > 0 {
		for _, ses := range s.sessions {
			if o.of(ses) == 0 {
				continue
			}
			if st.Nodes = append(st.Nodes, ses.name); len(st.Nodes) == min(o.count(), maxOpeners) {
				break
			}
		}
		slices.Sort(st.Nodes)
	}
	switch x := o.thing.(type) {
	case *lock:
		in := x.Info()
		st.Entries, st.Waiting = len(in.Holders), len(in.Queue)+len(in.Waiters)
	case *queue:
		t, w := x.Queue.Waiting()
		st.Entries, st.Waiting = x.Length(), t+w
	case *mapOf:
		st.Entries = x.Entries()
	case *topic:
		st.Entries = x.Subscribers()
	case *executor:
		st.Entries = x.m.Len()
	case *semaphore:
		st.Entries, st.Waiting = int(x.Size()-x.Free()), x.Semaphore.Waiting()
	case *barrier:
		st.Waiting = x.Barrier.Waiting()
	case *latch:
		st.Waiting, st.Value = x.Latch.Waiting(), x.Missing()
	case *group:
		st.Waiting, st.Value = x.WaitGroup.Waiting(), x.Count()
	case *counter:
		st.Value = x.Value()
	}
	return st
}
