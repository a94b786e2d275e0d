// Package journal is the records of a durable run and their bytes: what the
// drive of the run took in, in order, and what it was about to send. See
// docs/adr/0007-durable-events.md.
//
//	var u journal.Unit
//	u.Add(&journal.Record{Kind: journal.Reported, Plan: 0, Step: 2, Number: 3, Report: rep})
//	bytes := u.Bytes(now)                     // one input, and what follows from it
//	at, recs, err := journal.Parse(bytes)
//
// A unit is what is appended at once: its version, its time, and its records.
//
//	unit   = version(1 byte) time(varint, ns since 1970) record*
//	record = kind(1 byte) length(uvarint) body
//
// A plan is kept as data: the names, kinds, targets and edges of its steps, and
// the inputs that are known. A unit that is large may be kept elsewhere: another
// stands for it (Stand). Diff says in words how two shapes of it differ.
//
// # Guarantees
//
// What was written by an earlier version is read by this one: testdata holds the
// journals of each. Parsing never panics, whatever the bytes, and what it returns
// points into them.
//
// # Failures
//
// A journal of a newer version is ErrNewer, other bytes are ErrMalformed.
package journal

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/distgear/distgear/internal/wire"
)

// Version is the first byte of each unit.
const Version = 1

// The errors of Parse.
var (
	ErrNewer     = errors.New("journal: written by a newer version")
	ErrMalformed = errors.New("journal: malformed")
)

// Kind is what a record tells.
type Kind uint8

// The kinds. Each is followed by the fields of a Record that it uses; Plan and
// Step are those of all that are about a plan.
const (
	Planned   Kind = 1 + iota // a plan began: Shape; its number is how many there were before
	Sent                      // an attempt is about to be sent: Step Undo Number Node Life, Input if it was computed
	Reported                  // what became of it: Step Undo Number Report
	Ended                     // a step, or the attempt to undo it, ended without one being sent: Step Undo Report
	Decided                   // an operator said so: Step How Text
	Cancelled                 // a plan was cancelled: Timeout
	Unwound                   // a plan that had ended is to be undone (S16)
	Value                     // what r.Now, r.Rand or r.Members returned, or a signal that was taken: Name Input
	Slept                     // r.Sleep was called: Until
	Stopped                   // the run was cancelled
	Closed                    // the run ended: Report
	Adopted                   // a plan goes on in another shape: Shape, Number of the next attempt; what was recorded of it before counts no more
	Stored                    // this unit is kept elsewhere, being large: Input says where
	Forked                    // another run did a step: Step, Name is the key of its command
	kinds
)

// String is the kind in one word.
func (k Kind) String() string {
	names := [...]string{"planned", "sent", "reported", "ended", "decided", "cancelled", "unwound", "value", "slept", "stopped", "closed", "adopted", "stored", "forked"}
	if k == 0 || int(k) > len(names) {
		return "invalid"
	}
	return names[k-1]
}

// Record is one thing that happened. Which fields it uses is its kind's to say.
type Record struct {
	Kind    Kind
	Plan    uint32
	Step    uint32
	Undo    bool
	Number  uint32 // of an attempt, among all of its plan
	Node    string
	Life    uint64
	Input   []byte
	HasIn   bool // Input is told
	Report  Report
	How     uint8
	Timeout bool
	Name    string
	Text    string
	Until   int64 // ns since 1970
	Shape   *Plan
}

// Report is the outcome of an attempt.
type Report = wire.Report

// Error is what it says when it failed.
type Error = wire.Error

// Plan is a plan as data.
type Plan struct {
	Name     string
	Rollback bool
	Steps    []Step
}

// Step is a step as data.
type Step struct {
	Name     string
	Kind     string
	Node     string   // its target; empty means any that has Labels
	Labels   []string // "key=value"
	After    []uint32
	Event    bool
	Undo     bool
	Pivot    bool
	Computed bool   // Input is computed when the steps before it are OK
	Input    []byte // unless it is computed

	Policy     bool   // what follows is told; journals of before do not
	Retries    uint32 // how often it is tried again
	Idempotent bool
	Durable    bool // the event is
}

