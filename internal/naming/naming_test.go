package naming

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/distgear/distgear/internal/runs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The same names come out of few steps, which are looked through, and of many,
// which are looked up.
func TestSteps(t *testing.T) {
	for _, c := range []struct{ name, given, want, fault string }{
		{"kinds", "op op other op", "op op-2 other op-3", ""},
		{"a given name is not taken again", "op=op-2 op op", "op-2 op op-3", ""},
		{"a later one neither", "op op op=op-2", "op op-3 op-2", ""},
		{"a kind that looks like a number", "op op-2 op op", "op op-2 op-3 op-4", ""},
		{"a given name that is a kind", "other=op op op", "op op-2 op-3", ""},
		{"twins", "op=twin other=twin", "twin twin", `two steps are named "twin"`},
	} {
		for _, more := range []int{0, fewSteps} {
			var steps []*runs.Step
			for _, f := range strings.Fields(c.given) {
				kind, name, _ := strings.Cut(f, "=")
				steps = append(steps, &runs.Step{Kind: kind, Name: name})
			}
			n := len(steps)
			for range more {
				steps = append(steps, &runs.Step{Kind: "filler"})
			}
			faults := Steps("run", "plan", steps)
			var names []string
			for _, s := range steps[:n] {
				names = append(names, s.Name)
				if want := "run/plan/" + s.Name + "/do"; s.Key != want {
					t.Errorf("%s: key %s, want %s", c.name, s.Key, want)
				}
			}
			if want := strings.Fields(c.want); !slices.Equal(names, want) {
				t.Errorf("%s, %d more: %q, want %q", c.name, more, names, want)
			}
			if len(faults) > 1 || (len(faults) == 1) != (c.fault != "") || c.fault != "" && faults[0].Error() != c.fault {
				t.Errorf("%s: faults %v, want %q", c.name, faults, c.fault)
			}
		}
	}
}
