package journal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/wire"
)

// Fork is the journal of a new run that goes on from another one, of which units are
// the journal, before the step from: its name, or PLAN/STEP. What that step does not
// come after is kept, as far as it is OK and not undone: it does not run again, and is
// undone, if it must be, under the keys of the run that did it. The step, what comes after
// it, what was not OK, and the plans that began later are as if they had never been.
// So are values and signals that the handler took after the step was sent first.
//
// It is an error when nothing, or more than one, has the name, and when a step before it is
// not OK, or was undone: then nothing could be kept that the step needs.
func Fork(units [][]byte, of, from string) ([][]byte, error) {
	f := fork{of: of, cut: -1}
	if err := f.read(units); err != nil {
		return nil, err
	}
	if err := f.find(from); err != nil {
		return nil, err
	}
	for number, p := range f.plans {
		whole, target := f.settled(number), number == f.plan
		switch {
		case f.cut >= 0 && p.began > f.cut:
			continue // it began later
		case p.unwound:
			return nil, fmt.Errorf("plan %s of run %s was undone when the run had ended: fork from its first step", p.shape.Name, of)
		case !target && whole:
			f.whole(number)
		default:
			if err := f.part(number, target); err != nil {
				return nil, err
			}
		}
	}
	for i := range f.all {
		if r := &f.all[i]; (r.Kind == Value || r.Kind == Slept) && (f.cut < 0 || i < f.cut) {
			f.emit(i, r.Record)
		}
	}
	slices.SortStableFunc(f.out, func(a, b emitted) int { return cmp.Compare(a.at, b.at) })
	return f.units(), nil
}

type fork struct {
	of    string
	all   []Timed // the records of the journal
	plans []*forked
	plan  int // of the step from
	step  int
	cut   int // the record that sent it first; -1: it was never sent
	kept  uint32
	out   []emitted
}

// emitted is a record of the new journal, and the number of the one of the old that
// it is, or comes with.
type emitted struct {
	at int
	Record
}

// forked is a plan of the journal that is forked.
type forked struct {
	shape   *Plan
	began   int // the number of the record
	first   int // of its records of the shape that it has now
	done    map[int]string
	unwound bool
}

func (f *fork) read(units [][]byte) error {
	past, err := Read(units) // it is as it should be
	if err != nil {
		return err
	}
	for _, u := range units {
		at, recs, _ := Parse(u) // it was read above
		for _, r := range recs {
			n := len(f.all)
			f.all = append(f.all, Timed{at, r})
			switch r.Kind {
			case Planned:
				f.plans = append(f.plans, &forked{shape: past.Plans[len(f.plans)].Shape, began: n, first: n, done: map[int]string{}})
			case Adopted:
				f.plans[r.Plan].first = n
				f.plans[r.Plan].done = map[int]string{}
			case Forked:
				f.plans[r.Plan].done[int(r.Step)] = r.Name
			case Unwound:
				f.plans[r.Plan].unwound = true
			}
		}
	}
	return nil
}

// find finds the step to fork from.
func (f *fork) find(from string) error {
	var found, have []string
	for i, p := range f.plans {
		for j := range p.shape.Steps {
			name := p.shape.Name + "/" + p.shape.Steps[j].Name
			have = append(have, name)
			if p.shape.Steps[j].Name == from || name == from {
				found = append(found, name)
				f.plan, f.step = i, j
			}
		}
	}
	switch {
	case len(have) == 0:
		return fmt.Errorf("run %s has begun no plan: there is nothing to fork from", f.of)
	case len(found) == 0:
		return fmt.Errorf("run %s has no step %q: it has %s", f.of, from, strings.Join(have, ", "))
	case len(found) > 1:
		return fmt.Errorf("run %s has more than one step %q: say which of %s", f.of, from, strings.Join(found, ", "))
	}
	for i := f.plans[f.plan].first; i < len(f.all); i++ {
		if r := &f.all[i]; int(r.Plan) == f.plan && int(r.Step) == f.step && (r.Kind == Sent || r.Kind == Ended) && !r.Undo {
			f.cut = i
			break
		}
	}
	return nil
}

// each calls do with the records of a plan that count, and their numbers.
func (f *fork) each(number int, do func(at int, r *Record)) {
	for i := f.plans[number].first; i < len(f.all); i++ {
		switch r := &f.all[i].Record; r.Kind {
		case Sent, Reported, Ended, Decided, Cancelled, Unwound, Forked:
			if int(r.Plan) == number {
				do(i, r)
			}
		default:
		}
	}
}

