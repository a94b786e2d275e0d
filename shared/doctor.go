package shared

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/orders"
)

// MaxSkew is by how much a node's clock may differ from the hub's before Doctor
// finds it.
const MaxSkew = 500 * time.Millisecond

// Health is how a cluster is, as its hub knows it.
type Health struct {
	Well     bool             `json:"well"`     // there are no findings
	Findings []Finding        `json:"findings"` // what is wrong, the worst first
	Node     cluster.NodeName `json:"node"`     // who asked
	Alone    bool             `json:"alone,omitempty"`
	Hub      HubInfo          `json:"hub,omitzero"` // zero: alone, or no hub answers
	Ledger   LedgerInfo       `json:"ledger,omitzero"`
	Nodes    []NodeInfo       `json:"nodes"`
	Cycles   []Cycle          `json:"cycles,omitempty"`
}

// Finding is something that is wrong, and what to do about it.
type Finding struct {
	Code string `json:"code"` // a word that stays: no-hub, no-ledger, trouble, no-standby, behind, memory, one-hub, suspect, skew, version, cycle, no-worker, parked, alone
	What string `json:"what"`
	Do   string `json:"do"`
}

// HubInfo is the hub that decides now.
type HubInfo struct {
	Name     string    `json:"name"`
	Cluster  string    `json:"cluster"`
	Version  string    `json:"version"`
	Protocol int       `json:"protocol"`
	NATS     string    `json:"nats"`              // version of the server
	Hubs     int       `json:"hubs"`              // of the cluster, as configured
	Foreign  bool      `json:"foreign,omitempty"` // it uses a NATS that is not its own
	Time     time.Time `json:"time"`              // of its clock, when it answered
}

// LedgerInfo is the ledger at the hub.
type LedgerInfo struct {
	Open     bool          `json:"open"`
	Tier     string        `json:"tier"` // "memory", "file" or "file, synced always"; alone "this process only"
	Dir      string        `json:"dir,omitempty"`
	Replicas int           `json:"replicas"`
	Standbys int           `json:"standbys"`           // hubs that follow and could take over
	Behind   []string      `json:"behind,omitempty"`   // hubs that run and whose copy is not kept up
	Writer   string        `json:"writer"`             // name of the hub
	Epoch    uint64        `json:"epoch"`              // how many writers there were
	Record   uint64        `json:"record"`             // number of the last one
	Rate     float64       `json:"rate"`               // records/s, over the last second
	Pending  int           `json:"pending"`            // bytes that wait for the log
	LogBytes uint64        `json:"log_bytes"`          // since the last snapshot
	Snapshot time.Duration `json:"snapshot,omitempty"` // ns since the last that the hub saw; negative: none
	Trouble  string        `json:"trouble,omitempty"`  // why nothing can be stored now
	Sessions int           `json:"sessions"`
	Objects  int           `json:"objects"`
}

// NodeInfo is a node as the hub knows it.
type NodeInfo struct {
	Name    cluster.NodeName `json:"name"`
	State   string           `json:"state"`
	Version string           `json:"version"`
	Skew    *time.Duration   `json:"skew,omitempty"` // ns that its clock is ahead of the hub's, as it thinks; nil: not known
}

// Doctor asks the hub how the cluster is, and says what is wrong. That no hub
// answers is a finding too; an error means that ctx ended or that n has left.
func Doctor(ctx context.Context, n *distgear.Node) (Health, error) {
	h := Health{Node: n.Name(), Findings: []Finding{}, Nodes: []NodeInfo{}}
	h.Alone = n.Room().Ledger.Alone()
	in, err := inspect(ctx, n, client.Query{What: client.Status})
	if errors.Is(err, distgear.ErrNoNode) {
		h.find("no-hub", err.Error(), "start the hub, or of three at least two; see that this node reaches them")
		return h, nil
	}
	if err != nil {
		return h, err
	}
	h.take(in.Hub)
	if h.Cycles, err = Cycles(ctx, n); err != nil && !errors.Is(err, distgear.ErrNoNode) {
		return h, err
	}
	h.judge()
	if h.Ledger.Open {
		all, err := orders.Standings(ctx, n.Room(), "")
		if err != nil && !errors.Is(err, distgear.ErrNoNode) {
			return h, err
		}
		h.executors(all)
	}
	h.Well = len(h.Findings) == 0
	return h, nil
}

func (h *Health) take(s *client.HubStatus) {
	if s == nil {
		return
	}
	if !h.Alone {
		h.Hub = HubInfo{s.Name, s.Cluster, s.Version, s.Protocol, s.Engine, max(s.Peers, 1), s.Foreign, time.Unix(0, s.Time).UTC()}
	}
	l := &s.Ledger
	h.Ledger = LedgerInfo{
		l.Open, l.Tier, s.Dir, l.Replicas, l.Standbys, l.Behind, l.Writer, l.Epoch, l.Last, l.Rate, l.Pending, l.LogBytes,
		time.Duration(l.Snapshot) * time.Millisecond, l.Trouble, l.Sessions, l.Objects,
	}
	h.Nodes = convert(s.Nodes, func(n *client.NodeStatus) NodeInfo {
		return NodeInfo{cluster.NodeName(n.Name), n.State, n.Version, (*time.Duration)(n.Skew)}
	})
}

