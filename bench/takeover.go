package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/distgear/distgear/bench/proc"
	"github.com/nats-io/nats.go"
)

// fleet is three hubs that are one.
type fleet struct {
	dir  string
	sp   [3]spec
	hubs [3]*proc.Child
	js   *nats.Conn
}

// freeAddrs finds loopback addresses that nobody listens on now.
func freeAddrs(n int) (all []string, err error) {
	var ls []net.Listener
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		ls, all = append(ls, l), append(all, l.Addr().String())
	}
	for _, l := range ls {
		err = errors.Join(err, l.Close())
	}
	return all, err
}

func startFleet(sp spec, o options) (f *fleet, err error) {
	f = new(fleet)
	started := f
	defer func() {
		if err != nil {
			started.end()
		}
	}()
	if f.dir, err = os.MkdirTemp(o.Dir, "distgear-bench-"); err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(6)
	if err != nil {
		return nil, err
	}
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for i := range f.hubs {
		h := sp
		h.Role, h.Name, h.Route, h.Peers, h.Listen = "hub", fmt.Sprint("h", i), addrs[i], addrs[:3], addrs[3+i]
		h.Dir = filepath.Join(f.dir, h.Name)
		f.sp[i] = h
		wg.Go(func() { f.hubs[i], errs[i] = o.small.child(h) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	urls := "nats://" + addrs[3] + ",nats://" + addrs[4] + ",nats://" + addrs[5]
	f.js, err = nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	return f, err
}

func (f *fleet) end() {
	if f.js != nil {
		f.js.Close()
	}
	var wg sync.WaitGroup
	for _, h := range f.hubs {
		if h != nil {
			h.Cmd.Process.Kill() // three that end together wait for each other
			wg.Go(h.Stop)
		}
	}
	wg.Wait()
	os.RemoveAll(f.dir)
}

// writer finds the hub that writes.
func (f *fleet) writer() (int, error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		w, n := 0, 0
		for i, h := range f.hubs {
			r, err := h.Ask("writer")
			if err != nil {
				return 0, err
			}
			if r.Values["writer"] == 1 {
				w = i
				n++
			}
		}
		if n == 1 {
			return w, nil
		}
	}
	return 0, errors.New("no hub is the writer, or several are, for 20 s")
}

// stream is the name of the log's stream.
const stream = "distgear-default"

// steer sees to it that the stream's leader is at the hub named, all its replicas are current, and w is the writer still.
func (f *fleet) steer(w int, leader string) error {
	js, err := f.js.JetStream(nats.MaxWait(2 * time.Second))
	if err != nil {
		return err
	}
	said := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		info, err := js.StreamInfo(stream)
		switch {
		case err != nil:
			said = err.Error()
			continue
		case info.Cluster == nil || len(info.Cluster.Replicas) != 2:
			said = "the stream has not three replicas"
			continue
		case !info.Cluster.Replicas[0].Current || !info.Cluster.Replicas[1].Current:
			said = "a replica is not current"
			continue
		case info.Cluster.Leader == leader:
			now, err := f.writer()
			if err == nil && now != w {
				err = errNotSteered
			}
			return err
		}
		said = "its leader stays at " + info.Cluster.Leader
		if _, err := f.js.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, []byte(`{"placement":{"preferred":"`+leader+`"}}`), 2*time.Second); err != nil {
			said = err.Error()
		}
		time.Sleep(300 * time.Millisecond)
	}
	return fmt.Errorf("the stream cannot be led by %s: %s", leader, said)
}

var errNotSteered = errors.New("the writer changed with the stream's leader")

// takeOver is a trial of sp.Count take-overs; its figures are their medians.
func takeOver(sp spec, o options) (map[string]float64, error) {
	f, err := startFleet(sp, o)
	if err != nil {
		return nil, err
	}
	defer f.end()
	var all, others []float64
	var sum tally
	for k := range sp.Count {
		a, b, err := f.one(sp, o, &sum)
		if err != nil {
			return nil, fmt.Errorf("take-over %d: %w", k+1, err)
		}
		all, others = append(all, a), append(others, b)
	}
	worst := 0.0
	for _, v := range all {
		worst = max(worst, v)
	}
	return map[string]float64{"all": median(all), "others": median(others), "max": worst, "unknown": float64(sum.unknown)}, nil
}

// tally is what all adders know of the counter.
type tally struct{ acked, unknown uint64 }

