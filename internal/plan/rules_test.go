package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// script runs a plan as a transcript. The plan is written "a! b c!^<a,b": ! has an undo, ^ is a pivot, < comes after. A line is an input, then "->" and
// all effects, or "is" and what is true then:
//
//	start -> do a, do b
//	a ok ->                       also clean, dirty, "never ran", unknown (over), lost (an attempt may still run)
//	a over -> undo a              a undone / a undo fails / a retry / a skip / a mark / a late dirty / cancel / unwind
//	is rolled back, a undone      phase and states; also "failed", "not failed", "cancelled", "not rolled back"
func script(t *testing.T, plan string, rollback bool, lines string) {
	t.Helper()
	spec, names := Spec{Rollback: rollback}, map[string]int{}
	var order []string
	for i, word := range strings.Fields(plan) {
		head, after, _ := strings.Cut(word, "<")
		name := strings.TrimRight(head, "!^")
		s := Step{Undo: strings.Contains(head, "!"), Pivot: strings.Contains(head, "^")}
		for a := range strings.SplitSeq(after, ",") {
			if a != "" {
				s.After = append(s.After, names[a])
			}
		}
		names[name] = i
		order = append(order, name)
		spec.Steps = append(spec.Steps, s)
	}
	m, model := New(spec), newModel(spec)
	for n, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		line = strings.TrimSpace(line)
		if facts, ok := strings.CutPrefix(line, "is "); ok {
			for fact := range strings.SplitSeq(facts, ", ") {
				if !holds(m, names, fact) {
					t.Fatalf("line %d: %s: not so: phase %v, states %v", n+1, fact, m.Phase(), states(m, order))
				}
			}
			continue
		}
		what, want, ok := strings.Cut(line, "->")
		in, known := parse(strings.TrimSpace(what), names)
		if !ok || !known {
			t.Fatalf("line %d: cannot read %q", n+1, line)
		}
		fx, _ := feed(clone(m), in)
		var got []string
		for _, e := range fx {
			got = append(got, e.Op.String()+" "+order[e.Step])
		}
		if g, w := strings.Join(got, ", "), strings.TrimSpace(want); g != w {
			t.Fatalf("line %d: %s -> %s, want %s; states %v", n+1, what, g, w, states(m, order))
		}
		if diff := both(model, m, in); diff != "" {
			t.Fatalf("line %d: %s: model and machine differ: %s", n+1, what, diff)
		}
	}
}

func states(m *Machine, order []string) (s []string) {
	for i, name := range order {
		s = append(s, fmt.Sprintf("%s %v", name, m.State(i)))
	}
	return s
}

func holds(m *Machine, names map[string]int, fact string) bool {
	switch fact {
	case "failed":
		return m.Failed()
	case "not failed":
		return !m.Failed() && m.Cause() == -1
	case "cancelled":
		return m.Cancelled()
	case "not cancelled":
		return !m.Cancelled()
	case "rolled back":
		return m.RolledBack() && m.Settled()
	case "not rolled back":
		return !m.RolledBack()
	case "settled", "forward", "draining", "rolling back":
		return m.Phase().String() == fact
	}
	name, state, _ := strings.Cut(fact, " ")
	i, ok := names[name]
	if name == "cause" {
		return m.Cause() == names[state]
	}
	return ok && m.State(i).String() == state
}

func parse(what string, names map[string]int) (input, bool) {
	name, verb, _ := strings.Cut(what, " ")
	i, isStep := names[name]
	if !isStep {
		return input{kind: what}, slices.Contains([]string{"start", "cancel", "unwind"}, what)
	}
	outcomes := map[string]Outcome{"ok": OK, "clean": Clean, "dirty": Dirty, "never ran": NeverRan, "unknown": Unknown, "lost": Unknown}
	if late, ok := strings.CutPrefix(verb, "late "); ok {
		o, ok := outcomes[late]
		return input{kind: "late", step: i, o: o}, ok
	}
	if o, ok := outcomes[verb]; ok {
		return input{kind: "report", step: i, o: o, over: verb != "lost"}, true
	}
	in, ok := map[string]input{
		"over": {kind: "over"}, "undone": {kind: "undo", ok: true}, "undo fails": {kind: "undo"},
		"retry": {kind: "resolve", how: RetryUndo}, "skip": {kind: "resolve", how: SkipUndo}, "mark": {kind: "resolve", how: MarkUndone},
	}[verb]
	in.step = i
	return in, ok
}