func (h *Health) find(code, what, do string) {
	h.Findings = append(h.Findings, Finding{code, what, do})
}

// judge finds what is wrong, the worst first.
func (h *Health) judge() {
	l := &h.Ledger
	switch {
	case h.Alone:
		h.find("alone", "the node is alone: what it shares ends with its process", "join a hub: Config.Hub, or DISTGEAR_HUB")
	case !l.Open:
		h.find("no-ledger", "the ledger is not open: shared objects do not work", "see that the NATS has JetStream; the hub's log says why")
	case l.Trouble != "":
		h.find("trouble", "the ledger stores nothing now: "+l.Trouble, "start the hubs that are away, so that most of them run; look for a full disk")
	}
	for _, c := range h.Cycles {
		text := ""
		for i, w := range c.Waits {
			if i > 0 {
				text += "; "
			}
			text += fmt.Sprintf("%s on %s holds %v and waits for %s", w.Func, w.Node, w.Holds, w.Lock)
		}
		h.find("cycle", "goroutines wait for each other's locks: "+text, "take the locks in one order everywhere; end one of the contexts")
	}
	if l.Open && !h.Alone {
		h.durability()
	}
	for _, n := range h.Nodes {
		h.node(&n)
	}
}

// executors finds those whose tasks wait for nobody, or for a person.
func (h *Health) executors(all []orders.Standing) {
	for _, e := range all {
		name := fmt.Sprintf("executor %q", e.Name)
		if e.Node != "" && !h.Alone {
			name += " at node " + e.Node
		}
		waiting, do := e.Ready+e.Line+e.Delayed, "have a program call its Work with their actions"
		switch {
		case waiting > 0 && e.Workers == 0:
			h.find("no-worker", fmt.Sprintf("%s has %d tasks that wait, and nobody works for it", name, waiting), do)
		case len(e.Unserved) > 0:
			h.find("no-worker", fmt.Sprintf("%s has tasks that wait, and no worker offers their actions: %s", name, strings.Join(e.Unserved, ", ")), do)
		}
		if e.Parked > 0 {
			h.find("parked", fmt.Sprintf("%s has %d parked tasks: they wait for a person", name, e.Parked),
				fmt.Sprintf("distgear tasks %s --state parked; then distgear tasks retry or cancel", e.Name))
		}
	}
}

func (h *Health) durability() {
	l := &h.Ledger
	hubs := h.Hub.Hubs
	switch {
	case hubs > 1 && l.Standbys == 0:
		h.find("no-standby", fmt.Sprintf("no other of the %d hubs is there: when this one ends nothing goes on", hubs), "start the other hubs")
	case hubs > 1 && l.Standbys < hubs-1:
		h.find("no-standby", fmt.Sprintf("%d of %d hubs are there: if one more ends nothing goes on", l.Standbys+1, hubs), "start the hub that is away")
	case hubs == 1:
		h.find("one-hub", "there is one hub: while it is away nothing shared goes on", "run three: distgear hub --name --route --peers")
	}
	if len(l.Behind) > 0 {
		h.find("behind", fmt.Sprintf("the copy of the ledger at %s is not up to date: if another hub ends nothing goes on", strings.Join(l.Behind, " and at ")),
			"wait a moment if it has just been started; else look into its log: its disk may be full")
	}
	if l.Tier == "memory" {
		what := "the ledger is in memory: what is shared is lost when the hub ends"
		if l.Replicas > 1 {
			what = "the ledger is in the memory of the hubs: what is shared is lost when most of them end"
		}
		h.find("memory", what, "give the hub a directory: distgear hub --dir DIR")
	}
}

func (h *Health) node(n *NodeInfo) {
	live := n.State == cluster.Alive.String() || n.State == cluster.Suspect.String() || n.State == cluster.Joining.String()
	if !live {
		return
	}
	if n.State == cluster.Suspect.String() {
		h.find("suspect", fmt.Sprintf("node %s is silent", n.Name), "see that it runs and reaches the hub")
	}
	if n.Skew != nil && n.Skew.Abs() > MaxSkew {
		h.find("skew", fmt.Sprintf("the clock of node %s is %v off the hub's", n.Name, n.Skew.Round(time.Millisecond)), "synchronise the clocks (NTP)")
	}
	if n.Version != h.Hub.Version {
		h.find("version", fmt.Sprintf("node %s runs version %s, the hub %s", n.Name, n.Version, h.Hub.Version), "run one version everywhere")
	}
}