// settled tells whether nothing of a plan was on its way.
func (f *fork) settled(number int) bool {
	open := map[uint32]bool{}
	f.each(number, func(_ int, r *Record) {
		switch {
		case r.Kind == Sent:
			open[r.Number] = true
		case r.Kind == Reported && (r.Report.Over || r.Report.Outcome != wire.Unknown):
			delete(open, r.Number)
		}
	})
	return len(open) == 0
}

// whole keeps a plan as it is.
func (f *fork) whole(number int) {
	p, to := f.plans[number], f.kept
	f.kept++
	f.emit(p.began, Record{Kind: Planned, Plan: to, Shape: p.shape})
	if a := &f.all[p.first]; a.Kind == Adopted {
		f.emit(p.first, Record{Kind: Adopted, Plan: to, Shape: p.shape, Number: a.Number})
	}
	told := map[uint32]bool{}
	f.each(number, func(at int, r *Record) {
		if r.Kind == Forked {
			return
		}
		if r.Kind == Sent && !told[r.Step] {
			told[r.Step] = true
			f.emit(at, Record{Kind: Forked, Plan: to, Step: r.Step, Name: f.key(number, int(r.Step))})
		}
		x := *r
		x.Plan = to
		f.emit(at, x)
	})
}

// part keeps of a plan what is OK, in a shape that has only that.
func (f *fork) part(number int, target bool) error {
	p := f.plans[number]
	n := len(p.shape.Steps)
	sent, ok := make([]int, n), make([]int, n) // the numbers of records; 0: there is none, it would be a plan's
	undone := make([]bool, n)
	tried := map[uint32]int{}
	next := uint32(0)
	f.each(number, func(at int, r *Record) {
		switch i := r.Step; {
		case r.Kind == Sent && r.Undo:
			undone[i] = true
		case r.Kind == Sent:
			tried[r.Number] = at
			next = max(next, r.Number+1)
		case r.Kind == Decided:
			undone[i] = true // by hand, maybe
		case r.Kind == Reported && !r.Undo && r.Report.Outcome == wire.OK:
			sent[i], ok[i] = tried[r.Number], at
		}
	})
	kept := make([]int, n) // their numbers in the new shape; -1: not kept
	shape := &Plan{Name: p.shape.Name, Rollback: p.shape.Rollback}
	for i := range p.shape.Steps {
		s := p.shape.Steps[i]
		kept[i] = -1
		lost := ""
		after := make([]uint32, 0, len(s.After))
		for _, a := range s.After {
			if kept[a] < 0 && lost == "" {
				lost = p.shape.Steps[a].Name
				if undone[a] {
					lost += ", which was undone"
				} else if ok[a] == 0 {
					lost += ", which is not ok"
				}
			}
			after = append(after, uint32(max(kept[a], 0)))
		}
		switch {
		case target && i == f.step && lost != "":
			return fmt.Errorf("step %s of run %s comes after %s: fork from there", s.Name, f.of, lost)
		case target && i == f.step, lost != "", ok[i] == 0, sent[i] == 0, undone[i]:
			continue
		}
		kept[i] = len(shape.Steps)
		s.After = after
		shape.Steps = append(shape.Steps, s)
	}
	if len(shape.Steps) == 0 {
		return nil
	}
	to := f.kept
	f.kept++
	f.emit(p.began, Record{Kind: Planned, Plan: to, Shape: shape})
	f.emit(p.began, Record{Kind: Adopted, Plan: to, Shape: shape, Number: next})
	for i, k := range kept {
		if k < 0 {
			continue
		}
		f.emit(sent[i], Record{Kind: Forked, Plan: to, Step: uint32(k), Name: f.key(number, i)})
		for _, at := range []int{sent[i], ok[i]} {
			x := f.all[at].Record
			x.Plan, x.Step = to, uint32(k)
			f.emit(at, x)
		}
	}
	return nil
}

// key is that of the command that did a step.
func (f *fork) key(plan, step int) string {
	p := f.plans[plan]
	if k := p.done[step]; k != "" {
		return k
	}
	return f.of + "/" + p.shape.Name + "/" + p.shape.Steps[step].Name + "/do"
}

func (f *fork) emit(at int, r Record) { f.out = append(f.out, emitted{at, r}) }

// units are the records that were emitted, those of one time together.
func (f *fork) units() (all [][]byte) {
	var u Unit
	for i := range f.out {
		u.Add(&f.out[i].Record)
		at := f.all[f.out[i].at].At
		if i+1 == len(f.out) || f.all[f.out[i+1].at].At != at {
			all = append(all, u.Bytes(at))
		}
	}
	return all
}
