package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var rewrite = flag.Bool("rewrite", false, "write the golden journal of this version again")

// diamond is a → b, c → d → e, as the crash tests of internal/runs run it.
func diamond() *Plan {
	return &Plan{Name: "deploy", Rollback: true, Steps: []Step{
		{Name: "a", Kind: "op", Node: "w1", Undo: true, Input: []byte("1"), Policy: true, Retries: 300, Idempotent: true},
		{Name: "b", Kind: "op", Labels: []string{"zone=x", "gpu=yes"}, After: []uint32{0}, Undo: true, Computed: true},
		{Name: "c", Kind: "op", After: []uint32{0}, Undo: true, Input: []byte("3")},
		{Name: "d", Kind: "inner", After: []uint32{1, 2}, Event: true, Undo: true, Computed: true, Policy: true, Durable: true},
		{Name: "e", Kind: "bare", After: []uint32{3}, Pivot: true, Input: []byte("5")},
	}}
}

// units are a journal with a record of each kind.
func units() [][]Record {
	fault := &Error{Message: "boom", Stack: "main.go:1", Chain: []string{"*errors.errorString:boom"}, Flags: 5, AfterMS: 700}
	return [][]Record{
		{{Kind: Planned, Shape: diamond()}, {Kind: Sent, Number: 0, Node: "w1", Life: 1 << 62}},
		{{Kind: Reported, Report: Report{Outcome: 1, Over: true, Payload: []byte("did 1")}},
			{Kind: Sent, Step: 1, Number: 1, Node: "w2", Life: 7, HasIn: true, Input: []byte("two")},
			{Kind: Sent, Step: 2, Number: 2, Node: "w1", Life: 1 << 62}},
		{{Kind: Value, Name: "now", Input: []byte("x")}, {Kind: Slept, Until: -5}},
		{{Kind: Reported, Step: 1, Number: 1, Report: Report{}}},
		{{Kind: Reported, Step: 2, Number: 2, Report: Report{Outcome: 3, Over: true, Error: fault}},
			{Kind: Sent, Undo: true, Number: 3, Node: "w1", Life: 1 << 62}},
		{{Kind: Ended, Step: 2, Undo: true, Report: Report{Outcome: 4, Over: true, Error: &Error{Message: "nobody"}}}},
		{{Kind: Decided, Step: 2, How: 1, Text: "by hand"}},
		{{Kind: Cancelled, Timeout: true}, {Kind: Unwound}, {Kind: Stopped}},
		{{Kind: Adopted, Number: 300, Shape: &Plan{Name: "deploy"}}},
		{{Kind: Closed, Report: Report{Outcome: 2, Over: true, Error: fault}}},
		{{Kind: Stored, Input: []byte("Rwhere")}},
		{{Kind: Forked, Plan: 0, Step: 3, Name: "run/deploy/d/do"}},
	}
}

func written(t testing.TB) (all [][]byte) {
	t.Helper()
	for i, recs := range units() {
		var u Unit
		for j := range recs {
			u.Add(&recs[j])
		}
		all = append(all, u.Bytes(1_700_000_000_000_000_000+int64(i)))
		if !u.Empty() {
			t.Fatal("not empty after Bytes")
		}
	}
	return all
}

func TestRoundTrip(t *testing.T) {
	for i, b := range written(t) {
		at, recs, err := Parse(b)
		if err != nil || at != 1_700_000_000_000_000_000+int64(i) {
			t.Fatalf("unit %d: at %d, %v", i, at, err)
		}
		want := units()[i]
		for j := range want { // empty and nil are the same
			for _, p := range []*[]byte{&want[j].Report.Payload, &recs[j].Report.Payload} {
				if len(*p) == 0 {
					*p = nil
				}
			}
			for _, s := range []*Plan{want[j].Shape, recs[j].Shape} {
				for k := range s.steps() {
					if len(s.Steps[k].Input) == 0 {
						s.Steps[k].Input = nil
					}
				}
			}
		}
		if !reflect.DeepEqual(recs, want) {
			t.Errorf("unit %d\n got %+v\nwant %+v", i, recs, want)
		}
	}
}

func (p *Plan) steps() []Step {
	if p == nil {
		return nil
	}
	return p.Steps
}

// A unit that is cut anywhere is malformed, or has fewer records.
func TestCut(t *testing.T) {
	for _, b := range written(t) {
		_, all, _ := Parse(b)
		for n := range b {
			if _, recs, err := Parse(b[:n]); err == nil && len(recs) >= len(all) {
				t.Fatalf("%x cut to %d bytes: %d records", b, n, len(recs))
			} else if err != nil && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
		}
	}
}

func TestNewerVersion(t *testing.T) {
	b := written(t)[0]
	b[0] = Version + 1
	if _, _, err := Parse(b); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "run it with one that is at least as new") {
		t.Errorf("%v", err)
	}
}