// one is one take-over: the longest silence that a node has heard, and of those at the other hubs.
func (f *fleet) one(sp spec, o options, sum *tally) (all, others float64, err error) {
	w, err := f.prepare(sp.Row == "shared-takeover-hub")
	if err != nil {
		return 0, 0, err
	}
	var s stage
	defer s.cast.end()
	if err := f.nodes(sp, o, &s); err != nil {
		return 0, 0, err
	}
	if _, err := s.both("go"); err != nil {
		return 0, 0, err
	}
	time.Sleep(300 * time.Millisecond)
	before, err := s.both("reset")
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(200 * time.Millisecond)
	sig := syscall.SIGKILL
	if sp.Row == "shared-takeover-frozen" {
		sig = syscall.SIGSTOP
	}
	if err := f.hubs[w].Cmd.Process.Signal(sig); err != nil {
		return 0, 0, err
	}
	if err := s.answered(before); err != nil {
		return 0, 0, err
	}
	gaps, err := s.both("gap")
	if err != nil {
		return 0, 0, err
	}
	for i, g := range gaps {
		all = max(all, g.Values["gap"])
		if i != w {
			others = max(others, g.Values["gap"])
		}
	}
	if err := f.mend(w, sig, o); err != nil {
		return 0, 0, err
	}
	return all, others, s.count(sum)
}

// nodes starts nodes that know all hubs, until one is connected to each; they are in the order of the hubs.
func (f *fleet) nodes(sp spec, o options, s *stage) error {
	var at [3]*proc.Child
	var urls, found []string
	for i := range f.sp {
		urls = append(urls, "nats://"+f.sp[i].Listen)
	}
	for n := 0; n < 30 && len(found) < len(at); n++ {
		c := sp
		c.Role, c.Node, c.URL = "caller", n, strings.Join(urls, ",")
		p, err := o.small.child(c)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(f.sp[:], func(h spec) bool { return connected(p.Cmd.Process.Pid, h.Listen) })
		if i < 0 || at[i] != nil {
			p.Stop()
			continue
		}
		at[i] = p
		s.all, found = append(s.all, p), append(found, urls[i])
	}
	if len(found) < len(at) {
		return fmt.Errorf("no node connects to each hub, only to %v", found)
	}
	s.callers = at[:]
	return nil
}

// connected tells whether a process has a TCP connection to a loopback address.
func connected(pid int, addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	n, err2 := strconv.Atoi(port)
	table, err3 := os.ReadFile("/proc/net/tcp")
	if errors.Join(err, err2, err3) != nil {
		return false
	}
	sockets := map[string]bool{} // inodes
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd) // empty: it was closed meanwhile
		sockets[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
	}
	remote := fmt.Sprintf("0100007F:%04X", n)
	for line := range strings.Lines(string(table)) {
		if w := strings.Fields(line); len(w) > 9 && w[2] == remote && w[3] == "01" && sockets[w[9]] {
			return true
		}
	}
	return false
}

// prepare finds the writer, and puts the stream's leader at the writer's hub, or not there.
func (f *fleet) prepare(there bool) (w int, err error) {
	for range 5 {
		if w, err = f.writer(); err != nil {
			return 0, err
		}
		leader := f.sp[w].Name
		if !there {
			leader = f.sp[(w+1)%3].Name
		}
		if err = f.steer(w, leader); !errors.Is(err, errNotSteered) {
			break
		}
	}
	return w, err
}

// answered waits until each node has had answers for half a second again.
func (s *stage) answered(before []reply) error {
	time.Sleep(time.Second) // a silence begins at once, or not at all
	var now []reply
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var err error
		if now, err = s.both("gap"); err != nil {
			return err
		}
		well := 0
		for i, r := range now {
			if r.Calls > before[i].Calls+50 && r.Values["silent"] < 50 {
				well++
			}
		}
		if well == len(now) {
			time.Sleep(500 * time.Millisecond)
			return nil
		}
	}
	return fmt.Errorf("no answers after 30 s: %v", now)
}

// mend lets the frozen hub go on, or starts the killed one again.
func (f *fleet) mend(w int, sig syscall.Signal, o options) (err error) {
	if sig == syscall.SIGSTOP {
		return f.hubs[w].Cmd.Process.Signal(syscall.SIGCONT)
	}
	f.hubs[w].Stop()
	f.hubs[w], err = o.small.child(f.sp[w])
	return err
}

// count ends the nodes' adding and compares the counter with what they were answered.
func (s *stage) count(sum *tally) error {
	ends, err := s.both("halt")
	if err != nil {
		return err
	}
	for _, r := range ends {
		sum.acked += r.Calls
		sum.unknown += uint64(r.Values["unknown"])
	}
	v, err := s.callers[0].Ask("value")
	if err != nil {
		return err
	}
	if v.Calls < sum.acked || v.Calls > sum.acked+sum.unknown {
		return fmt.Errorf("%d additions were answered and %d are unknown, and the counter says %d", sum.acked, sum.unknown, v.Calls)
	}
	return nil
}
