package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/internal/scheduled"
	"github.com/distgear/distgear/shared"
)

// found is a gateway's list of what the hub knows.
type found struct {
	Locks   []shared.LockInfo   `json:"locks"`
	Objects []shared.ObjectInfo `json:"objects"`
	Queues  []shared.QueueInfo  `json:"queues"`

	Executors []executor.Info  `json:"executors"`
	Schedules []scheduled.Info `json:"schedules"`

	Cycles []shared.Cycle `json:"cycles"`
	More   bool           `json:"more"`
}

func (a *app) locksCmd() *cobra.Command {
	return a.listCmd("locks", "who holds them, since when, who waits and how often a node had to; and goroutines that wait for each other's locks",
		func(f *found) [][]string {
			rows := [][]string{{"NAME", "KIND", "HELD BY", "MODE", "GRANT", "SINCE", "QUEUE", "FIRST SINCE", "ON CONDITIONS", "CONTENDED"}}
			for _, l := range f.Locks {
				rows = append(rows, lockRow(l))
			}
			return rows
		})
}

func lockRow(l shared.LockInfo) []string {
	row := []string{l.Name, l.Kind, "-", "-", "-", "-", "-", "-", strconv.Itoa(l.Waiting), strconv.FormatUint(uint64(l.Contentions), 10)}
	if len(l.Holders) > 0 {
		var by []string
		for _, h := range l.Holders {
			by = append(by, string(h.Node))
		}
		h := l.Holders[0]
		row[2], row[3], row[4], row[5] = few(by, len(by)), h.Mode, strconv.FormatUint(h.Grant, 10), ago(h.Since)
	}
	if len(l.Queue) > 0 {
		var by []string
		for _, q := range l.Queue {
			by = append(by, string(q.Node))
		}
		row[6], row[7] = few(by, l.Queued), ago(l.Queue[0].Since)
	}
	return row
}

// few is the first of some words, and how many there are besides.
func few(words []string, of int) string {
	n := min(len(words), 4)
	text := strings.Join(words[:n], ",")
	if of > n {
		text += fmt.Sprintf(",+%d", of-n)
	}
	return text
}

func (a *app) objectsCmd() *cobra.Command {
	return a.listCmd("objects", "their kind, who uses them and how much is in them", func(f *found) [][]string {
		rows := [][]string{{"NAME", "KIND", "SIZE", "ENTRIES", "VALUE", "WAITING", "NODES"}}
		for _, o := range f.Objects {
			var nodes []string
			for _, n := range o.Nodes {
				nodes = append(nodes, string(n))
			}
			size, value := "-", "-"
			if o.Size > 0 && o.Kind != "lock" { // a lock's says which kind of lock it is
				size = strconv.FormatUint(o.Size, 10)
			}
			if slices.Contains([]string{"counter", "latch", "wait group"}, o.Kind) {
				value = strconv.FormatInt(o.Value, 10)
			}
			rows = append(rows, []string{o.Name, o.Kind, size, strconv.Itoa(o.Entries), value, strconv.Itoa(o.Waiting), cmp.Or(few(nodes, o.Open), "-")})
		}
		return rows
	})
}

func (a *app) queuesCmd() *cobra.Command {
	return a.listCmd("queues", "how long they are, and who waits for an item or for room", func(f *found) [][]string {
		rows := [][]string{{"NAME", "LENGTH", "CAPACITY", "TAKERS", "PUTTERS"}}
		for _, q := range f.Queues {
			capacity := "-"
			if q.Capacity > 0 {
				capacity = strconv.Itoa(q.Capacity)
			}
			rows = append(rows, []string{q.Name, strconv.Itoa(q.Length), capacity, strconv.Itoa(q.Takers), strconv.Itoa(q.Putters)})
		}
		return rows
	})
}

// listCmd is a command that lists what the hub knows of one kind of thing.
func (a *app) listCmd(what, tells string, table func(*found) [][]string) *cobra.Command {
	var watch bool
	var limit int
	c := &cobra.Command{
		Use: what + " [PREFIX]", Short: "List the shared " + what + " by name", Args: cobra.MaximumNArgs(1),
		Long: what + " lists the shared " + what + " whose names begin with PREFIX: " + tells + ".\n\n" + exitHelp,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			q := url.Values{"limit": {strconv.Itoa(limit)}, "prefix": args}
			path := "/v1/" + what + "?" + q.Encode()
			show := func(raw json.RawMessage) error { return a.listed(what, raw, table) }
			if watch {
				return a.watch(c.Context(), cl, path, what, show)
			}
			var raw json.RawMessage
			if err := cl.call(c.Context(), "GET", path, nil, &raw); err != nil {
				return err
			}
			return show(raw)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "then again whenever they have changed, until interrupted")
	c.Flags().IntVar(&limit, "limit", 1000, "at most so many")
	return c
}

