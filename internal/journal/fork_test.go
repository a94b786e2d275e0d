package journal

import (
	"fmt"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/wire"
)

// tale is a journal in words, one unit a line, records apart by commas: plan NAME
// STEP[<STEP…] …, sent P STEP, ok P STEP, bad P STEP, undo P STEP, value NAME.
func tale(t *testing.T, lines string) (units [][]byte) {
	t.Helper()
	var plans []*Plan
	numbers := map[int]uint32{}
	last := map[string]uint32{}
	for at, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		var u Unit
		for word := range strings.SplitSeq(line, ",") {
			w := strings.Fields(word)
			step := func() (p int, r Record) {
				if _, err := fmt.Sscan(w[1], &p); err != nil || plans[p].find(w[2]) < 0 {
					t.Fatal(word, err)
				}
				return p, Record{Plan: uint32(p), Step: uint32(plans[p].find(w[2]))}
			}
			switch w[0] {
			case "plan":
				p := &Plan{Name: w[1], Rollback: true}
				for _, s := range w[2:] {
					name, after, _ := strings.Cut(s, "<")
					x := Step{Name: name, Kind: "op", Undo: true, Input: []byte("in " + name)}
					for _, c := range after {
						x.After = append(x.After, uint32(p.find(string(c))))
					}
					p.Steps = append(p.Steps, x)
				}
				plans = append(plans, p)
				u.Add(&Record{Kind: Planned, Shape: p})
			case "sent", "undo":
				p, r := step()
				r.Kind, r.Number, r.Node, r.Undo = Sent, numbers[p], "w1", w[0] == "undo"
				numbers[p]++
				last[w[1]+w[2]] = r.Number
				u.Add(&r)
			case "ok", "bad", "undone":
				_, r := step()
				r.Kind, r.Number, r.Undo = Reported, last[w[1]+w[2]], w[0] == "undone"
				if r.Report = (Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + w[2])}); w[0] == "bad" {
					r.Report = Report{Outcome: wire.Dirty, Over: true, Error: &Error{Message: "boom"}}
				}
				u.Add(&r)
			case "value":
				u.Add(&Record{Kind: Value, Name: w[1], Input: []byte("v")})
			case "stopped":
				u.Add(&Record{Kind: Stopped})
			default:
				t.Fatal(word)
			}
		}
		units = append(units, u.Bytes(int64(1000-at))) // clocks of owners differ
	}
	return units
}

// told is the inverse, with what only forks have.
func told(t *testing.T, units [][]byte) string {
	t.Helper()
	var plans []*Plan
	var words []string
	if _, err := Read(units); err != nil {
		t.Fatal(err)
	}
	for _, u := range units {
		_, recs, _ := Parse(u)
		for _, r := range recs {
			step := func() string { return fmt.Sprint(r.Plan, " ", plans[r.Plan].Steps[r.Step].Name) }
			switch r.Kind {
			case Planned:
				plans = append(plans, r.Shape)
				w := "plan " + r.Shape.Name
				for i := range r.Shape.Steps {
					s := &r.Shape.Steps[i]
					if w += " " + s.Name; len(s.After) > 0 {
						w += "<" + strings.ReplaceAll(r.Shape.before(s), ", ", "")
					}
				}
				words = append(words, w)
			case Adopted:
				words = append(words, fmt.Sprintf("next %d %d", r.Plan, r.Number))
			case Forked:
				words = append(words, fmt.Sprintf("did %s as %s", step(), r.Name))
			case Sent:
				words = append(words, fmt.Sprintf("sent %s as %d", step(), r.Number))
			case Reported:
				words = append(words, fmt.Sprintf("%s %s", plan(r.Report.Outcome), step()))
			default:
				words = append(words, r.Kind.String()+" "+r.Name)
			}
		}
	}
	return strings.Join(words, "; ")
}

func plan(o wire.Outcome) string { return [...]string{"unknown", "ok", "clean", "dirty", "never"}[o] }

const diamondTale = `
value now
plan one x
sent 0 x
ok 0 x, value rand
plan two a b<a c<a d<bc e<d, sent 1 a
ok 1 a, sent 1 b, sent 1 c
ok 1 c
bad 1 b
sent 1 b
ok 1 b, sent 1 d
value members
`

func TestFork(t *testing.T) {
	const first = "value now; plan one x; did 0 x as run/one/x/do; sent 0 x as 0; ok 0 x; value rand; "
	for _, c := range []struct{ name, journal, from, want, err string }{
		{"the first step of the first plan", diamondTale, "x", "value now", ""},
		{"a whole plan is kept", diamondTale, "a", strings.TrimSuffix(first, "; "), ""},
		{"what it does not come after is kept", diamondTale, "two/b",
			first + "plan two a c<a; next 1 5; did 1 a as run/two/a/do; sent 1 a as 0; ok 1 a; did 1 c as run/two/c/do; sent 1 c as 2; ok 1 c", ""},
		{"what failed first was tried again", diamondTale, "d",
			first + "plan two a b<a c<a; next 1 5; did 1 a as run/two/a/do; sent 1 a as 0; ok 1 a; did 1 c as run/two/c/do; sent 1 c as 2; ok 1 c; did 1 b as run/two/b/do; sent 1 b as 3; ok 1 b", ""},
		{"a step that was not reached", diamondTale, "e", "", `step e of run run comes after d, which is not ok: fork from there`},
		{"no such step", diamondTale, "f", "", `run run has no step "f": it has one/x, two/a, two/b, two/c, two/d, two/e`},
		{"two such steps", "plan one a\nplan two a", "a", "", `more than one step "a": say which of one/a, two/a`},
		{"no plan", "value now", "a", "", "has begun no plan"},
		{"undone", diamondTale + "bad 1 d, undo 1 c\nundone 1 c", "d", "", "step d of run run comes after c, which was undone: fork from there"},
		{"beside what was undone", diamondTale + "bad 1 d, undo 1 c\nundone 1 c", "b",
			first + "plan two a; next 1 5; did 1 a as run/two/a/do; sent 1 a as 0; ok 1 a", ""},
		{"cancelled, and on its way", "plan p a b\nsent 0 a, sent 0 b\nok 0 a, stopped\nplan q c", "b",
			"plan p a; next 0 2; did 0 a as run/p/a/do; sent 0 a as 0; ok 0 a", ""},
		{"another plan is on its way", "plan p a\nplan q c d, sent 0 a, sent 1 c, sent 1 d\nok 1 d\nok 0 a", "a",
			"plan q d; next 0 2; did 0 d as run/q/d/do; sent 0 d as 1; ok 0 d", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			units, err := Fork(tale(t, c.journal), "run", c.from)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v\nwant %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := told(t, units); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			if again, err := Fork(units, "fork", "x"); err == nil && c.from != "x" && told(t, again) != "value now" {
				t.Errorf("forked again: %s", told(t, again))
			}
		})
	}
}

// Who forks a fork keeps the keys under which steps were done.
func TestFork_OfAFork(t *testing.T) {
	units, err := Fork(tale(t, diamondTale), "run", "d")
	if err != nil {
		t.Fatal(err)
	}
	want := told(t, units)
	units, err = Fork(units, "second", "b")
	if err != nil {
		t.Fatal(err)
	}
	got := told(t, units)
	if strings.Contains(got, "second") || !strings.HasPrefix(want, got[:strings.Index(got, "plan two")]) || !strings.Contains(got, "plan two a c<a; next 1 4; did 1 a as run/two/a/do") {
		t.Errorf("\n got %s\nof   %s", got, want)
	}
}
