package plan

import "fmt"

// Machine is the state of one plan. Make it with New; it is not safe for concurrent use. A plan of six steps takes about 340 bytes.
type Machine struct {
	// One space for words, cut in six.
	bits    []uint32 // per step: state, outcome and flags
	pending []uint32 // per step, forward: steps before it that are not OK; in rollback: steps after it that are not clear
	first   []uint32 // per step, and one more: where its dependents begin in edges
	edges   []uint32 // dependents, step by step
	from    []uint32 // per step, and one more: where what it comes after begins in after
	after   []uint32 // what steps come after, step by step

	running int32 // steps in Running
	open    int32 // in rollback: steps that are not clear
	stuck   int32 // steps in Stuck
	cause   int32 // first step that failed; -1: none

	phase     Phase
	rollback  bool
	started   bool
	cancelled bool
	pivoted   bool // a pivot came OK while the plan went forward
	undoing   bool // the rollback has begun, and may have ended

	small [40]uint32 // the words of a plan of up to about six steps
}

// Bits of a step: state in bits 0-7, outcome in bits 8-15, then flags.
const (
	flagLive  uint32 = 1 << (16 + iota) // an attempt may still be running although nobody waits for it (S9)
	flagOwed                            // an undo is owed whatever the state says: after the one that runs, or when nothing holds it back
	flagClear                           // in rollback: nothing is left to undo here nor in anything that depends on it
	flagUndo                            // the action has an undo
	flagPivot                           // once it is OK the plan only goes forward
)

// New returns the machine of a plan. It panics if a step comes after itself, after a later one, or after a negative one.
func New(spec Spec) *Machine {
	m := new(Machine)
	m.Init(spec)
	return m
}

// Init is New in a place of the caller's: a Machine must not be copied afterwards.
func (m *Machine) Init(spec Spec) {
	n, e := len(spec.Steps), 0
	for i, s := range spec.Steps {
		for _, a := range s.After {
			if a < 0 || a >= i {
				panic(fmt.Sprintf("plan: step %d of %d comes after step %d", i, n, a))
			}
		}
		e += len(s.After)
	}
	*m = Machine{rollback: spec.Rollback, cause: -1}
	words := m.small[:]
	if need := 4*n + 2 + 2*e; need > len(words) {
		words = make([]uint32, need)
	}
	cut := func(n int) (part []uint32) {
		part, words = words[:n:n], words[n:]
		return part
	}
	m.bits, m.pending, m.first, m.edges, m.from, m.after = cut(n), cut(n), cut(n+1), cut(e), cut(n+1), cut(e)

	// Count the dependents of each step, sum up so that first[a] is where a's end, then fill backwards so that it is where they begin.
	for i, s := range spec.Steps {
		if s.Undo {
			m.bits[i] |= flagUndo
		}
		if s.Pivot {
			m.bits[i] |= flagPivot
		}
		m.from[i+1] = m.from[i] + uint32(len(s.After))
		for k, a := range s.After {
			m.after[int(m.from[i])+k] = uint32(a)
			m.first[a]++
		}
	}
	for a := range n {
		m.first[a+1] += m.first[a]
	}
	for i := n - 1; i >= 0; i-- {
		before := m.before(i)
		m.pending[i] = uint32(len(before))
		for _, a := range before {
			m.first[a]--
			m.edges[m.first[a]] = uint32(i)
		}
	}
}

// before lists the steps that step i comes after.
func (m *Machine) before(i int) []uint32 { return m.after[m.from[i]:m.from[i+1]] }

// Start begins the plan: the steps that come after nothing are done. It and every other input append their effects to fx and return it.
func (m *Machine) Start(fx []Effect) []Effect {
	if m.started {
		return fx
	}
	m.started = true
	if m.phase != Forward {
		return fx // cancelled before it began
	}
	for i := range m.bits {
		if m.pending[i] == 0 {
			fx = m.do(i, fx)
		}
	}
	if m.running == 0 {
		m.phase = Settled
	}
	return fx
}