func TestPlan_S2_Dispatch(t *testing.T)     { rule(t, "S2 ") }
func TestPlan_S5_Failure(t *testing.T)      { rule(t, "S5 ") }
func TestPlan_S6_WhatIsUndone(t *testing.T) { rule(t, "S6 ") }
func TestPlan_S8_UndoOrder(t *testing.T)    { rule(t, "S8 ") }
func TestPlan_S9_Barrier(t *testing.T)      { rule(t, "S9 ") }
func TestPlan_S10_Stuck(t *testing.T)       { rule(t, "S10 ") }
func TestPlan_S11_Cancel(t *testing.T)      { rule(t, "S11 ") }
func TestPlan_S12_Late(t *testing.T)        { rule(t, "S12 ") }
func TestPlan_S15_Pivot(t *testing.T)       { rule(t, "S15 ") }
func TestPlan_S16_Unwind(t *testing.T)      { rule(t, "S16 ") }

// rule runs the transcripts of one rule.
func rule(t *testing.T, prefix string) {
	tests := []struct {
		name, plan string
		rollback   bool
		lines      string
	}{
		{"S2 empty", "", true, `
			start ->
			is settled, not failed, not rolled back`},
		{"S2 diamond", "a b c<a,b d<c e f<d,e", true, `
			start -> do a, do b, do e
			a ok ->
			b ok -> do c
			e ok ->
			c ok -> do d
			d ok -> do f
			is forward
			f ok ->
			is settled, f ok, not failed, not rolled back`},
		{"S2 named twice", "a b<a,a", false, `
			start -> do a
			a ok -> do b`},
		{"S5 without rollback the rest goes on", "a! b! c<a d<c e<b", false, `
			start -> do a, do b
			a dirty ->
			is forward, a failed, c skipped, d skipped, e waiting, failed, cause a
			b ok -> do e
			e unknown ->
			is settled, a failed, e unknown, b ok, cause a, not rolled back`},
		{"S5 without rollback an unknown attempt is not waited for", "a! b<a", false, `
			start -> do a
			a lost ->
			is settled, a unknown, b skipped`},
		{"S5 with rollback what runs is awaited", "a! b! c!<a", true, `
			start -> do a, do b
			b clean ->
			is draining, a running, c skipped, cause b
			a ok -> undo a
			is rolling back, b failed
			a undone ->
			is rolled back, a undone, b failed, c skipped`},
		{"S6 what is undone", "ok! unk! dirty! clean! never! skip!<never plain plainunk", true, `
			start -> do ok, do unk, do dirty, do clean, do never, do plain, do plainunk
			ok ok ->
			unk unknown ->
			dirty dirty ->
			clean clean ->
			never never ran ->
			plain ok ->
			plainunk unknown -> undo dirty, undo unk, undo ok
			dirty undone ->
			unk undone ->
			is rolling back, ok undoing, clean failed, never never ran, skip skipped, plain ok, plainunk unknown
			ok undone ->
			is rolled back`},
		{"S8 reverse, as parallel as it allows", "a! b!<a c!<a d!<b,c e<d", true, `
			start -> do a
			a ok -> do b, do c
			b ok ->
			c ok -> do d
			d ok -> do e
			e clean -> undo d
			d undone -> undo b, undo c
			c undone ->
			b undone -> undo a
			a undone ->
			is rolled back`},
		{"S8 through a step without undo", "a! b<a c!<b d<c", true, `
			start -> do a
			a ok -> do b
			b ok -> do c
			c ok -> do d
			d dirty -> undo c
			c undone -> undo a
			is b ok
			a undone ->
			is rolled back`},
		{"S9 undo waits for the attempt", "a! b!<a", true, `
			start -> do a
			a ok -> do b
			b lost ->
			is rolling back, b unknown
			b over -> undo b
			b over ->
			b undone -> undo a`},
		{"S9 a step without undo that may run holds back what it depends on", "a! b<a c!", true, `
			start -> do a, do c
			c ok ->
			a ok -> do b
			b lost -> undo c
			b over -> undo a`},
		{"S9 a known outcome ends the wait", "a! b!<a", true, `
			start -> do a
			a ok -> do b
			b lost ->
			b late dirty -> undo b`},
		{"S10 other branches go on, what comes before waits", "a! b!<a c!<a d!<c e<b,d", true, `
			start -> do a
			a ok -> do b, do c
			b ok ->
			c ok -> do d
			d ok -> do e
			e clean -> undo d, undo b
			b undo fails ->
			is b stuck, rolling back
			d undone -> undo c
			c undone ->
			is a ok, b stuck, rolling back, not rolled back
			b retry -> undo b
			is b undoing
			b undone -> undo a
			a undone ->
			is rolled back`},
		{"S10 skipped is not undone", "a! b!<a c<b", true, `
			start -> do a
			a ok -> do b
			b ok -> do c
			c dirty -> undo b
			b skip ->
			b undo fails ->
			b skip -> undo a
			is b undo skipped
			a undone ->
			is settled, not rolled back, b undo skipped`},
		{"S10 marked is not undone by its undo", "a! b!<a c<b", true, `
			start -> do a
			a ok -> do b
			b ok -> do c
			c dirty -> undo b
			b undo fails ->
			b mark -> undo a
			a undone ->
			is settled, not rolled back, b marked undone`},
		{"S11 cancel", "a! b! c<a,b", true, `
			start -> do a, do b
			a ok ->
			cancel -> cancel b
			cancel ->
			is draining, cancelled, c skipped, not failed
			b ok -> undo b, undo a
			cancel ->
			a undone ->
			b undone ->
			is rolled back, cancelled`},
		{"S11 cancel without rollback undoes nothing", "a! b!<a", false, `
			start -> do a
			cancel -> cancel a
			a ok ->
			is settled, a ok, b skipped, cancelled, not rolled back`},
		{"S11 cancel while draining", "a! b!", true, `
			start -> do a, do b
			a clean ->
			cancel -> cancel b
			b dirty -> undo b
			is cancelled, cause a`},
		{"S11 cancel during rollback and afterwards does nothing", "a! b<a", true, `
			start -> do a
			a ok -> do b
			b clean -> undo a
			cancel ->
			is not cancelled, rolling back
			a undone ->
			cancel ->
			is not cancelled, rolled back`},
		{"S11 cancel before the start", "a! b<a", true, `
			cancel ->
			is settled, cancelled, a skipped, b skipped
			start ->`},
		{"S12 adopted before its undo was sent", "a! b!<a c", true, `
			start -> do a, do c
			a ok -> do b
			b unknown ->
			b late clean ->
			is b failed, draining, cause b
			c ok -> undo a`},
		{"S12 adopted while held back: nothing to undo", "a! b!<a", true, `
			start -> do a
			a ok -> do b
			b lost ->
			b late never ran -> undo a
			is b never ran`},
		{"S12 without rollback adopted, and nothing else", "a! b<a", false, `
			start -> do a
			a lost ->
			a late ok ->
			is settled, a ok, b skipped, failed`},
		{"S12 undo done: one more", "a! b!<a c<b", true, `
			start -> do a
			a ok -> do b
			b unknown -> undo b
			b undone -> undo a
			a undone ->
			is rolled back
			b late ok -> undo b
			is rolling back, not rolled back
			b undone ->
			is rolled back
			b late clean ->`},
		{"S12 the one more holds back what is not undone yet", "a! b!<a x!<a c!<b", true, `
			start -> do a
			a ok -> do b, do x
			x ok ->
			b ok -> do c
			c unknown -> undo c, undo x
			c undone -> undo b
			b undone ->
			c late dirty -> undo c
			x undone ->
			c undone -> undo a`},
		{"S12 undo under way: one more after it", "a! b!<a", true, `
			start -> do a
			a ok -> do b
			b unknown -> undo b
			b late ok ->
			b late ok ->
			b undone -> undo b
			b undone -> undo a`},
		{"S12 undo stuck: the retry is the one more", "a!", true, `
			start -> do a
			a unknown -> undo a
			a late ok ->
			a undo fails ->
			a late ok ->
			a retry -> undo a
			a undone ->
			is rolled back`},
		{"S12 marked, then seen: one more", "a!", true, `
			start -> do a
			a unknown -> undo a
			a undo fails ->
			a mark ->
			is settled
			a late ok -> undo a
			a undone ->
			is rolled back`},
		{"S12 skipped stays skipped", "a!", true, `
			start -> do a
			a unknown -> undo a
			a undo fails ->
			a skip ->
			a late ok ->
			is settled, a undo skipped`},
		{"S12 after a retry was OK", "a! b<a", true, `
			start -> do a
			a ok -> do b
			a late dirty ->
			is a ok, forward`},
		{"S15 before the pivot failures roll back", "a! p!^<a", true, `
			start -> do a
			a ok -> do p
			p dirty -> undo p
			p undone -> undo a`},
		{"S15 after the pivot failures retry, also beside it", "a! x p^<a b<p", true, `
			start -> do a, do x
			a ok -> do p
			p ok -> do b
			x dirty -> retry x
			b clean -> retry b
			cancel ->
			is forward, not failed, not cancelled, x running
			x ok ->
			b ok ->
			is settled, not failed`},
		{"S15 retry waits for an attempt that may run", "p^ b<p", true, `
			start -> do p
			p ok -> do b
			b lost ->
			b over -> retry b
			b lost ->
			b late clean -> retry b
			b lost ->
			b late ok ->
			is settled, b ok`},
		{"S15 a pivot that comes OK while draining is too late", "x! p!^ b<p", true, `
			start -> do x, do p
			x dirty ->
			p ok -> undo p, undo x
			is b skipped`},
		{"S15 a pivot that was being cancelled is too late", "p!^", true, `
			start -> do p
			cancel -> cancel p
			p ok -> undo p`},
		{"S16 unwind a plan that is done", "a! p^<a b!<p", false, `
			start -> do a
			unwind ->
			a ok -> do p
			p ok -> do b
			b ok ->
			is settled, not rolled back
			unwind -> undo b
			cancel ->
			b undone -> undo a
			a undone ->
			is rolled back, not failed, p ok
			unwind ->`},
		{"S16 unwind waits for what may still run", "a! b!", false, `
			start -> do a, do b
			a ok ->
			b lost ->
			is settled
			unwind -> undo a
			a undone ->
			is rolling back
			b over -> undo b`},
	}
	for _, tt := range tests {
		if name, ok := strings.CutPrefix(tt.name, prefix); ok {
			t.Run(name, func(t *testing.T) { script(t, tt.plan, tt.rollback, tt.lines) })
		}
	}
}

