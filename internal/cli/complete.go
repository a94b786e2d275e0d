package cli

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

// completeTime bounds what the completion of an argument asks a gateway for.
const completeTime = time.Second

// complete has the shell complete the first argument of each command below root by
// what the gateway knows, and the second of those of tasks; never by names of files.
func (a *app) complete(root *cobra.Command) {
	for _, c := range root.Commands() {
		a.complete(c)
		if c.Name() == "completion" || c.Name() == "help" {
			continue
		}
		c.ValidArgsFunction = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			return a.candidates(c, args, begun), cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// candidates are what the argument after args may be. None: nobody knows, or no gateway
// answers.
func (a *app) candidates(c *cobra.Command, args []string, begun string) []string {
	cl, err := a.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context(), completeTime)
	defer cancel()
	what, prefix := c.Name(), url.Values{"prefix": {begun}}.Encode()
	if p := c.Parent(); p != nil && p.HasParent() { // runs show, executors pause …
		what = p.Name()
	}
	usage := strings.Fields(strings.TrimPrefix(c.Use, c.Name()))
	switch {
	case len(args) == 1 && what == "tasks":
		return cl.names(ctx, "/v1/executors/"+url.PathEscape(args[0])+"/tasks?"+prefix, "tasks", "id", begun)
	case len(args) > 0 || len(usage) == 0:
		return nil
	case what == "tasks", what == "executors":
		return cl.names(ctx, "/v1/executors?"+prefix, "executors", "name", begun)
	case what == "locks", what == "objects", what == "queues", what == "schedules": // those of executors as EXECUTOR/NAME
		return cl.names(ctx, "/v1/"+what+"?"+prefix, what, "name", begun)
	case what == "runs":
		return cl.names(ctx, "/v1/runs", "runs", "id", begun)
	case what == "raise":
		return cl.kinds(ctx, begun)
	}
	return nil
}

// names are the values of a field in a list that the gateway answers.
func (c *client) names(ctx context.Context, path, list, field, begun string) (names []string) {
	var lists map[string]json.RawMessage
	var entries []map[string]json.RawMessage
	if c.call(ctx, "GET", path, nil, &lists) != nil || json.Unmarshal(lists[list], &entries) != nil {
		return nil
	}
	for _, e := range entries {
		var name, of string
		err := json.Unmarshal(e[field], &name)
		if list == "schedules" && json.Unmarshal(e["executor"], &of) == nil {
			name = of + "/" + name
		}
		if err == nil && strings.HasPrefix(name, begun) {
			names = append(names, name)
		}
	}
	return names
}

// kinds are the events and actions that live nodes handle: they do not say which is
// which.
func (c *client) kinds(ctx context.Context, begun string) (kinds []string) {
	var list struct {
		Members []cluster.Member `json:"members"`
	}
	if c.call(ctx, "GET", "/v1/members", nil, &list) != nil {
		return nil
	}
	for _, m := range list.Members {
		if m.State != cluster.Alive {
			continue
		}
		for _, k := range kindsOf(m) {
			if strings.HasPrefix(k, begun) && !strings.Contains(k, ":") && k != distgear.NodeJoin && k != distgear.NodeLost {
				kinds = append(kinds, k) // not those of executors, and what hubs raise
			}
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