// Report says that all attempts of a running step have ended, with outcome o. With Unknown, over is false if an attempt may still be running somewhere;
// then nothing that must not run beside it is sent until Over: its undo, the undos of what it comes after, or its retry after a pivot. A plan without
// rollback does not wait for that.
//
// Once a pivot is OK a step cannot fail any more: each failure is answered with Retry (S15), also one of a step that was started before the pivot was OK.
// A pivot that comes OK while the plan drains is too late: the plan rolls back, pivot included.
func (m *Machine) Report(step int, o Outcome, over bool, fx []Effect) []Effect {
	if m.State(step) != Running {
		return fx
	}
	m.bits[step] &^= flagLive
	if o == Unknown && !over {
		m.bits[step] |= flagLive
	}
	if o != OK && m.pivoted {
		if m.bits[step]&flagLive == 0 {
			fx = append(fx, Effect{Retry, step})
		}
		return fx
	}
	m.end(step, o)
	m.running--
	switch {
	case o == OK && m.phase == Forward:
		m.pivoted = m.pivoted || m.bits[step]&flagPivot != 0
		for _, d := range m.edges[m.first[step]:m.first[step+1]] {
			if m.pending[d]--; m.pending[d] == 0 && m.State(int(d)) == Waiting {
				fx = m.do(int(d), fx)
			}
		}
	case o != OK:
		if m.cause < 0 {
			m.cause = int32(step)
		}
		if m.rollback && m.phase == Forward {
			m.stop()
		} else {
			m.skipAfter(step)
		}
	}
	return m.drained(fx)
}

// Over says that no attempt of the step can be running any more: it was cancelled and confirmed, or its node's session is over (S9).
func (m *Machine) Over(step int, fx []Effect) []Effect {
	if m.bits[step]&flagLive == 0 {
		return fx
	}
	m.bits[step] &^= flagLive
	if m.State(step) == Running {
		return append(fx, Effect{Retry, step})
	}
	if !m.undoing {
		return fx
	}
	return m.advance(step, fx)
}

// UndoReport says that the undo of a step ended: ok if it said that the step is undone; otherwise the driver gave up retrying, and the step is stuck until
// Resolve. What the step comes after waits, other branches go on (S10).
func (m *Machine) UndoReport(step int, ok bool, fx []Effect) []Effect {
	if m.State(step) != Undoing {
		return fx
	}
	if !ok {
		m.set(step, Stuck)
		m.stuck++
		m.bits[step] &^= flagOwed // the retry that somebody has to ask for is the one more
		return fx
	}
	m.set(step, Undone)
	return m.advance(step, fx)
}

// Resolve is an operator's decision about a stuck undo. It is an error, and changes nothing, if the undo of that step is not stuck.
func (m *Machine) Resolve(step int, how Resolution, fx []Effect) ([]Effect, error) {
	if step < 0 || step >= len(m.bits) {
		return fx, fmt.Errorf("plan has no step %d", step)
	}
	if s := m.State(step); s != Stuck {
		return fx, fmt.Errorf("undo is not stuck: the step is %v", s)
	}
	switch how {
	case RetryUndo:
		m.bits[step] |= flagOwed // it stays stuck until advance sends it
	case SkipUndo, MarkUndone:
		m.bits[step] &^= flagOwed
		m.stuck--
		m.set(step, UndoSkipped)
		if how == MarkUndone {
			m.set(step, UndoMarked)
		}
	default:
		return fx, fmt.Errorf("no such resolution: %d", how)
	}
	return m.advance(step, fx), nil
}

// Cancel stops dispatch and asks what runs to stop; its outcomes are collected, then the plan is rolled back if it has Rollback (S11). It works before
// Start and while the plan drains after a failure. It changes nothing, and Cancelled stays false, once a pivot is OK (S15), during rollback and after it.
func (m *Machine) Cancel(fx []Effect) []Effect {
	if m.cancelled || m.pivoted || m.phase > Draining {
		return fx
	}
	m.cancelled, m.started = true, true
	for i := range m.bits {
		if m.State(i) == Running {
			fx = append(fx, Effect{Cancel, i})
		}
	}
	m.stop()
	return m.drained(fx)
}

