package session

import (
	"time"

	"github.com/distgear/distgear/internal/machine/members"
)

// Protocol is the number of the session protocol. A hub refuses nodes that
// speak another.
const Protocol = 2

// The kinds of command that a hub serves. Inputs and results are JSON. All may
// be sent again: the hub answers a repeated one as it did the first.
const (
	KindJoin  = "hub.join"  // JoinRequest → JoinReply
	KindBeat  = "hub.beat"  // BeatRequest → BeatReply
	KindKinds = "hub.kinds" // KindsRequest → BeatReply
	KindLeave = "hub.leave" // BeatRequest → BeatReply
	KindView  = "hub.view"  // ViewRequest → ViewReply
	KindProbe = "hub.probe" // nothing → Stamp: which hub is there
)

// Stamp is in every answer of a hub: for what it speaks and what time it has.
type Stamp struct {
	Hub  uint64 `json:"hub"`  // the ledger, whichever hub writes it; the hub itself where there is none
	Term uint64 `json:"term"` // of the hub as the writer; above those before it
	Time int64  `json:"time"` // ns since 1970 when it answered
	Held int64  `json:"held"` // ns from the arrival of the request until then
}

// StampAt stamps an answer of a hub.
func StampAt(hub, term uint64, arrived, now time.Time) Stamp {
	return Stamp{Hub: hub, Term: term, Time: now.UnixNano(), Held: int64(now.Sub(arrived))}
}

// JoinRequest asks for a session.
type JoinRequest struct {
	members.Request
	Protocol int    `json:"protocol"`
	Prefix   string `json:"prefix"` // of the subjects; names the cluster
}

// JoinReply gives a session, or says why not.
type JoinReply struct {
	Stamp
	Refused string         `json:"refused,omitempty"`
	TTL     time.Duration  `json:"ttl"` // ns
	Member  members.Member `json:"member"`
}

// BeatRequest renews a session.
type BeatRequest struct {
	Life        uint64       `json:"life"`
	Incarnation uint64       `json:"incarnation"`
	Load        members.Load `json:"load"`
	Skew        int64        `json:"skew"` // ns that the node's time of day is ahead of the hub's, as it thinks
}

// KindsRequest says which kinds of command the node handles from now on.
type KindsRequest struct {
	Life        uint64   `json:"life"`
	Incarnation uint64   `json:"incarnation"`
	Kinds       []string `json:"kinds"`
	Rev         uint64   `json:"rev"`
}

// BeatReply says where a session stands.
type BeatReply struct {
	Stamp
	Version uint64        `json:"version"` // of the view
	Again   bool          `json:"again,omitempty"`
	State   members.State `json:"state"`
	Reason  string        `json:"reason,omitempty"`
}

// ViewRequest asks for the view, or what has changed since a version of it.
type ViewRequest struct {
	Hub   uint64 `json:"hub,omitempty"`   // whose view the version is of
	Since uint64 `json:"since,omitempty"` // 0: there is none
}

// ViewReply is the whole view, or the changes since the version that was asked for.
type ViewReply struct {
	Stamp
	Version uint64            `json:"version"`
	Members []members.Member  `json:"members,omitempty"`
	Partial bool              `json:"partial,omitempty"` // Changes are meant
	Changes []members.Changed `json:"changes,omitempty"`
}

// Broadcast is what the hub publishes on the subject of ViewSubject. One that
// carries nothing says that the hub is there.
type Broadcast struct {
	Hub     uint64                  `json:"hub"`
	Term    uint64                  `json:"term"`
	Version uint64                  `json:"version"` // of the view after the changes
	Changes []members.Changed       `json:"changes,omitempty"`
	Loads   map[uint64]members.Load `json:"loads,omitempty"`
}

// ViewSubject is where the hub of a prefix broadcasts.
func ViewSubject(prefix string) string { return prefix + ".view" }
