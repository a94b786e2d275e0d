package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/distgear/distgear/bench/proc"
)

// stage is the processes of a row about shared objects, and a folder for what they keep.
type stage struct {
	cast
	dir     string
	hub     *proc.Child
	callers []*proc.Child
}

func (s *stage) end() {
	s.cast.end()
	os.RemoveAll(s.dir)
}

// open starts a server, which keeps what it has on disk if durable, and a process for each role.
func open(sp spec, o options, durable bool, roles ...string) (s *stage, err error) {
	opened := new(stage) // s is nil where an error is returned
	s = opened
	if s.dir, err = os.MkdirTemp(o.Dir, "distgear-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			opened.end()
		}
	}()
	h := sp
	h.Role = "hub"
	if durable || sp.Side != "distgear" {
		if durable && !o.Quick && inMemory(s.dir) {
			return nil, fmt.Errorf("%s is in memory: name a folder on a disk with -dir", o.Dir)
		}
		h.Dir = filepath.Join(s.dir, "hub")
		if err := os.Mkdir(h.Dir, 0o700); err != nil {
			return nil, err
		}
	}
	if s.hub, err = o.small.child(h); err != nil {
		return nil, err
	}
	s.all = append(s.all, s.hub)
	sp.URL, sp.Page = s.hub.Ready.URL, filepath.Join(s.dir, "page")
	if err := proc.NewPage(sp.Page); err != nil {
		return nil, err
	}
	for i, r := range roles {
		sp.Role, sp.Node = r, i
		p, err := o.small.child(sp)
		if err != nil {
			return nil, err
		}
		s.all, s.callers = append(s.all, p), append(s.callers, p)
	}
	if sp.Side == "distgear" && sp.Profile != "" {
		_, err = s.hub.Ask("run")
	}
	return s, err
}

// both asks all callers at once.
func (s *stage) both(question string) ([]reply, error) {
	answers, errs := make([]reply, len(s.callers)), make([]error, len(s.callers))
	var wg sync.WaitGroup
	for i, c := range s.callers {
		wg.Go(func() { answers[i], errs[i] = c.Ask(question) })
	}
	wg.Wait()
	return answers, errors.Join(errs...)
}

// remote is a trial with one caller and a server in another process.
func remote(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, sp.Side == "etcd", "caller") // etcd has no other way
	if err != nil {
		return nil, err
	}
	defer s.end()
	r, err := s.callers[0].Ask("run")
	return r.Values, err
}

// handoff is a trial in which all callers of two processes want one lock all the time.
func handoff(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, strings.HasSuffix(sp.Row, "-fsync"), "caller", "worker")
	if err != nil {
		return nil, err
	}
	defer s.end()
	answers, err := s.both("run")
	if err != nil {
		return nil, err
	}
	page, err := proc.OpenPage(filepath.Join(s.dir, "page"))
	if err != nil {
		return nil, err
	}
	var mine uint64
	for _, a := range answers {
		mine += a.Calls
	}
	if grants, _, violations := page.Counts(); violations > 0 || grants != mine {
		return nil, fmt.Errorf("%d locks taken, %d counted under the lock; %d times two held it or a token did not grow", mine, grants, violations)
	}
	v := answers[0].Values
	p99, err := proc.Quantile(0.99, answers...)
	if err != nil || v["grants"] == 0 {
		return nil, fmt.Errorf("nobody got the lock within %v: %w", sp.Window, err)
	}
	p50, err := proc.Quantile(0.5, answers...)
	fair := float64(len(s.callers)*sp.Callers) / v["grants"] * 1e9
	return map[string]float64{
		"grants": v["grants"], "handoffs": v["handoffs"], "p50": float64(p50) / 1e3, "p99": float64(p99) / 1e3, "unfair": float64(p99) / fair,
	}, err
}

// bytesEach is a trial that makes sp.Count idle things, and divides by them what the hub's and the caller's heap have grown.
func bytesEach(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, true, "caller") // or the log would be in the hub's heap
	if err != nil {
		return nil, err
	}
	defer s.end()
	caller := s.callers[0]
	var r [5]reply
	for i, q := range []struct {
		who      *proc.Child
		question string
	}{{s.hub, "heap 0"}, {caller, "heap 0"}, {caller, "fill"}, {s.hub, "heap 1"}, {caller, "heap 1"}} {
		if r[i], err = q.who.Ask(q.question); err != nil {
			return nil, err
		}
	}
	n := float64(r[2].Calls)
	return map[string]float64{
		"hub":    (r[3].Values["heap"] - r[0].Values["heap"]) / n,
		"caller": (r[4].Values["heap"] - r[1].Values["heap"]) / n,
	}, nil
}

// stores is a trial in which one process stores, and another reads what was stored.
func stores(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, true, "caller", "worker")
	if err != nil {
		return nil, err
	}
	defer s.end()
	r, err := s.callers[0].Ask("run")
	if err != nil {
		return nil, err
	}
	done, err := s.callers[0].Ask("done")
	if err != nil {
		return nil, err
	}
	_, err = s.callers[1].Ask("check " + done.URL)
	return r.Values, err
}

// passed is a trial in which one process puts and another takes.
func passed(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, true, "caller", "worker")
	if err != nil {
		return nil, err
	}
	defer s.end()
	if _, err := s.callers[1].Ask("take"); err != nil {
		return nil, err
	}
	r, err := s.callers[0].Ask("run")
	if err != nil {
		return nil, err
	}
	done, err := s.callers[0].Ask("done")
	if err != nil {
		return nil, err
	}
	_, err = s.callers[1].Ask("check " + done.URL)
	return r.Values, err
}