func TestFault01_AnUndoThatFailedIsNotLabelledUndone(t *testing.T) {
	script(t, "a! b!<a c<b", true, `
		start -> do a
		a ok -> do b
		b ok -> do c
		c dirty -> undo b
		b undo fails ->
		is b stuck, a ok, not rolled back
		b skip -> undo a
		is b undo skipped, not rolled back`)
}

func TestFault02_AncestorsAreNotSkippedWhenAnUndoFails(t *testing.T) {
	script(t, "a! b!<a c<b", true, `
		start -> do a
		a ok -> do b
		b ok -> do c
		c dirty -> undo b
		b undo fails ->
		is rolling back, a ok
		b retry -> undo b
		b undone -> undo a
		a undone ->
		is rolled back`)
}

// Fault 3: a cycle cannot be written.
func TestFault03_ACycleIsRefused(t *testing.T) {
	for _, after := range [][]int{{1}, {2}, {-1}, {0, 7}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("step 1 after %v was accepted", after)
				}
			}()
			New(Spec{Steps: []Step{{}, {After: after}}})
		}()
	}
}

func TestFault13_AnActionWithoutUndoDoesNotBreakTheRollback(t *testing.T) {
	script(t, "a! b<a c<b d<c", true, `
		start -> do a
		a ok -> do b
		b ok -> do c
		c ok -> do d
		d dirty -> undo a
		a undone ->
		is rolled back, b ok, c ok, d failed`)
}

