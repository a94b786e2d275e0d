package show

import (
	"fmt"
	"testing"

	"github.com/distgear/distgear/record"
)

// A change of the run is told before those of its steps, unless it is their end.
func TestChanges_Order(t *testing.T) {
	rec := func(run record.RunState, step record.StepState) record.Run {
		return record.Run{ID: "r", State: run, Plans: []record.Plan{{Name: "p", Steps: []record.Step{{Name: "s", State: step}}}}}
	}
	for _, c := range []struct {
		before, now record.Run
		want        string
	}{
		{record.Run{}, rec(record.Running, "running"), "running; s running; "},
		{rec(record.Running, "ok"), rec(record.RollingBack, "undoing"), "rolling back; s undoing; "},
		{rec(record.RollingBack, "undoing"), rec(record.Running, "undone"), "s undone; running; "}, // its handler goes on
		{rec(record.RollingBack, "undoing"), rec(record.RolledBack, "undone"), "s undone; rolled back; "},
		{rec(record.Running, "running"), rec(record.OK, "ok"), "s ok; ok; "},
		{rec(record.OK, "ok"), rec(record.OK, "ok"), ""},
	} {
		got := ""
		for _, ch := range Changes(c.before, c.now) {
			if ch.Step != "" {
				got += ch.Step + " "
			}
			got += fmt.Sprint(ch.State) + "; "
		}
		if got != c.want {
			t.Errorf("from %s to %s: %q, want %q", c.before.State, c.now.State, got, c.want)
		}
	}
}
