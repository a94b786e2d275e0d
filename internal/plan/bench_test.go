package plan

import "testing"

// six is the plan (a, b → c → d; d, e → f).
var six = []Step{{Undo: true}, {Undo: true}, {After: []int{0, 1}, Undo: true}, {After: []int{2}, Undo: true}, {Undo: true}, {After: []int{3, 4}}}

func TestNew_Allocations(t *testing.T) {
	var fx [8]Effect
	wide := make([]Step, 64)
	for i := range wide {
		for j := range i {
			wide[i].After = append(wide[i].After, j)
		}
	}
	for _, steps := range [][]Step{six, wide} {
		if n := testing.AllocsPerRun(100, func() { New(Spec{Steps: steps}).Start(fx[:0]) }); n > 2 {
			t.Errorf("%d steps: %v allocations, want 2", len(steps), n)
		}
	}
}

func BenchmarkSixSteps(b *testing.B) {
	bench := func(b *testing.B, last Outcome) {
		b.ReportAllocs()
		var buf [8]Effect
		for b.Loop() {
			m := New(Spec{Steps: six, Rollback: true})
			todo := m.Start(buf[:0])
			for len(todo) > 0 {
				e := todo[len(todo)-1]
				todo = todo[:len(todo)-1]
				switch {
				case e.Op == Undo:
					todo = m.UndoReport(e.Step, true, todo)
				case e.Step == 5:
					todo = m.Report(e.Step, last, true, todo)
				default:
					todo = m.Report(e.Step, OK, true, todo)
				}
			}
			if !m.Settled() {
				b.Fatal("not settled")
			}
		}
	}
	b.Run("ok", func(b *testing.B) { bench(b, OK) })
	b.Run("rollback", func(b *testing.B) { bench(b, Dirty) })
}
