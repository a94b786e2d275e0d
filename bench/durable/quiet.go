package main

import (
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// quiet is a logger that says nothing.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// named registers what a workflow calls by name.
func named(w worker.Worker, flow, step any) {
	w.RegisterWorkflowWithOptions(flow, workflow.RegisterOptions{Name: "flow"})
	w.RegisterActivityWithOptions(step, activity.RegisterOptions{Name: "step"})
}
