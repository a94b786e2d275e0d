package runs

import "github.com/distgear/distgear/internal/graph"

type (
	// Plan is a graph of steps to drive.
	Plan = graph.Plan
	// Step is one of them.
	Step = graph.Step
)

// The ends of keys.
const (
	DoEnd   = graph.DoEnd
	UndoEnd = graph.UndoEnd
)

// Failure says how a plan failed, or was cancelled.
type Failure struct {
	Plan       string
	Step       string // the first that failed; empty when it was cancelled before
	Err        error  // why
	RolledBack bool   // all that had to be undone was undone
	Rollback   bool   // the plan has Rollback
}
