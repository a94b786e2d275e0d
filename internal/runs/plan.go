package runs

import "github.com/distgear/distgear/internal/graph"

type (
	// Plan is a graph of steps to drive.
	Plan = graph.Plan
	// Step is one of them.
	Step = graph.Step
	// Failure says how a plan failed, or was cancelled.
	Failure = graph.Failure
)

// The ends of keys.
const (
	DoEnd   = graph.DoEnd
	UndoEnd = graph.UndoEnd
)
