package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/gateway"
	"github.com/distgear/distgear/shared"
)

func (a *app) hubCmd() *cobra.Command {
	var listen, http, of, name, dir, route, peers string
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "hub",
		Short: "Serve a cluster: the hub that nodes join, and the gateway",
		Long: "hub serves until it is interrupted, then finishes what is in flight, up to 10 s.\n" +
			"Nodes join it with DISTGEAR_HUB set to the first URL that it prints. With --dir what is shared outlives the hub.\n" +
			"Three hubs are one that outlives any of them: each with its own --name, --listen, --http, --route and --dir,\n" +
			"all with the same --peers, the three routes. Nodes are given the URLs of all three, comma separated.\n" +
			"A hub whose directory or machine was lost is started again under its name; the others bring it up to date.\n" +
			"On a NATS cluster that runs already: --listen with its nats:// URLs, and no --route, --peers or --dir.\n\n" + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(a.errs, nil))
			ctx, token := c.Context(), a.tokenOr()
			if peers != "" {
				a.say("waiting until two of the hubs %s are there", peers)
			}
			n, err := distgear.Join(ctx, distgear.Config{
				Name: cluster.NodeName(name), Cluster: of, Serve: listen, Route: route, Peers: peers, Dir: dir, Token: token, TTL: ttl, Logger: log,
			})
			if err != nil {
				return exit(NeverRan, "the hub does not start: %w", err)
			}
			leave := func() error {
				lctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				return n.Leave(lctx)
			}
			s, err := gateway.Listen(n, http, gateway.Config{Token: token, Logger: log})
			if err != nil {
				return exit(NeverRan, "the gateway does not start: %w", errors.Join(err, leave()))
			}
			ledger := "not known yet: see distgear doctor"
			if h, err := shared.Doctor(ctx, n); err == nil && h.Hub.Name != "" {
				if own := string(n.Name()); h.Hub.Name != own { // it is told of the writer's
					h.Hub.Name, h.Ledger.Dir = own, cmp.Or(dir, os.Getenv("DISTGEAR_DIR"), "a directory of its own")
				}
				ledger = tier(&h)
			}
			if a.json {
				b, _ := json.Marshal(map[string]string{"hub": n.HubURL(), "gateway": s.URL(), "node": string(n.Name()), "ledger": ledger}) // strings only
				err = a.write(string(b))
			} else {
				err = a.write(fmt.Sprintf("hub      %s\ngateway  %s\nledger   %s", n.HubURL(), s.URL(), ledger))
			}
			if err != nil {
				return errors.Join(err, s.Close(), leave())
			}
			err = errors.Join(s.Serve(ctx), leave())
			if err != nil {
				return exit(Failed, "%w", err)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:4222", "where nodes join, or the nats:// URLs of a NATS that runs already; beyond loopback a token is needed")
	f.StringVar(&http, "http", gateway.DefaultAddr, "where the gateway listens; beyond loopback a token is needed")
	f.StringVar(&of, "cluster", "", "name of the cluster (default $DISTGEAR_CLUSTER or \"default\")")
	f.StringVar(&name, "name", "", "name of the hub's node (default $DISTGEAR_NAME, or after the host)")
	f.StringVar(&dir, "dir", "", "directory of the ledger, synced before anything is acknowledged (default $DISTGEAR_DIR, or in memory)")
	f.StringVar(&route, "route", "", "host:port where the other hubs connect; needed with --peers (default $DISTGEAR_ROUTE)")
	f.StringVar(&peers, "peers", "", "the routes of all three hubs, comma separated (default $DISTGEAR_PEERS)")
	f.DurationVar(&ttl, "ttl", 0, "silence after which a node counts as lost (default $DISTGEAR_TTL or 3s)")
	return c
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.write(fmt.Sprintf(`{"version":%q}`, distgear.Version))
			}
			return a.write("distgear " + distgear.Version)
		},
	}
}