// text is a unit as the golden files show it.
func text(b []byte) string {
	at, recs, err := Parse(b)
	if err != nil {
		return err.Error() + "\n"
	}
	var s strings.Builder
	fmt.Fprintf(&s, "\tat %d\n", at)
	for _, r := range recs {
		shape, e := r.Shape, r.Report.Error
		fmt.Fprintf(&s, "\t%s plan=%d step=%d undo=%v number=%d node=%q life=%d input=%q (%v) outcome=%d over=%v payload=%q how=%d timeout=%v name=%q text=%q until=%d",
			r.Kind, r.Plan, r.Step, r.Undo, r.Number, r.Node, r.Life, r.Input, r.HasIn, r.Report.Outcome, r.Report.Over, r.Report.Payload, r.How, r.Timeout, r.Name, r.Text, r.Until)
		if e != nil {
			fmt.Fprintf(&s, " error %+v", *e)
		}
		if shape != nil {
			fmt.Fprintf(&s, " hash %x %+v", shape.Hash(), *shape)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

// Each released version's journal is read as it was then.
func TestGolden(t *testing.T) {
	this := filepath.Join("testdata", fmt.Sprintf("v%d.txt", Version))
	if *rewrite {
		var out bytes.Buffer
		for _, b := range written(t) {
			fmt.Fprintf(&out, "%x\n%s", b, text(b))
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(this, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "v*.txt"))
	if err != nil || len(files) < Version {
		t.Fatalf("%d golden journals of %d versions: %v", len(files), Version, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		var last []byte
		n := 0
		check := func() {
			if last != nil && text(last) != want.String() {
				t.Errorf("%s: unit %x\n got %s\nwant %s", name, last, text(last), want.String())
			}
			want.Reset()
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "\t") {
				want.WriteString(line)
				continue
			}
			check()
			if last, err = hex.DecodeString(strings.TrimSpace(line)); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if check(); n < len(units()) {
			t.Errorf("%s has %d units", name, n)
		}
	}
}

func TestDiff(t *testing.T) {
	change := func(f func(p *Plan)) *Plan { p := diamond(); f(p); return p }
	became := func(i int) string {
		return [...]string{"ok at w1", "running at w2", "ok at w1", "not sent", "not sent"}[i]
	}
	for _, c := range []struct {
		name string
		has  *Plan
		want string
	}{
		{"the same", diamond(), ""},
		{"targets and inputs are not its shape", change(func(p *Plan) { p.Steps[0].Node, p.Steps[0].Input = "w9", nil }), ""},
		{"rollback", change(func(p *Plan) { p.Rollback = false }), "rollback: was on, is off"},
		{"gone", change(func(p *Plan) { p.Steps = p.Steps[:4] }), "step e (not sent): gone; it was bare, after d"},
		{"new", change(func(p *Plan) { p.Steps = append(p.Steps, Step{Name: "f", Kind: "op", After: []uint32{4, 0}}) }), "step f: new: op, after a, e"},
		{"renamed", change(func(p *Plan) { p.Steps[1].Name = "bb" }),
			"step b (running at w2): gone; it was op, after a | step d (not sent): came after b, c, now bb, c | step bb: new: op, after a"},
		{"another kind, order, undo and pivot", change(func(p *Plan) {
			p.Steps[2] = Step{Name: "c", Kind: "op2", Undo: false, Pivot: true}
		}), "step c (ok at w1): was op, now op2; came after a, now nothing; had an undo, now no undo; was not the pivot, now the pivot"},
		{"an event", change(func(p *Plan) { p.Steps[3].Event = false }), "step d (not sent): was the event inner, now inner"},
		{"another order", change(func(p *Plan) { p.Steps[1], p.Steps[2] = p.Steps[2], p.Steps[1] }),
			"the same steps in another order: was a, b, c, d, e; is a, c, b, d, e"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := Diff(diamond(), c.has, became)
			if got := strings.Join(lines, " | "); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			if (len(lines) > 0) != (diamond().Hash() != c.has.Hash()) {
				t.Error("the hash says something else")
			}
		})
	}
}

// FuzzParse: arbitrary bytes never panic, and what parses is the same when it is
// written again.
func FuzzParse(f *testing.F) {
	for _, b := range written(f) {
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add([]byte{Version + 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		at, recs, err := Parse(b)
		if err != nil {
			return
		}
		var u Unit
		for i := range recs {
			u.Add(&recs[i])
		}
		again := u.Bytes(at)
		at2, recs2, err := Parse(again)
		if err != nil || at2 != at || !reflect.DeepEqual(recs, recs2) {
			t.Fatalf("written again: %v\n got %+v\nwant %+v", err, recs2, recs)
		}
	})
}
