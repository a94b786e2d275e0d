package client

import (
	"context"
	"errors"
	"time"

	"github.com/distgear/distgear/internal/look"
)

// The kinds of command by which nodes ask a hub what it knows. Inputs and
// results are JSON; who asks needs no session.
const (
	KindInspect = "hub.inspect" // Query → Inspection
	KindWaits   = "hub.waits"   // WaitsReport → WaitsReply
)

// What a Query may ask for besides what package shard answers.
const (
	Status = "status" // Inspection.Hub
	Loops  = "loops"  // Inspection.Loops
)

// Query is look.Query.
type Query = look.Query

// Inspection is what a hub answers to a Query: one consistent look at its ledger.
type Inspection struct {
	Error string     `json:"error,omitempty"` // why there is nothing else
	Zero  int64      `json:"zero"`            // ms since 1970 by the hub's clock when the ledger's time was 0
	Page  look.Page  `json:"page"`
	Hub   *HubStatus `json:"hub,omitempty"`
	Loops []Loop     `json:"loops,omitempty"`
}

// HubStatus is how a hub and its ledger are.
type HubStatus struct {
	Name     string       `json:"name"`
	Cluster  string       `json:"cluster"`
	Version  string       `json:"version"`
	Protocol int          `json:"protocol"`
	Engine   string       `json:"engine"`            // version of the NATS server
	Time     int64        `json:"time"`              // ns since 1970 when it answered
	Peers    int          `json:"peers"`             // hubs of the cluster as configured; 0: this is the only one
	Foreign  bool         `json:"foreign,omitempty"` // the NATS is somebody else's
	Dir      string       `json:"dir,omitempty"`
	Nodes    []NodeStatus `json:"nodes"`
	Ledger   LedgerStatus `json:"ledger"`
}

// NodeStatus is a node as the hub knows it.
type NodeStatus struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Version string `json:"version"`
	Skew    *int64 `json:"skew,omitempty"` // ns that its clock is ahead of the hub's; nil: not known
}

// LedgerStatus is how the ledger is.
type LedgerStatus struct {
	Open     bool     `json:"open"` // false: there is none, or it is not open yet
	Writer   string   `json:"writer,omitempty"`
	Epoch    uint64   `json:"epoch,omitempty"`
	Last     uint64   `json:"last,omitempty"` // record
	Now      int64    `json:"now,omitempty"`  // its time, ms
	Rounds   uint64   `json:"rounds,omitempty"`
	Entries  uint64   `json:"entries,omitempty"`
	Rate     float64  `json:"rate,omitempty"`
	Pending  int      `json:"pending,omitempty"`
	InFlight int      `json:"in_flight,omitempty"`
	Tier     string   `json:"tier,omitempty"` // "memory", "file" or "file, synced always"
	Replicas int      `json:"replicas,omitempty"`
	LogBytes uint64   `json:"log_bytes,omitempty"`
	Snapshot int64    `json:"snapshot,omitempty"` // ms since the last; negative: none
	Standbys int      `json:"standbys,omitempty"`
	Behind   []string `json:"behind,omitempty"` // servers that run and do not keep their replica up
	Trouble  string   `json:"trouble,omitempty"`
	Sessions int      `json:"sessions,omitempty"`
	Objects  int      `json:"objects,omitempty"`
}

// A Wait is a goroutine that waits for a lock under a context that tells which
// locks it holds until it gets that one.
type Wait struct {
	ID    uint64 `json:"id"` // of its node's; never used again
	Lock  string `json:"lock"`
	Write bool   `json:"write,omitempty"`
	Func  string `json:"func"`  // who asked for the lock
	Since int64  `json:"since"` // ms since 1970, by its node's clock
	Holds []Hold `json:"holds"`
}

// Hold is a lock that a Wait's goroutine holds.
type Hold struct {
	Lock  string `json:"lock"`
	Write bool   `json:"write,omitempty"`
}

// WaitsReport is all of a node's Waits, now and then again while there are any.
type WaitsReport struct {
	Hub   uint64 `json:"hub"`  // the WaitsReply's, that came before this was made
	Seen  uint64 `json:"seen"` // its Number
	Waits []Wait `json:"waits"`
}

// WaitsReply numbers the reports that a hub has got.
type WaitsReply struct {
	Hub    uint64 `json:"hub"`
	Number uint64 `json:"number"`
}

// Loop is a cycle of Waits: each waits for a lock that the next one holds.
type Loop []LoopWait

// LoopWait is a Wait in a Loop.
type LoopWait struct {
	Node string `json:"node"`
	Wait
}

// Inspect answers a query about the ledger of a process that is alone, whose time
// is the clock's.
func (c *Client) Inspect(_ context.Context, q Query) (in Inspection, err error) {
	a := c.alone
	if a == nil {
		return in, errors.New("client: not alone: ask the hub")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return in, ErrClosed
	}
	if q.What == Status {
		now := time.Now()
		st := &HubStatus{Time: now.UnixNano(), Ledger: LedgerStatus{Open: true, Now: now.UnixMilli(), Tier: "this process only"}}
		st.Ledger.Sessions, st.Ledger.Objects = a.shard.Totals()
		in.Hub = st
		return in, nil
	}
	var ok bool
	if in.Page, ok = a.shard.Page(q); !ok {
		in.Error = "there are no " + q.What
	}
	return in, nil
}
