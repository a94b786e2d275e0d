package shared

import (
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/orders"
)

// TestDoctor_Executors: tasks that wait for nobody, or for a person, are found; those
// that somebody works on are not.
func TestDoctor_Executors(t *testing.T) {
	for _, c := range []struct {
		e     orders.Standing
		found string
	}{
		{orders.Standing{ExecutorState: orders.ExecutorState{Name: "a", Ready: 2, Workers: 1, Leased: 1, Ended: 3}}, ""},
		{orders.Standing{ExecutorState: orders.ExecutorState{Name: "a", Workers: 0, Ended: 3}}, ""},
		{orders.Standing{ExecutorState: orders.ExecutorState{Name: "a", Ready: 1, Delayed: 1}}, `no-worker: executor "a" has 2 tasks that wait, and nobody works for it`},
		{orders.Standing{ExecutorState: orders.ExecutorState{Name: "a", Ready: 1}, Node: "n"}, `no-worker: executor "a" at node n has 1 tasks`},
		{orders.Standing{ExecutorState: orders.ExecutorState{Name: "a", Ready: 1, Workers: 2, Unserved: []string{"x", "y"}}}, `no-worker: executor "a" has tasks that wait, and no worker offers their actions: x, y`},
		{orders.Standing{ExecutorState: orders.ExecutorState{Name: "a", Parked: 4}}, `parked: executor "a" has 4 parked tasks`},
	} {
		var h Health
		h.executors([]orders.Standing{c.e})
		text := ""
		for _, f := range h.Findings {
			text += f.Code + ": " + f.What
		}
		if !strings.HasPrefix(text, c.found) || (text == "") != (c.found == "") {
			t.Errorf("%+v: %q, want %q", c.e, text, c.found)
		}
	}
}
