package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/alitto/pond/v2"
	"github.com/distgear/distgear/bench/proc"
	"github.com/panjf2000/ants/v2"
)

// pondCaller runs tasks in a pool with results: each by its future, or many as a group, which is what pond has for those that are handed in together.
func pondCaller(sp proc.Spec) (*proc.Role, error) {
	pool := pond.NewResultPool[int](runtime.GOMAXPROCS(0))
	same := func(want, got int) error {
		if want != got {
			return fmt.Errorf("task %d has the result of %d", want, got)
		}
		return nil
	}
	return poolRole(sp, func(t proc.Tally, first, n int) error {
		task := func(i int) func() int {
			return func() int { t.Ran(i); return i }
		}
		if n == 1 {
			got, err := pool.Submit(task(first)).Wait()
			return errors.Join(err, same(first, got))
		}
		if sp.Row != "exec-alone-group" {
			fs := make([]pond.ResultTask[int], n)
			for i := range fs {
				fs[i] = pool.Submit(task(first + i))
			}
			for i, f := range fs {
				got, err := f.Wait()
				if err := errors.Join(err, same(first+i, got)); err != nil {
					return err
				}
			}
			return nil
		}
		g := pool.NewGroup()
		for i := range n {
			g.Submit(task(first + i))
		}
		results, err := g.Wait()
		if err != nil || len(results) != n {
			return fmt.Errorf("%d results of %d: %w", len(results), n, err)
		}
		for i, got := range results {
			if err := same(first+i, got); err != nil {
				return err
			}
		}
		return nil
	}, pool.StopAndWait)
}

// antsCaller runs tasks without results, since ants has none: a WaitGroup tells that they have ended.
func antsCaller(sp proc.Spec) (*proc.Role, error) {
	pool, err := ants.NewPool(runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	return poolRole(sp, func(t proc.Tally, first, n int) error {
		var wg sync.WaitGroup
		wg.Add(n)
		for i := range n {
			if err := pool.Submit(func() { t.Ran(first + i); wg.Done() }); err != nil {
				return err
			}
		}
		wg.Wait()
		return nil
	}, pool.Release)
}

func poolRole(sp proc.Spec, run func(t proc.Tally, first, n int) error, stop func()) (*proc.Role, error) {
	return runRole(func() (proc.Reply, error) { return proc.Tasks(sp, run) }, stop), nil
}

// runRole answers the one question that a rival's caller is asked about tasks.
func runRole(run func() (proc.Reply, error), stop func()) *proc.Role {
	return &proc.Role{Answers: map[string]func(string) (proc.Reply, error){"run": func(string) (proc.Reply, error) { return run() }}, Stop: stop}
}
