package journal

import (
	"strings"
	"testing"
)

func TestTeller(t *testing.T) {
	var x Teller
	var told []string
	for i, u := range written(t) {
		at, lines, err := x.Tell(u)
		if err != nil || at.UnixNano() != 1_700_000_000_000_000_000+int64(i) {
			t.Fatalf("unit %d: %v, %v", i, at, err)
		}
		told = append(told, lines...)
	}
	want := `planned deploy
sent deploy/a to w1
reported deploy/a ok
sent deploy/b to w2
sent deploy/c to w1
value now
slept until 1969-12-31T23:59:59Z
reported deploy/b unknown
reported deploy/c failed, dirty
sent deploy/a undo to w1
ended deploy/c undo never ran
decided deploy/c
cancelled deploy
unwound deploy
stopped
adopted deploy
closed failed, clean
stored
forked deploy`
	if got := strings.Join(told, "\n"); got != want {
		t.Errorf("%s", got)
	}
	if _, _, err := x.Tell([]byte{99}); err == nil {
		t.Error("what cannot be read is told")
	}
	if _, lines, err := new(Teller).Tell(written(t)[1]); err != nil || lines[0] != "reported" {
		t.Errorf("of a plan that never began: %q, %v", lines, err)
	}
	if at := Began(written(t)); at.UnixNano() != 1_700_000_000_000_000_000 {
		t.Error(at)
	}
	if !Began(nil).IsZero() || !Began([][]byte{{99}}).IsZero() {
		t.Error("nothing began some time")
	}
}