func TestFault15_ATimedOutCommandIsUndone(t *testing.T) {
	script(t, "a! b!<a c!<a", true, `
		start -> do a
		a ok -> do b, do c
		b lost ->
		c dirty -> undo c
		c undone ->
		b over -> undo b
		b undone -> undo a
		a undone ->
		is rolled back, b undone`)
}

func TestPlan_ResolveErrors(t *testing.T) {
	m := New(Spec{Steps: []Step{{Undo: true}}, Rollback: true})
	fx := m.Cancel(m.Start(nil))
	fx = m.Report(0, OK, true, fx[:0])
	for _, step := range []int{-1, 0, 1} {
		if got, err := m.Resolve(step, SkipUndo, fx); err == nil || len(got) != len(fx) {
			t.Errorf("step %d: %v, %v", step, got, err)
		}
	}
	m.UndoReport(0, false, nil)
	if _, err := m.Resolve(0, 9, nil); err == nil || m.StuckCount() != 1 {
		t.Errorf("an unknown resolution: %v", err)
	}
}

func TestStrings(t *testing.T) {
	got := fmt.Sprint(Waiting, Running, Done, Failed, FailedDirty, Lost, NotRun, Skipped, Undoing, Undone, Stuck, UndoSkipped, UndoMarked, State(99),
		OK, Dirty, Retry, SkipUndo, RollingBack, AskSame)
	want := "waiting running ok failed failed unknown never ran skipped undoing undone stuck undo skipped marked undone invalid " +
		"ok failed, dirty retry skip rolling back ask the same node"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
