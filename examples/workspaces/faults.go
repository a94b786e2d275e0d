package main

import "sync"

// Faults are what shall go wrong, by point: "OP:before", "OP:after" and
// "OP:undo", where OP is an action's name, for workers with "-" and its number.
// A test sets them; nil means that nothing goes wrong.
type Faults struct {
	mu sync.Mutex
	at map[string]func() error // guarded by mu; called once
}

// Set arms one point, for one time.
func (f *Faults) Set(point string, fault func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[string]func() error{}
	}
	f.at[point] = fault
}

func (f *Faults) hit(point string) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	fault := f.at[point]
	delete(f.at, point)
	f.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault()
}
