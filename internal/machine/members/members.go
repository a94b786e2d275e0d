package members

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// State is where a member's session with the hub stands. The zero value says
// that nothing is known.
type State uint8

// The states. A session goes Joining → Alive ⇄ Suspect → Left or Lost, and
// never back from the last two.
const (
	Joining State = 1 + iota // asked to join; it may be given work by its init event only
	Alive                    // admitted and heard from
	Suspect                  // silent for half a time-to-live
	Left                     // said that it goes, or was refused (then Reason says why)
	Lost                     // silent for a whole time-to-live
)

var stateNames = [...]string{"unknown", "joining", "alive", "suspect", "left", "lost"}

// String is the state's name in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(b []byte) error {
	for i, n := range stateNames {
		if n == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("members: no state is called %q", b)
}

// Live says that the session has begun and has not ended: Joining, Alive or
// Suspect.
func (s State) Live() bool { return s == Joining || s == Alive || s == Suspect }

// Over says that the session has ended: Left or Lost.
func (s State) Over() bool { return s == Left || s == Lost }

// Load is what a node carried when it was last heard.
type Load struct {
	CPU         float64        `json:"cpu"`             // 0..1 of the host
	Memory      uint64         `json:"memory"`          // bytes, resident set of the process
	MemoryTotal uint64         `json:"memoryTotal"`     // bytes of the host
	InFlight    int            `json:"inFlight"`        // commands being served
	Kinds       map[string]int `json:"kinds,omitempty"` // the same by kind
}