// Late is a result that came after the driver had reported Unknown, or after a retry; it is the outcome of the step, so no attempt of it is running any
// more. A result of one attempt while another may be running is for the driver to keep. Unknown is no result and has no effect (S12):
//
//   - The outcome is unknown: it is adopted. Steps that were skipped stay skipped and a plan that failed stays failed: what was decided is not taken back.
//     If the undo was not sent yet, clean and never ran need none, and OK and dirty get it now, unless others hold it back.
//   - The outcome is clean or never ran, yet the result is OK or dirty: adopted likewise; who saw effects is believed.
//   - The undo was done, or marked done, and the result is OK or dirty: one more undo. This can take a settled plan back to rolling back.
//   - The undo is running and the result is OK or dirty: one more after it, however many results come.
//   - The undo is stuck: nothing but the adopted outcome; it is for the operator, who can read it, to retry, skip or mark.
//   - The step is running (a retry): nothing; the driver may report it as the outcome. Only where a retry after a pivot waits for Over it counts as Report.
//   - Anything else (OK already, undo skipped by an operator, never sent): nothing.
func (m *Machine) Late(step int, o Outcome, fx []Effect) []Effect {
	if o == Unknown {
		return fx
	}
	s := m.State(step)
	switch {
	case s == Running && m.bits[step]&flagLive != 0:
		return m.Report(step, o, true, fx)
	case s == Running, s == Waiting, s == Skipped:
		return fx
	}
	was := m.Outcome(step)
	adopt := was == Unknown || o.effects() && (was == Clean || was == NeverRan)
	switch {
	case adopt && (s == Lost || s == Failed || s == NotRun):
		m.bits[step] &^= flagLive
		m.end(step, o)
	case adopt:
		m.setOutcome(step, o)
		fallthrough
	default:
		if !o.effects() || s != Undoing && s != Undone && s != UndoMarked {
			return fx
		}
		m.bits[step] |= flagOwed
	}
	if !m.undoing {
		return fx
	}
	return m.recount(fx)
}

// Unwind undoes a plan that has settled without being rolled back: all that S6 says, whether it is OK or, without rollback, partly failed or cancelled. It
// is how a nested event is undone by the plan it was a step of (S16), so neither Rollback nor a pivot stand in its way. A plan that is not settled must be
// cancelled first; then, and if it is rolled back already, Unwind changes nothing.
func (m *Machine) Unwind(fx []Effect) []Effect {
	if m.phase != Settled || m.undoing {
		return fx
	}
	m.undoing = true
	return m.recount(fx)
}

// do starts a step.
func (m *Machine) do(i int, fx []Effect) []Effect {
	m.set(i, Running)
	m.running++
	return append(fx, Effect{Do, i})
}

// stop ends dispatch for good.
func (m *Machine) stop() {
	m.phase = Draining
	for i := range m.bits {
		if m.State(i) == Waiting {
			m.set(i, Skipped)
		}
	}
}

// skipAfter skips whatever depends on step i.
func (m *Machine) skipAfter(i int) {
	for _, d := range m.edges[m.first[i]:m.first[i+1]] {
		if m.State(int(d)) == Waiting {
			m.set(int(d), Skipped)
			m.skipAfter(int(d))
		}
	}
}

// drained goes on to the next phase if nothing runs any more. While the plan goes forward, a step that waits has one before it that runs.
func (m *Machine) drained(fx []Effect) []Effect {
	if m.running > 0 {
		return fx
	}
	if m.phase == Draining && m.rollback {
		m.undoing = true
		return m.recount(fx)
	}
	m.phase = Settled
	return fx
}

// recount works out from the last step to the first what holds back what, and sends the undos that nothing holds back. Steps have smaller indices than
// their dependents, so pending[i] is complete when i is reached.
func (m *Machine) recount(fx []Effect) []Effect {
	clear(m.pending)
	m.open = 0
	m.phase = RollingBack
	for i := len(m.bits) - 1; i >= 0; i-- {
		m.bits[i] &^= flagClear
		if m.pending[i] == 0 {
			if m.released(i) {
				m.bits[i] |= flagClear
				continue
			}
			fx = m.undo(i, fx)
		}
		m.open++
		for _, a := range m.before(i) {
			m.pending[a]++
		}
	}
	if m.open == 0 {
		m.phase = Settled
	}
	return fx
}

