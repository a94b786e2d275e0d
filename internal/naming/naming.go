// Package naming names the steps of a plan, and gives them the keys of their
// commands.
//
//	faults := naming.Steps("run-1", "plan", steps) // run-1/plan/mount/do, run-1/plan/mount-2/do …
//
// # Guarantees
//
// Names are unique in a plan, and the same for the same plan.
//
// # Failures
//
// Names that the user gave twice are faults.
package naming

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/distgear/distgear/internal/runs"
)

// fewSteps is up to how many steps a name is looked for without a map.
const fewSteps = 16

// Steps names the steps of a run's plan that have no name yet, after their
// kinds, and gives all of them their keys: run/plan/step/do. of is the plan.
// Names that are there twice are faults.
func Steps(run, of string, steps []*runs.Step) (faults []error) {
	var numbers map[string]int // of many steps: the last number after a name, at least 1 if it is taken
	if len(steps) > fewSteps {
		numbers = make(map[string]int, len(steps))
	}
	taken := func(name []byte, by []*runs.Step) bool {
		if numbers != nil {
			return numbers[string(name)] > 0
		}
		for _, s := range by {
			if s.Name == string(name) {
				return true
			}
		}
		return false
	}
	var space [160]byte
	size := 0
	for i, s := range steps {
		size += len(run) + len(of) + max(len(s.Name), len(s.Kind)+4) + 2 + len(runs.DoEnd)
		if s.Name == "" {
			continue
		}
		if taken(append(space[:0], s.Name...), steps[:i]) {
			faults = append(faults, fmt.Errorf("two steps are named %q", s.Name))
		} else if numbers != nil {
			numbers[s.Name] = 1
		}
	}
	var keys strings.Builder // names and keys are parts of one string
	keys.Grow(size)
	for _, s := range steps {
		name := append(space[:0], s.Name...)
		if s.Name == "" {
			name = append(name, s.Kind...)
			n := max(1, numbers[s.Kind])
			for taken(name, steps) {
				n++
				name = strconv.AppendInt(append(append(name[:0], s.Kind...), '-'), int64(n), 10)
			}
			if numbers != nil {
				numbers[s.Kind] = n
			}
		}
		begin := keys.Len()
		keys.WriteString(run)
		keys.WriteByte('/')
		keys.WriteString(of)
		keys.WriteByte('/')
		at := keys.Len()
		keys.Write(name)
		end := keys.Len()
		keys.WriteString(runs.DoEnd)
		s.Name, s.Key = keys.String()[at:end], keys.String()[begin:]
		if numbers != nil {
			numbers[s.Name] = max(1, numbers[s.Name])
		}
	}
	return faults
}
