package shared

import (
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/client"
)

// TestHealth_Findings: what is found, by what the hub says.
func TestHealth_Findings(t *testing.T) {
	skew := func(d time.Duration) *int64 { n := int64(d); return &n }
	for want, change := range map[string]func(*client.HubStatus){
		"":                   func(*client.HubStatus) {},
		"no-ledger":          func(s *client.HubStatus) { s.Ledger.Open = false },
		"trouble no-standby": func(s *client.HubStatus) { s.Ledger.Trouble, s.Ledger.Standbys = "no quorum", 0 },
		"no-standby":         func(s *client.HubStatus) { s.Ledger.Standbys = 1 },
		"behind":             func(s *client.HubStatus) { s.Ledger.Behind = []string{"h3"} },
		"one-hub":            func(s *client.HubStatus) { s.Peers, s.Ledger.Standbys = 0, 0 },
		"memory":             func(s *client.HubStatus) { s.Ledger.Tier = "memory" },
		"skew":               func(s *client.HubStatus) { s.Nodes[0].Skew = skew(-501 * time.Millisecond) },
		"version":            func(s *client.HubStatus) { s.Nodes[0].Version = "0.0.9" },
		"suspect":            func(s *client.HubStatus) { s.Nodes[0].State = "suspect" },
		"suspect skew version": func(s *client.HubStatus) {
			s.Nodes[0] = client.NodeStatus{Name: "n", State: "suspect", Version: "2", Skew: skew(time.Hour)}
		},
	} {
		s := &client.HubStatus{Name: "h", Version: "1", Peers: 3, Nodes: []client.NodeStatus{
			{Name: "a", State: "alive", Version: "1", Skew: skew(499 * time.Millisecond)},
			{Name: "b", State: "alive", Version: "1"},
			{Name: "c", State: "lost", Version: "0", Skew: skew(time.Hour)},
		}, Ledger: client.LedgerStatus{Open: true, Tier: "file, synced always", Replicas: 3, Standbys: 2}}
		change(s)
		var h Health
		h.take(s)
		h.judge()
		var codes []string
		for _, f := range h.Findings {
			codes = append(codes, f.Code)
			if f.What == "" || f.Do == "" {
				t.Errorf("%+v", f)
			}
		}
		if got := strings.Join(codes, " "); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
