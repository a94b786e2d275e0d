package distgear_test

import (
	"context"
	"errors"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
)

// A handler of NodeJoin that takes something else than a member refuses who joins, and says why, instead of being asked for ever.
func TestNodeJoin_WrongInput(t *testing.T) {
	t.Parallel()
	c := geartest.StartCluster(t, geartest.Nodes{Count: 1})
	wrong := &distgear.Event[int, string]{Name: distgear.NodeJoin, On: func(context.Context, *distgear.Run, int) (string, error) { return "", nil }}
	if err := c.Node(c.Name(0)).Handle(wrong); err != nil {
		t.Fatal(err)
	}
	c.Settle()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := distgear.Join(ctx, distgear.Config{Name: "new", Hub: c.Here().HubURL()})
	if !errors.Is(err, distgear.ErrRefused) || !says(err, "event node.join", "wants int") {
		t.Errorf("joining: %v", err)
	}
	var member cluster.State
	for m := range c.Here().Members(ctx) {
		if m.Name == "new" {
			member = m.State
		}
	}
	if member == cluster.Alive {
		t.Error("it is a member")
	}
}
