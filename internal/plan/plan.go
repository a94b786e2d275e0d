// Package plan decides what a plan does next: which steps are ready, what a failure means for the others, and in which order they are undone. It is a
// state machine and nothing else: no clock, no goroutine, no I/O. Its driver feeds it what happened and carries out the effects it answers with.
//
//	m := plan.New(plan.Spec{Rollback: true, Steps: []plan.Step{
//		{Undo: true}, {Undo: true}, {After: []int{0, 1}},
//	}})
//	fx := m.Start(nil)                             // do 0, do 1
//	fx = m.Report(0, plan.OK, true, fx[:0])        // nothing: 2 waits for 1, too
//	fx = m.Report(1, plan.Clean, true, fx[:0])     // undo 0; 2 is skipped
//	fx = m.UndoReport(0, true, fx[:0])             // nothing: m.Settled() and m.RolledBack()
//
// # Guarantees
//
// The rules are those of docs/guarantees.md; S numbers are named where they are decided. In short: a step is done only after all it comes after are OK
// (S2). Without rollback a failure skips what depends on it and nothing else; with it the first failure stops dispatch, what runs is awaited, then all
// that may have had effects is undone (S5, S6), each step after everything that depends on it, also through steps with nothing to undo (S8). An undo is
// never sent while an attempt of its step, or of a step that depends on it, may still be running (S9). A step is undone only if its undo said so (S10).
//
// The same inputs in the same order give the same effects in the same order. Inputs that do not fit (a report of a step that does not run, a second
// Over) change nothing. No method allocates, except New, and append when fx is too small.
//
// # Failures
//
// None of its own. New panics if a step comes after itself or a later one, which only a wrong program can ask for. Resolve returns an error if the step
// is not stuck. An index out of range panics elsewhere, as it does for a slice.
package plan

// Outcome is what is known of a step's attempts. The zero value is Unknown.
type Outcome uint8

const (
	Unknown  Outcome = iota // nobody confirmed anything
	OK                      // done
	Clean                   // failed; the action says that nothing was changed
	Dirty                   // failed; may have had effects
	NeverRan                // refused, or not started in time
)

// String returns the outcome as people read it.
func (o Outcome) String() string {
	return text(int(o), "unknown", "ok", "failed, clean", "failed, dirty", "never ran")
}

// Then is the outcome of a step whose attempts so far ended as o and whose next attempt ended as next: OK if any was OK, else the one that says least:
// unknown before dirty before clean before never ran. So a retry that failed clean does not hide that the attempt before it may have had effects.
// An answer to a question about the same attempt (AskSame) replaces that attempt's outcome and is not a next one.
func (o Outcome) Then(next Outcome) Outcome {
	for _, known := range [...]Outcome{OK, Unknown, Dirty, Clean} {
		if o == known || next == known {
			return known
		}
	}
	return NeverRan
}

// effects reports whether something certainly, or as far as the action can tell, happened.
func (o Outcome) effects() bool { return o == OK || o == Dirty }

// Step is one step of a plan.
type Step struct {
	After []int // steps that must be OK before; each less than the step's own index, so cycles cannot be written; repeating one is harmless
	Undo  bool  // the action has an undo
	Pivot bool  // once it is OK the plan only goes forward
}

// Spec is a plan to run.
type Spec struct {
	Steps    []Step // copied; nil is a plan that is settled as soon as it starts
	Rollback bool   // undo on the first failure; false: go on with what does not depend on the failed step
}

// State is where a step is.
type State uint8

const (
	Waiting     State = iota // for steps it comes after
	Running                  // sent, or waiting to be sent again after the pivot
	Done                     // OK
	Failed                   // clean
	FailedDirty              // may have had effects
	Lost                     // outcome unknown
	NotRun                   // sent, but never ran
	Skipped                  // never sent, and will not be
	Undoing                  // undo sent
	Undone                   // its undo said so
	Stuck                    // its undo keeps failing: waits for Resolve
	UndoSkipped              // an operator decided to leave it as it is
	UndoMarked               // an operator says that it is undone
)

// String returns the state as people read it; both kinds of failure are "failed".
func (s State) String() string {
	return text(int(s), "waiting", "running", "ok", "failed", "failed", "unknown", "never ran", "skipped", "undoing", "undone", "stuck", "undo skipped",
		"marked undone")
}

// ended is the state of a step that was done with outcome o and is not being undone.
func ended(o Outcome) State {
	switch o {
	case OK:
		return Done
	case Clean:
		return Failed
	case Dirty:
		return FailedDirty
	case NeverRan:
		return NotRun
	}
	return Lost
}

// Op is what the driver has to do with a step.
type Op uint8

const (
	Do     Op = iota // send the first attempt
	Undo             // send the undo, retry it, then UndoReport
	Retry            // after the pivot: wait for the backoff, do it again, then Report. Where and when an unknown attempt may be repeated is S4's to say
	Cancel           // ask the attempt that runs to stop; its outcome is still to be reported
)

// String returns the op in one word.
func (o Op) String() string { return text(int(o), "do", "undo", "retry", "cancel") }

// Effect is one thing that the driver has to do.
type Effect struct {
	Op   Op
	Step int
}

// Resolution is what an operator decides about a stuck undo.
type Resolution uint8

const (
	RetryUndo  Resolution = iota // send it again, at once unless a step that depends on it is being undone again (S12)
	SkipUndo                     // leave the step as it is and go on with what comes before it; the plan will never be called rolled back
	MarkUndone                   // it was undone by hand; go on
)

// String returns the verb.
func (r Resolution) String() string { return text(int(r), "retry", "skip", "mark undone") }

// Phase is where the plan is as a whole.
type Phase uint8

const (
	Forward     Phase = iota // also before Start
	Draining                 // nothing new is done; what runs is awaited
	RollingBack              // also while an undo is stuck
	Settled                  // nothing runs and nothing will be sent until an input
)

// String returns the phase as people read it.
func (p Phase) String() string { return text(int(p), "forward", "draining", "rolling back", "settled") }

func text(i int, names ...string) string {
	if i < len(names) {
		return names[i]
	}
	return "invalid"
}
