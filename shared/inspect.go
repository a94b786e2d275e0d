package shared

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/collections"
	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/locks"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// LockInfo is a lock as the hub knows it. The lists have the first 64; Queued
// and Waiting count all.
type LockInfo struct {
	Name        string       `json:"name"`
	Kind        string       `json:"kind"`              // "mutex" or "rwmutex"
	Holders     []LockParty  `json:"holders,omitempty"` // nodes: one may hold it between uses
	Queue       []LockParty  `json:"queue,omitempty"`   // nodes, in the order in which they get it
	Waiters     []LockWaiter `json:"waiters,omitempty"` // goroutines on conditions
	Queued      int          `json:"queued"`
	Waiting     int          `json:"waiting"`
	Contentions uint32       `json:"contentions"` // how often a node had to wait, since the lock was made
}

// LockParty is a node that holds a lock or waits for it. In a process that is
// alone it is a goroutine.
type LockParty struct {
	Node     cluster.NodeName `json:"node"`
	Session  string           `json:"session"`            // of the node with the ledger
	Grant    uint64           `json:"grant,omitempty"`    // of a holder: Tokens of its leases are this times 1<<20 plus a count
	Mode     string           `json:"mode"`               // "read" or "write"
	Since    time.Time        `json:"since,omitzero"`     // by the hub's clock; zero: not known
	Recalled bool             `json:"recalled,omitempty"` // of a holder: it was asked back
}

// LockWaiter is a goroutine on a condition of a lock.
type LockWaiter struct {
	Node     cluster.NodeName `json:"node"`
	Session  string           `json:"session"`
	Since    time.Time        `json:"since,omitzero"`
	Notified bool             `json:"notified,omitempty"` // and has not the lock again yet
}

// ObjectInfo is a shared object of any kind as the hub knows it.
type ObjectInfo struct {
	Name    string             `json:"name"`
	Kind    string             `json:"kind"`
	Size    uint64             `json:"size,omitempty"`  // what it was made with: capacity, permits, parties, count
	Open    int                `json:"open"`            // nodes that use it
	Nodes   []cluster.NodeName `json:"nodes,omitempty"` // of those, the first 16
	Entries int                `json:"entries"`         // entries, items, subscribers, holders, permits in use
	Waiting int                `json:"waiting"`
	Value   int64              `json:"value,omitempty"` // of a counter, a latch, a wait group
}

// QueueInfo is a queue as the hub knows it.
type QueueInfo struct {
	Name     string `json:"name"`
	Length   int    `json:"length"`
	Capacity int    `json:"capacity,omitempty"` // zero: none
	Takers   int    `json:"takers"`             // who wait for an item
	Putters  int    `json:"putters"`            // who wait for room
}

// SessionInfo is a node's session with the ledger as the hub knows it.
type SessionInfo struct {
	Node    cluster.NodeName `json:"node"`
	Session string           `json:"session"`
	TTL     time.Duration    `json:"ttl"`     // ns
	Open    int              `json:"open"`    // objects
	Unacked int              `json:"unacked"` // bytes that the hub keeps for it until it says that it has them
}

// Locks yields the locks whose names begin with prefix, by name. It asks the hub
// page by page: each page is one consistent look, and all of them are not. It
// changes nothing; after an error it ends.
func Locks(ctx context.Context, n *distgear.Node, prefix string) iter.Seq2[LockInfo, error] {
	if n.Room().Ledger.Alone() {
		return aloneLocks(n, prefix)
	}
	return pages(ctx, n, look.Query{What: look.Locks, Prefix: prefix}, func(in *client.Inspection) []LockInfo {
		return convert(in.Page.Locks, func(l *look.LockState) LockInfo {
			kind := "mutex"
			if l.Param == objects.ReadWrite {
				kind = "rwmutex"
			}
			return LockInfo{l.Name, kind, parties(in, l.Holders), parties(in, l.Queue), convert(l.Waiters, func(w *look.Sleeper) LockWaiter {
				return LockWaiter{cluster.NodeName(w.Node), sessionID(w.Session), since(in, w.Since), w.Notified}
			}), l.Queued, l.Waiting, l.Contentions}
		})
	})
}

// Objects yields the objects whose names begin with prefix, by name, as Locks
// does.
func Objects(ctx context.Context, n *distgear.Node, prefix string) iter.Seq2[ObjectInfo, error] {
	sizes := aloneSizes(n)
	return pages(ctx, n, look.Query{What: look.Objects, Prefix: prefix}, func(in *client.Inspection) []ObjectInfo {
		return convert(in.Page.Objects, func(o *look.ObjectState) ObjectInfo {
			if s, ok := sizes[sized{o.Kind, o.Name}]; ok {
				o.Entries, o.Waiting = s.Length, s.Takers+s.Putters
			}
			return ObjectInfo{o.Name, o.Kind, o.Param, o.Open, names(n, o.Nodes), o.Entries, o.Waiting, o.Value}
		})
	})
}

// Queues yields the queues whose names begin with prefix, by name, as Locks does.
func Queues(ctx context.Context, n *distgear.Node, prefix string) iter.Seq2[QueueInfo, error] {
	sizes := aloneSizes(n)
	return pages(ctx, n, look.Query{What: look.Queues, Prefix: prefix}, func(in *client.Inspection) []QueueInfo {
		return convert(in.Page.Queues, func(q *look.QueueState) QueueInfo {
			if s, ok := sizes[sized{operation.KQueue.String(), q.Name}]; ok {
				s.Name, s.Capacity = q.Name, q.Capacity
				return s
			}
			return QueueInfo(*q)
		})
	})
}