// advance goes on with the rollback after something about step i changed, and from it to the steps it comes after.
func (m *Machine) advance(i int, fx []Effect) []Effect {
	switch {
	case m.pending[i] != 0 || m.bits[i]&flagClear != 0:
		return fx
	case !m.released(i):
		return m.undo(i, fx)
	}
	m.bits[i] |= flagClear
	if m.open--; m.open == 0 {
		m.phase = Settled
	}
	for _, a := range m.before(i) {
		if m.pending[a]--; m.pending[a] == 0 {
			fx = m.advance(int(a), fx)
		}
	}
	return fx
}

// owes reports whether an undo of step i has still to be sent: OK, unknown and dirty if the action has an undo (S6), or one more.
func (m *Machine) owes(i int) bool {
	switch m.State(i) {
	case Done, FailedDirty, Lost:
		return m.bits[i]&flagUndo != 0
	case Undoing:
		return false
	}
	return m.bits[i]&flagOwed != 0
}

// released reports whether step i itself holds back nothing: no attempt of it can be running, with or without an undo (S9), and none is owed, under way or
// stuck.
func (m *Machine) released(i int) bool {
	s := m.State(i)
	return m.bits[i]&flagLive == 0 && s != Undoing && s != Stuck && !m.owes(i)
}

// undo sends the undo of step i if one is owed and no attempt can be running.
func (m *Machine) undo(i int, fx []Effect) []Effect {
	if m.bits[i]&flagLive != 0 || !m.owes(i) {
		return fx
	}
	if m.State(i) == Stuck {
		m.stuck--
	}
	m.bits[i] &^= flagOwed
	m.set(i, Undoing)
	return append(fx, Effect{Undo, i})
}

func (m *Machine) set(i int, s State)          { m.bits[i] = m.bits[i]&^0xff | uint32(s) }
func (m *Machine) setOutcome(i int, o Outcome) { m.bits[i] = m.bits[i]&^0xff00 | uint32(o)<<8 }
func (m *Machine) end(i int, o Outcome)        { m.set(i, ended(o)); m.setOutcome(i, o) }

// Len returns the number of steps.
func (m *Machine) Len() int { return len(m.bits) }

// State returns where a step is.
func (m *Machine) State(step int) State { return State(m.bits[step]) }

// Outcome returns what is known of a step that ran; Unknown before and while it runs. It stays what it was when the step is undone.
func (m *Machine) Outcome(step int) Outcome { return Outcome(m.bits[step] >> 8) }

// Phase returns where the plan is.
func (m *Machine) Phase() Phase { return m.phase }

// Settled reports whether nothing runs and nothing will be sent until an input. A plan with a stuck undo is not settled; nor is, in rollback, one with an
// attempt that may still be running. Without rollback such an attempt is not waited for.
func (m *Machine) Settled() bool { return m.phase == Settled }

// Failed reports whether a step failed while the plan went forward or drained. It stays so, whatever Late brings.
func (m *Machine) Failed() bool { return m.cause >= 0 }

// Cause returns the first step that failed, -1 if none did.
func (m *Machine) Cause() int { return int(m.cause) }

// Cancelled reports whether a Cancel took effect.
func (m *Machine) Cancelled() bool { return m.cancelled }

// Pivoted reports whether a pivot came OK while the plan went forward: failures only retry and Cancel has no effect.
func (m *Machine) Pivoted() bool { return m.pivoted }

// StuckCount returns the number of steps whose undo is stuck.
func (m *Machine) StuckCount() int { return int(m.stuck) }

// Stuck reports whether the undo of any step is stuck.
func (m *Machine) Stuck() bool { return m.stuck > 0 }

// RolledBack reports whether the plan has settled after a rollback in which every step that needed an undo was undone by its undo. It is false if an
// operator skipped one or marked one as undone. What has no undo needs none: a plan whose OK steps have no undo is rolled back when nothing runs.
func (m *Machine) RolledBack() bool {
	if !m.undoing || m.phase != Settled {
		return false
	}
	for i := range m.bits {
		if s := m.State(i); s == UndoSkipped || s == UndoMarked {
			return false
		}
	}
	return true
}
