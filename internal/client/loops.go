package client

import (
	"fmt"
	"slices"
	"strings"
)

// String says what there is to know of the wait in one line.
func (x LoopWait) String() string {
	held := make([]string, 0, len(x.Holds))
	for _, h := range x.Holds {
		held = append(held, h.Lock)
	}
	return fmt.Sprintf("%s on %s holds %s and waits for %s", x.Func, x.Node, strings.Join(held, ", "), x.Lock)
}

// String is the waits in a line.
func (l Loop) String() string {
	texts := make([]string, len(l))
	for i, x := range l {
		texts[i] = x.String()
	}
	return strings.Join(texts, "; ")
}

// FindLoops finds cycles among waits: for each wait the shortest through it, each
// told once, at most so many. A path that ok refuses is none.
func FindLoops(all []LoopWait, most int, ok func(path []int) bool) (paths [][]int) {
	holders := map[string][]int{} // by lock
	for i := range all {
		for _, hold := range all[i].Holds {
			holders[hold.Lock] = append(holders[hold.Lock], i)
		}
	}
	told := make([]bool, len(all))
	for i := range all {
		if told[i] || len(paths) == most {
			continue
		}
		if path := shortest(all, holders, i); path != nil && ok(path) {
			for _, j := range path {
				told[j] = true
			}
			paths = append(paths, path)
		}
	}
	return paths
}

// stands tells whether a wait is in the way of another: it holds what that one
// wants, and not both for reading.
func stands(wants, holds *Wait) bool {
	return slices.ContainsFunc(holds.Holds, func(h Hold) bool { return h.Lock == wants.Lock && (h.Write || wants.Write) })
}

// shortest is the shortest cycle from and to a wait, or nil.
func shortest(all []LoopWait, holders map[string][]int, from int) []int {
	came := map[int]int{}
	for line := []int{from}; len(line) > 0; line = line[1:] {
		at := line[0]
		for _, next := range holders[all[at].Lock] {
			if !stands(&all[at].Wait, &all[next].Wait) {
				continue
			}
			if next == from {
				path := []int{at}
				for at != from {
					at = came[at]
					path = append(path, at)
				}
				slices.Reverse(path)
				return path
			}
			if _, been := came[next]; !been {
				came[next] = at
				line = append(line, next)
			}
		}
	}
	return nil
}