// Member is one session of one node. Its maps and slices are never changed
// after they were handed over, by either side.
type Member struct {
	Name        string            `json:"name"`
	Life        uint64            `json:"life"`        // of the node's endpoint; one process, one life
	Incarnation uint64            `json:"incarnation"` // of the session; grows with every join, over restarts of the hub
	State       State             `json:"state"`
	Since       time.Time         `json:"since"` // when the state began, by the hub's clock
	Reason      string            `json:"reason,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Kinds       []string          `json:"kinds,omitempty"` // kinds of command it handles, sorted
	Version     string            `json:"version,omitempty"`
	Load        Load              `json:"load"`
}

// Refused says that the member was turned away instead of admitted; Reason
// says why.
func (m *Member) Refused() bool { return m.State == Left && m.Reason != "" }

// Handles says whether the member handles a kind of command.
func (m *Member) Handles(kind string) bool {
	for _, k := range m.Kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// Request asks for a session.
type Request struct {
	Name    string            `json:"name"`
	Life    uint64            `json:"life"`
	Labels  map[string]string `json:"labels,omitempty"`
	Kinds   []string          `json:"kinds,omitempty"`
	Rev     uint64            `json:"rev,omitempty"` // of Kinds; see Machine.SetKinds
	Version string            `json:"version,omitempty"`
	Load    Load              `json:"load"`

	// Resume says that this life was admitted before and that its lease has
	// not lapsed since: the hub was restarted under it. It is admitted
	// without an init event, unless the machine knows better.
	Resume bool `json:"resume,omitempty"`

	// Known is what a resuming node's view held. A machine that began less
	// than a time-to-live ago takes up from it whom it does not know, as if
	// heard just now, so that names stay taken and losses are noticed.
	Known []Member `json:"known,omitempty"`
}

// ErrJoinAgain is the answer to a node whose session the machine does not
// have, or has seen end.
var ErrJoinAgain = errors.New("members: no such session, join again")

// Refusal is why a request was turned away at once.
type Refusal struct{ Reason string }

// Error is the reason.
func (r *Refusal) Error() string { return r.Reason }

// Effect is something that an operation wants done: a Changed, a Told, a NeedInit
// or a RaiseLost.
type Effect interface{ effect() }

// Changed is one step of the view of all members. Versions are consecutive.
type Changed struct {
	Version uint64 `json:"version"`
	Member  Member `json:"member"`
	Dropped bool   `json:"dropped,omitempty"` // the member is forgotten: it was over for Config.Keep

	// For a Roster; those who look on need not care.
	Rev    uint64 `json:"rev,omitempty"`    // of the member's kinds
	Asked  bool   `json:"asked,omitempty"`  // its init event was given to a handler
	Untold bool   `json:"untold,omitempty"` // it was lost, and a handler is to be told
}

// Told says that the loss of a session need not be told any more. It is no step of
// the view.
type Told struct {
	Life        uint64 `json:"life"`
	Incarnation uint64 `json:"incarnation"`
}

// NeedInit wants the init event of a joining member raised on a handler. The
// outcome comes back by Admit, Refuse or InitFailed.
type NeedInit struct{ Member, Handler Member }

// RaiseLost wants the loss of a member told to a handler. The outcome comes
// back by LossTold or LossFailed.
type RaiseLost struct{ Member, Handler Member }

func (Changed) effect()   {}
func (Told) effect()      {}
func (NeedInit) effect()  {}
func (RaiseLost) effect() {}

// The bounds of what a request may say. They keep a view of a thousand
// members in a few megabytes, and one member in an entry of the ledger, also where
// each byte takes six as JSON.
const (
	maxName    = 128
	maxVersion = 256
	maxLabels  = 64
	maxLabel   = 256 // bytes of a label's key or value
	maxKinds   = 4096
	maxKind    = 255
	maxBytes   = 64 << 10 // of all kinds
	maxReason  = 4 << 10  // what is longer is cut
)

// CheckName says what is wrong with a node's name, or nil.
func CheckName(name string) error {
	if s := nameFault(name); s != "" {
		return &Refusal{Reason: s}
	}
	return nil
}

func nameFault(name string) string {
	switch {
	case name == "":
		return "a node needs a name"
	case len(name) > maxName:
		return fmt.Sprintf("the node's name has %d bytes, more than %d", len(name), maxName)
	}
	for i, c := range []byte(name) {
		inner := i > 0 && i < len(name)-1
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case inner && (c == '.' || c == '-' || c == '_'):
		default:
			return fmt.Sprintf("the node's name %q is not letters and digits with '.', '-' or '_' between them", name)
		}
	}
	return ""
}

// check finds all faults of a request at once.
func (q *Request) check() error {
	var faults []string
	if s := nameFault(q.Name); s != "" {
		faults = append(faults, s)
	}
	if q.Life == 0 {
		faults = append(faults, "a life is not zero")
	}
	if len(q.Version) > maxVersion {
		faults = append(faults, fmt.Sprintf("the version of the program has %d bytes, more than %d", len(q.Version), maxVersion))
	}
	if len(q.Labels) > maxLabels {
		faults = append(faults, fmt.Sprintf("%d labels are more than %d", len(q.Labels), maxLabels))
	}
	for k, v := range q.Labels {
		if k == "" || len(k) > maxLabel || len(v) > maxLabel {
			faults = append(faults, fmt.Sprintf("a label's key has 1 to %d bytes and its value at most as many", maxLabel))
			break
		}
	}
	if s := kindsFault(q.Kinds); s != "" {
		faults = append(faults, s)
	}
	if faults == nil {
		return nil
	}
	return &Refusal{Reason: strings.Join(faults, "; ")}
}

func kindsFault(kinds []string) string {
	if len(kinds) > maxKinds {
		return fmt.Sprintf("%d kinds of command are more than %d", len(kinds), maxKinds)
	}
	bytes := 0
	for _, k := range kinds {
		if k == "" || len(k) > maxKind {
			return fmt.Sprintf("a kind of command has 1 to %d bytes", maxKind)
		}
		bytes += len(k)
	}
	if bytes > maxBytes {
		return fmt.Sprintf("the kinds of command have %d bytes together, more than %d: give them shorter names", bytes, maxBytes)
	}
	return ""
}