// Sessions yields the sessions of nodes with the ledger, by the nodes' names.
func Sessions(ctx context.Context, n *distgear.Node) iter.Seq2[SessionInfo, error] {
	return pages(ctx, n, look.Query{What: look.Sessions}, func(in *client.Inspection) []SessionInfo {
		return convert(in.Page.Sessions, func(s *look.SessionState) SessionInfo {
			node := cmp.Or(s.Node, string(n.Name())) // alone
			return SessionInfo{cluster.NodeName(node), sessionID(s.ID), time.Duration(s.TTL) * time.Millisecond, s.Open, s.Unacked}
		})
	})
}

func pages[T any](ctx context.Context, n *distgear.Node, q look.Query, take func(*client.Inspection) []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for q := q; ; {
			in, err := inspect(ctx, n, q)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, v := range take(&in) {
				if !yield(v, nil) {
					return
				}
			}
			if q.After = in.Page.Next; q.After == "" {
				return
			}
		}
	}
}

// inspect asks the hub, or this process if it is alone.
func inspect(ctx context.Context, n *distgear.Node, q look.Query) (in client.Inspection, err error) {
	r := n.Room()
	if err := context.Cause(ctx); err != nil {
		return in, err
	}
	if r.Ledger.Alone() {
		if in, err = r.Ledger.Inspect(ctx, q); err != nil {
			return in, distgear.ErrLeft
		}
	} else if err = objects.AskHub(ctx, r, client.KindInspect, q, &in); err != nil {
		return in, err
	}
	if in.Error != "" {
		return in, fmt.Errorf("%w: %s", distgear.ErrNoNode, in.Error)
	}
	return in, nil
}

func convert[A, B any](as []A, f func(*A) B) []B {
	bs := make([]B, len(as))
	for i := range as {
		bs[i] = f(&as[i])
	}
	return bs
}

func parties(in *client.Inspection, ps []look.Party) []LockParty {
	return convert(ps, func(p *look.Party) LockParty {
		return LockParty{cluster.NodeName(p.Node), sessionID(p.Session), p.Token, p.Mode, since(in, p.Since), p.Recalled}
	})
}

func since(in *client.Inspection, at int64) time.Time { return time.UnixMilli(in.Zero + at).UTC() }

func sessionID(s machine.Session) string { return strconv.FormatUint(uint64(s), 16) }

func names(n *distgear.Node, all []string) []cluster.NodeName {
	return convert(all, func(s *string) cluster.NodeName {
		return cluster.NodeName(cmp.Or(*s, string(n.Name()))) // alone a session has no name
	})
}

// aloneLocks are the locks of a process that is alone which are held or waited
// for: no ledger knows of them.
func aloneLocks(n *distgear.Node, prefix string) iter.Seq2[LockInfo, error] {
	return func(yield func(LockInfo, error) bool) {
		var all []LockInfo
		for _, v := range n.Room().Values() {
			if l, ok := v.(*objects.Lock); ok && strings.HasPrefix(l.Name, prefix) {
				if in, used := lockInfo(l, n.Name()); used {
					all = append(all, in)
				}
			}
		}
		slices.SortFunc(all, func(a, b LockInfo) int { return cmp.Compare(a.Name, b.Name) })
		for _, l := range all {
			if !yield(l, nil) {
				return
			}
		}
	}
}

// lockInfo is the lock as this node knows it.
func lockInfo(l *objects.Lock, node cluster.NodeName) (in LockInfo, used bool) {
	st := l.Info(64)
	in = LockInfo{Name: l.Name, Kind: "mutex", Queued: st.Queued, Waiting: st.Parked}
	if l.Param == objects.ReadWrite {
		in.Kind = "rwmutex"
	}
	party := func(grant uint64, m locks.Mode) LockParty {
		return LockParty{Node: node, Session: sessionID(1), Grant: grant, Mode: m.String()}
	}
	if st.Writer != 0 {
		in.Holders = []LockParty{party(st.Writer.Grant(), locks.Write)}
	}
	for _, t := range st.Readers {
		in.Holders = append(in.Holders, party(t.Grant(), locks.Read))
	}
	for _, m := range st.Queue {
		in.Queue = append(in.Queue, party(0, m))
	}
	return in, len(in.Holders)+st.Queued+st.Parked > 0
}

// sized names an object that, in a process that is alone, keeps its own state.
type sized struct{ kind, name string }

// aloneSizes are the sizes of those; nil in a cluster.
func aloneSizes(n *distgear.Node) map[sized]QueueInfo {
	r := n.Room()
	if !r.Ledger.Alone() {
		return nil
	}
	all := map[sized]QueueInfo{}
	for _, v := range r.Values() {
		switch x := v.(type) {
		case interface{ Size() collections.Size }:
			z := x.Size()
			all[sized{z.Kind.String(), z.Name}] = QueueInfo{Length: z.Length, Takers: z.Takers, Putters: z.Putters}
		case *objects.Lock:
			holding, queued, parked := x.Counts()
			all[sized{operation.KLock.String(), x.Name}] = QueueInfo{Length: holding, Takers: queued + parked}
		}
	}
	return all
}