// watch shows what a stream tells until it is interrupted.
func (a *app) watch(ctx context.Context, cl *client, path, name string, show func(json.RawMessage) error) error {
	return a.rewatch(ctx, func(seen func()) error {
		for raw, err := range follow[json.RawMessage](ctx, cl, path, name) {
			if err != nil {
				return err
			}
			seen()
			if !a.json {
				if err := a.write("── " + time.Now().Format("15:04:05")); err != nil {
					return err
				}
			}
			if err := show(raw); err != nil {
				return err
			}
		}
		return exit(Unreachable, "the gateway at %s has ended the stream", cl.base)
	})
}

// listed writes a list: a table, or each thing as JSON as the gateway sent it.
func (a *app) listed(what string, raw json.RawMessage, table func(*found) [][]string) error {
	var f found
	var things map[string]json.RawMessage
	err := json.Unmarshal(raw, &f)
	if err == nil {
		err = json.Unmarshal(raw, &things)
	}
	if err != nil {
		return exit(Unknown, "the gateway sent what this version does not know: %w", err)
	}
	if f.More {
		a.say("there are more: give a PREFIX, or a larger --limit")
	}
	if a.json {
		for _, name := range []string{what, "cycles"} {
			var lines []json.RawMessage
			if things[name] != nil && json.Unmarshal(things[name], &lines) != nil {
				return exit(Unknown, "the gateway sent what this version does not know")
			}
			for _, l := range lines {
				if err := a.write(string(l)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := a.table(table(&f)); err != nil {
		return err
	}
	for _, c := range f.Cycles {
		if err := a.write("\nWAIT-FOR CYCLE" + cycle(c)); err != nil {
			return err
		}
	}
	return nil
}

func cycle(c shared.Cycle) string {
	var b strings.Builder
	for _, w := range c.Waits {
		fmt.Fprintf(&b, "\n  %s on %s holds %s and waits for %s since %s", w.Func, w.Node, strings.Join(w.Holds, ", "), w.Lock, ago(w.Since))
	}
	return b.String()
}

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Tell how the hub, its ledger and the nodes are, and what is wrong", Args: cobra.NoArgs,
		Long: "doctor tells the durability tier, replicas, standbys, versions and clocks, and what to do about what is wrong.\n" +
			"Its exit code is 0 only if nothing is.\n\n" + exitHelp,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := cl.call(c.Context(), "GET", "/v1/doctor", nil, &raw); err != nil {
				return err
			}
			var h shared.Health
			if err := json.Unmarshal(raw, &h); err != nil {
				return exit(Unknown, "the gateway sent what this version does not know: %w", err)
			}
			text := string(raw)
			if !a.json {
				text = report(&h)
			}
			if err := a.write(text); err != nil {
				return err
			}
			if !h.Well {
				return exit(Failed, "findings: %d", len(h.Findings))
			}
			return nil
		},
	}
}

// report is what doctor says to people.
func report(h *shared.Health) string {
	var b strings.Builder
	if h.Hub.Name != "" {
		fmt.Fprintf(&b, "hub       %s of cluster %s, version %s, NATS %s; hubs: %d\n", h.Hub.Name, h.Hub.Cluster, h.Hub.Version, h.Hub.NATS, h.Hub.Hubs)
	}
	if l := h.Ledger; l.Tier != "" {
		fmt.Fprintf(&b, "ledger    %s\n", tier(h))
		if !h.Alone {
			fmt.Fprintf(&b, "          replicas: %d; standbys: %d; writer: %s; epoch: %d; record: %d; %.0f records/s\n", l.Replicas, l.Standbys, l.Writer, l.Epoch, l.Record, l.Rate)
		}
		fmt.Fprintf(&b, "          sessions: %d; objects: %d\n", l.Sessions, l.Objects)
	}
	for _, n := range h.Nodes {
		skew := "not known"
		if n.Skew != nil {
			skew = n.Skew.Round(time.Millisecond).String()
		}
		fmt.Fprintf(&b, "node      %s is %s, version %s, clock %s\n", n.Name, n.State, n.Version, skew)
	}
	for _, f := range h.Findings {
		fmt.Fprintf(&b, "✗ %-10s %s\n  %-10s do: %s\n", f.Code, f.What, "", f.Do)
	}
	if h.Well {
		b.WriteString("✓ all is well\n")
	}
	return b.String()
}

// tier says where the ledger is, and what becomes of it.
func tier(h *shared.Health) string {
	l := h.Ledger
	switch {
	case h.Alone:
		return l.Tier
	case !l.Open:
		return "not open yet"
	case l.Tier == "memory" && l.Replicas > 1:
		return fmt.Sprintf("memory of %d hubs (lost when most of them end)", l.Replicas)
	case l.Tier == "memory":
		return "memory (lost when the hub ends)"
	case l.Dir != "" && h.Hub.Hubs > 1:
		return l.Tier + ": " + l.Dir + " at " + h.Hub.Name
	case l.Dir != "":
		return l.Tier + ": " + l.Dir
	}
	return l.Tier + " of the NATS"
}