func (a *app) nodesCmd() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "nodes", Short: "List the nodes of the cluster", Args: cobra.NoArgs,
		Long: "nodes lists the members of the cluster: alive, suspect, and those that left or were lost lately.\n\n" + exitHelp,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			if watch {
				return a.watchNodes(c.Context(), cl)
			}
			var list struct {
				Members []json.RawMessage `json:"members"`
			}
			if err := cl.call(c.Context(), "GET", "/v1/members", nil, &list); err != nil {
				return err
			}
			ms := make([]cluster.Member, len(list.Members))
			for i, raw := range list.Members {
				if a.json {
					if err := a.write(string(raw)); err != nil {
						return err
					}
				}
				if err := json.Unmarshal(raw, &ms[i]); err != nil {
					return exit(Unknown, "the gateway sent what this version does not know: %w", err)
				}
			}
			if a.json {
				return nil
			}
			slices.SortFunc(ms, func(x, y cluster.Member) int { return cmp.Compare(x.Name, y.Name) })
			rows := [][]string{{"NAME", "STATE", "SINCE", "CPU", "MEMORY", "IN FLIGHT", "LABELS", "HANDLES"}}
			for _, m := range ms {
				rows = append(rows, memberRow(m))
			}
			return a.table(rows)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "then every change, until interrupted")
	return c
}

// kindsOf are the kinds that a member handles, but for those by which nodes tell
// each other of kinds.
func kindsOf(m cluster.Member) []string {
	return slices.DeleteFunc(slices.Clone(m.Kinds), func(k string) bool { return strings.HasPrefix(k, "_") })
}

func memberRow(m cluster.Member) []string {
	var labels []string
	for k, v := range m.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	kinds := kindsOf(m)
	if len(kinds) > 8 {
		kinds = append(slices.Clone(kinds[:8]), fmt.Sprintf("and %d more", len(kinds)-8))
	}
	return []string{
		string(m.Name), m.State.String(), ago(m.Since), fmt.Sprintf("%.0f%%", 100*m.Load.CPU), fmt.Sprintf("%d MiB", m.Load.Memory>>20),
		fmt.Sprint(m.Load.InFlight), cmp.Or(strings.Join(labels, ","), "-"), cmp.Or(strings.Join(kinds, ","), "-"),
	}
}

// watchAgain is how soon a watch asks again when the gateway is gone.
const watchAgain = 500 * time.Millisecond

// watchNodes writes a line per node and per change of one's state until it is
// interrupted.
func (a *app) watchNodes(ctx context.Context, cl *client) error {
	return a.rewatch(ctx, func(seen func()) error { return a.watchNodesOnce(ctx, cl, seen) })
}

// rewatch watches until it is interrupted. A gateway that was there once, as once
// says by calling seen, is waited for when it is gone.
func (a *app) rewatch(ctx context.Context, once func(seen func()) error) error {
	for seen, told := false, false; ; {
		err := once(func() { seen, told = true, false })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // interrupted, as it is meant to end
		}
		if e, ok := errors.AsType[*exitError](err); !seen || !ok || e.code != Unreachable {
			return err
		}
		if !told {
			told = true
			a.say("distgear: %v; waiting until it is back", err)
		}
		t := time.NewTimer(watchAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

func (a *app) watchNodesOnce(ctx context.Context, cl *client, seen func()) error {
	for m, err := range follow[cluster.Member](ctx, cl, "/v1/members", "member") {
		if err != nil {
			return err
		}
		seen()
		text := fmt.Sprintf("%s  %-8s %s  (incarnation %d)  %s", m.Since.Local().Format("15:04:05.000"), m.State, m.Name, m.Incarnation, strings.Join(kindsOf(m), ","))
		if a.json {
			b, err := json.Marshal(m)
			if err != nil {
				return exit(Unknown, "%w", err)
			}
			text = string(b)
		}
		if err := a.write(text); err != nil {
			return err
		}
	}
	return exit(Unreachable, "the hub at %s has left", cl.base)
}

// table writes rows in columns.
func (a *app) table(rows [][]string) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(r, "\t")) // into memory
	}
	_ = w.Flush()
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return a.write(strings.Join(lines, "\n"))
}