// Hash is that of the plan's shape: its steps' names, kinds and order, what has
// an undo, what is a pivot, whether it is rolled back. Targets, inputs and policies
// are not part of it: those of the journal count.
func (p *Plan) Hash() uint64 {
	h := fnv.New64a()
	var space [256]byte
	b := append(strconv.AppendBool(space[:0], p.Rollback), 0)
	for i := range p.Steps {
		s := &p.Steps[i]
		b = append(append(b, s.Name...), 0)
		b = append(append(b, s.Kind...), 0, '[')
		for k, a := range s.After { // as fmt.Sprint has it: journals have such sums
			if k > 0 {
				b = append(b, ' ')
			}
			b = strconv.AppendUint(b, uint64(a), 10)
		}
		b = append(b, ']')
		for _, is := range [...]bool{s.Event, s.Undo, s.Pivot} {
			b = strconv.AppendBool(append(b, ' '), is)
		}
		b = append(b, 0)
		_, _ = h.Write(b) // never fails
		b = b[:0]
	}
	_, _ = h.Write(b)
	return h.Sum64()
}

// find is the step of that name; -1: there is none.
func (p *Plan) find(name string) int {
	return slices.IndexFunc(p.Steps, func(s Step) bool { return s.Name == name })
}

// before names the steps that a step comes after, in the order of their names.
func (p *Plan) before(s *Step) string {
	if len(s.After) == 0 {
		return "nothing"
	}
	var names []string
	for _, a := range s.After {
		if int(a) < len(p.Steps) {
			names = append(names, p.Steps[a].Name)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// Diff says how the shape of a plan differs from the one that the journal has,
// one line for each difference. became tells what became of a step of the
// journal's; nil means that nobody knows.
func Diff(had, has *Plan, became func(step int) string) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if had.Rollback != has.Rollback {
		add("rollback: was %s, is %s", onOff(had.Rollback), onOff(has.Rollback))
	}
	for i := range had.Steps {
		old := &had.Steps[i]
		was := ""
		if became != nil {
			was = " (" + became(i) + ")"
		}
		at := has.find(old.Name)
		if at < 0 {
			add("step %s%s: gone; it was %s, after %s", old.Name, was, old.Kind, had.before(old))
			continue
		}
		s := &has.Steps[at]
		var changes []string
		change := func(what, from, to string) {
			if from != to {
				changes = append(changes, what+" "+from+", now "+to)
			}
		}
		change("was", kindOf(old), kindOf(s))
		change("came after", had.before(old), has.before(s))
		change("had", undoOf(old), undoOf(s))
		change("was", pivotOf(old), pivotOf(s))
		if len(changes) > 0 {
			add("step %s%s: %s", old.Name, was, strings.Join(changes, "; "))
		}
	}
	for i := range has.Steps {
		if s := &has.Steps[i]; had.find(s.Name) < 0 {
			add("step %s: new: %s, after %s", s.Name, kindOf(s), has.before(s))
		}
	}
	if len(lines) == 0 && had.Hash() != has.Hash() {
		add("the same steps in another order: was %s; is %s", names(had), names(has))
	}
	return lines
}

func names(p *Plan) string {
	var b []string
	for i := range p.Steps {
		b = append(b, p.Steps[i].Name)
	}
	return strings.Join(b, ", ")
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func kindOf(s *Step) string {
	if s.Event {
		return "the event " + s.Kind
	}
	return s.Kind
}

func undoOf(s *Step) string {
	if s.Undo {
		return "an undo"
	}
	return "no undo"
}

func pivotOf(s *Step) string {
	if s.Pivot {
		return "the pivot"
	}
	return "not the pivot"
}
