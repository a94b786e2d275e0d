package geartest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear/hub"
)

// Hubs says how hubs are run as processes: one, or three that are one.
type Hubs struct {
	Role  string        // of Main's Roles, whose value is HubsRole
	Count int           // 1 or 3; zero means 3
	Disk  bool          // each keeps its ledger in a directory of its own, which survives Kill
	TTL   time.Duration // of nodes' sessions; zero means 1 s. It may be shorter than a take-over takes: then nodes are lost by one
}

// HubProcesses are hubs that can be killed, frozen and started again. They are numbered from 0.
type HubProcesses struct {
	t    testing.TB
	what Hubs
	cfg  []hub.Config

	mu     sync.Mutex
	all    []*Process
	frozen []bool
}

// StartHubs starts hubs and returns when nodes can join them. They are killed when the test is over.
func StartHubs(t testing.TB, what Hubs) *HubProcesses {
	t.Helper()
	what.Count, what.TTL = cmp.Or(what.Count, 3), cmp.Or(what.TTL, fastTTL)
	h := &HubProcesses{t: t, what: what, all: make([]*Process, what.Count), frozen: make([]bool, what.Count)}
	addrs := FreeAddrs(t, 2*what.Count)
	dir := ""
	if what.Disk {
		dir = t.TempDir()
	}
	for i := range what.Count {
		cfg := hub.Config{Listen: addrs[i], TTL: what.TTL}
		if what.Count > 1 {
			cfg.Name, cfg.Route, cfg.Peers = fmt.Sprint("hub-", i), addrs[what.Count+i], addrs[what.Count:]
		}
		if what.Disk {
			cfg.Dir = filepath.Join(dir, fmt.Sprint("hub-", i))
		}
		h.cfg = append(h.cfg, cfg)
	}
	var wg sync.WaitGroup // two of three must be there before any is ready
	for i := range what.Count {
		wg.Go(func() {
			p, err := start(t, h.child(i))
			if err != nil {
				t.Errorf("starting hub %d: %v", i, err)
				return
			}
			h.mu.Lock()
			h.all[i] = p
			h.mu.Unlock()
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i := range h.all {
		h.await(i)
	}
	return h
}

// given are the ports that FreeAddrs gave out.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// FreeAddrs finds loopback addresses that nobody listens on now. They are below the ports that systems give to those who dial, so that nobody takes one while
// the hub that has it is gone.
func FreeAddrs(t testing.TB, n int) (all []string) {
	t.Helper()
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	for range 100 * n {
		port := 15000 + rand.IntN(15000)
		if given.ports[port] {
			continue
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		given.ports[port] = true
		if all = append(all, addr); len(all) == n {
			return all
		}
	}
	t.Fatalf("no %d free ports", n)
	return nil
}

func (h *HubProcesses) child(i int) Child {
	args, err := json.Marshal(h.cfg[i])
	if err != nil {
		h.t.Errorf("hub %d: %v", i, err) // a Config is plain data
	}
	return Child{Role: h.what.Role, Args: []string{string(args)}}
}

// await waits until a hub that was started says that nodes can join it.
func (h *HubProcesses) await(i int) {
	h.t.Helper()
	p := h.Process(i)
	rest, ok := p.out.next("ready", 2*patience, p.done)
	if !ok {
		h.t.Fatalf("hub %d is not ready: %s", i, p.state())
	}
	p.ready = rest
}

// URLs is what nodes are given as Config.Hub.
func (h *HubProcesses) URLs() string {
	var all []string
	for i := range h.cfg {
		all = append(all, h.URL(i))
	}
	return strings.Join(all, ",")
}

// URL is where one of the hubs serves.
func (h *HubProcesses) URL(i int) string { return "nats://" + h.cfg[i].Listen }

// Dir is where a hub keeps its ledger; empty: in memory.
func (h *HubProcesses) Dir(i int) string { return h.cfg[i].Dir }

// Process is the process of a hub, the latest one.
func (h *HubProcesses) Process(i int) *Process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[i]
}

// Writer is the hub that writes the ledger. The test fails if after 30 s there is not exactly one among those that are not frozen.
func (h *HubProcesses) Writer() int {
	h.t.Helper()
	writer := -1
	Eventually(h.t, 0, "one hub writes", func() bool {
		n := 0
		for i := range h.cfg {
			if h.writes(i) {
				writer = i
				n++
			}
		}
		return n == 1
	})
	return writer
}

// writes asks a hub whether it is the writer. One that is frozen or gone is not.
func (h *HubProcesses) writes(i int) bool {
	h.t.Helper()
	h.mu.Lock()
	p, frozen := h.all[i], h.frozen[i]
	h.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
	}
	if frozen {
		return false
	}
	p.Say("writer?")
	return p.Line("writer") == "true"
}

// Kill ends a hub with its NATS server, as a crash does.
func (h *HubProcesses) Kill(i int) {
	h.t.Helper()
	h.Process(i).Kill()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frozen[i] = false
}

// Start starts a hub again that was killed, with what its directory holds, and returns when nodes can join it.
func (h *HubProcesses) Start(i int) {
	h.t.Helper()
	p, err := start(h.t, h.child(i))
	if err != nil {
		h.t.Fatalf("starting hub %d again: %v", i, err)
	}
	h.mu.Lock()
	h.all[i] = p
	h.mu.Unlock()
	h.await(i)
}

// Freeze stops a hub where it stands, with its NATS server (SIGSTOP).
func (h *HubProcesses) Freeze(i int) {
	h.t.Helper()
	h.Process(i).Pause()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frozen[i] = true
}

// Thaw ends Freeze.
func (h *HubProcesses) Thaw(i int) {
	h.t.Helper()
	h.Process(i).Resume()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frozen[i] = false
}

// HubsRole is a role for Main whose process is a hub, and nothing else, as StartHubs starts it.
func HubsRole(ctx context.Context, args []string) error {
	var cfg hub.Config
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	h, err := hub.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer h.Close()
	Ready(h.URL())
	go func() { // until the process ends: reading standard input cannot be interrupted
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if in.Text() == "writer?" {
				fmt.Println("writer", h.Writer())
			}
		}
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-h.Done():
		return h.Err()
	}
}
