package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/distgear/distgear/bench/proc"
	"github.com/nats-io/nats.go"
)

// foreign is two hubs on three nats-servers that are not ours: the fleet's processes are the servers, with the timers that they are sold with.
type foreign struct {
	fleet
	at   spec // of a hub
	hubs [2]*proc.Child
}

func startForeign(sp spec, o options) (f *foreign, err error) {
	f = new(foreign)
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
	for i := range f.fleet.hubs {
		s := spec{Side: "nats", Row: sp.Row, Role: "hub", Name: fmt.Sprint("s", i), Route: addrs[i], Peers: addrs[:3], Listen: addrs[3+i]}
		s.Dir = filepath.Join(f.dir, s.Name)
		f.sp[i] = s
		wg.Go(func() { f.fleet.hubs[i], errs[i] = proc.StartSelf(s) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	f.at = sp
	f.at.Role, f.at.URL = "hub", "nats://"+strings.Join(addrs[3:], ",nats://")
	for i := range f.hubs {
		if err := f.startHub(i, o); err != nil {
			return nil, err
		}
	}
	f.js, err = nats.Connect(f.at.URL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	return f, err
}

func (f *foreign) startHub(i int, o options) (err error) {
	h := f.at
	h.Name = fmt.Sprint("h", i)
	f.hubs[i], err = o.small.child(h)
	return err
}

func (f *foreign) end() {
	for _, h := range f.hubs {
		if h != nil {
			h.Cmd.Process.Kill() // no server may be there to say farewell to
			h.Stop()
		}
	}
	f.fleet.end()
}

// whole waits until all servers' replicas are current and one hub is the writer; it tells which hub, and which server leads the stream.
func (f *foreign) whole() (hub, server int, err error) {
	js, err := f.js.JetStream(nats.MaxWait(2 * time.Second))
	if err != nil {
		return 0, 0, err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		writers := 0
		for i, h := range f.hubs {
			r, err := h.Ask("writer")
			if err != nil {
				return 0, 0, err
			}
			if r.Values["writer"] == 1 {
				hub = i
				writers++
			}
		}
		info, err := js.StreamInfo(stream)
		if err != nil || writers != 1 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 || !info.Cluster.Replicas[0].Current || !info.Cluster.Replicas[1].Current {
			continue
		}
		for i, s := range f.sp {
			if s.Name == info.Cluster.Leader {
				return hub, i, nil
			}
		}
	}
	return 0, 0, errors.New("the servers are not whole, or there is no writer, for a minute")
}

// takeOverForeign is a trial of sp.Count take-overs of each kind; its figures are their medians.
func takeOverForeign(sp spec, o options) (map[string]float64, error) {
	f, err := startForeign(sp, o)
	if err != nil {
		return nil, err
	}
	defer f.end()
	var sum tally
	var gaps [2][]float64
	worst := [2]float64{}
	for k := range 2 * sp.Count {
		g, err := f.one(sp, o, k%2 == 1, &sum)
		if err != nil {
			return nil, fmt.Errorf("take-over %d: %w", k+1, err)
		}
		gaps[k%2] = append(gaps[k%2], g)
		worst[k%2] = max(worst[k%2], g)
	}
	return map[string]float64{"hub": median(gaps[0]), "hubmax": worst[0], "server": median(gaps[1]), "servermax": worst[1], "unknown": float64(sum.unknown)}, nil
}

// one is one take-over: the longest silence that a node has heard after the writing hub, or the server that leads its stream, was killed.
func (f *foreign) one(sp spec, o options, server bool, sum *tally) (gap float64, err error) {
	h, s, err := f.whole()
	if err != nil {
		return 0, err
	}
	var st stage
	defer st.cast.end()
	if err := f.nodes(sp, o, &st); err != nil {
		return 0, err
	}
	if _, err := st.both("go"); err != nil {
		return 0, err
	}
	time.Sleep(300 * time.Millisecond)
	before, err := st.both("reset")
	if err != nil {
		return 0, err
	}
	time.Sleep(200 * time.Millisecond)
	victim := f.hubs[h]
	if server {
		victim = f.fleet.hubs[s]
	}
	if err := victim.Cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return 0, err
	}
	if err := st.answered(before); err != nil {
		return 0, err
	}
	gaps, err := st.both("gap")
	if err != nil {
		return 0, err
	}
	for _, g := range gaps {
		gap = max(gap, g.Values["gap"])
	}
	victim.Stop()
	if server {
		f.fleet.hubs[s], err = proc.StartSelf(f.sp[s])
	} else {
		err = f.startHub(h, o)
	}
	return gap, errors.Join(err, st.count(sum))
}
