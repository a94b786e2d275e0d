package hub_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// actorRole is a node that does with the lock "m" and its condition "c" what it is told, a line each: lock, unlock, wait, signal, token.
// It says what came of it: "locked TOKEN", "unlocked ERR", "woken TOKEN" …, and "lost TOKEN" by itself.
func actorRole(ctx context.Context, args []string) error {
	var a loadArgs
	if err := json.Unmarshal([]byte(args[0]), &a); err != nil {
		return err
	}
	n, err := distgear.Join(ctx, distgear.Config{
		Name: cluster.NodeName(a.Name), Hub: a.Hub, TTL: a.TTL, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	m := shared.NewMutex(n, "m")
	c := shared.NewCond(m, "c")
	var mu sync.Mutex
	var held shared.Lease
	got := func(s shared.Lease) {
		mu.Lock()
		held = s
		mu.Unlock()
		lost := s.Lost()
		go func() {
			<-lost
			fmt.Println("lost", s.Token())
		}()
	}
	if err := shared.NewMutex(n, "other").Do(ctx, func(context.Context, shared.Token) error { return nil }); err != nil { // there is a session
		return err
	}
	geartest.Ready()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		mu.Lock()
		s := held
		mu.Unlock()
		switch in.Text() {
		case "lock":
			go func() {
				if s, err := m.Lock(ctx); err != nil {
					fmt.Println("locked", err)
				} else {
					got(s)
					fmt.Println("locked", s.Token())
				}
			}()
		case "unlock":
			fmt.Println("unlocked", s.Unlock())
		case "wait":
			go func() {
				if err := c.Wait(ctx, &s); err != nil {
					fmt.Println("woken", err)
				} else {
					got(s)
					fmt.Println("woken", s.Token())
				}
			}()
		case "signal":
			fmt.Println("signalled", c.Signal(s))
		}
	}
	return nil
}

// stage is a hub, and actors.
type stage struct {
	t    *testing.T
	hubs *geartest.HubProcesses
	ttl  time.Duration // of sessions with the ledger
}

func newStage(t *testing.T, hubs geartest.Hubs) *stage {
	t.Helper()
	hubs.Role = "hub"
	s := &stage{t: t, hubs: geartest.StartHubs(t, hubs), ttl: 3 * hubs.TTL}
	return s
}

// watcher is a node that looks on.
func (s *stage) watcher() *distgear.Node {
	s.t.Helper()
	n, err := distgear.Join(within(s.t), distgear.Config{Name: "watcher", Hub: s.hubs.URLs(), TTL: s.ttl / 3, Logger: quiet()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = n.Leave(context.Background()) })
	return n
}

func (s *stage) actor(name string) *geartest.Process {
	s.t.Helper()
	args, err := json.Marshal(loadArgs{Name: name, Hub: s.hubs.URLs(), TTL: s.ttl / 3})
	if err != nil {
		s.t.Fatal(err)
	}
	return geartest.Start(s.t, geartest.Child{Role: "actor", Args: []string{string(args)}})
}

// waits waits until so many nodes stand in line for the lock, or on its condition.
func (s *stage) waits(n *distgear.Node, line, waiting int) {
	s.t.Helper()
	geartest.Eventually(s.t, 0, fmt.Sprint(line, " in line and ", waiting, " on the condition"), func() bool {
		for l, err := range shared.Locks(within(s.t), n, "m") {
			return err == nil && l.Queued == line && l.Waiting == waiting
		}
		return false
	})
}

// token reads a line that an actor says, which ends with a token.
func token(t *testing.T, p *geartest.Process, what string) (n uint64) {
	t.Helper()
	line := p.Line(what)
	if _, err := fmt.Sscan(line, &n); err != nil {
		t.Fatalf("%s %s", what, line)
	}
	return n
}

func tell(p *geartest.Process, what, answer string) string {
	p.Say(what)
	return strings.TrimSpace(p.Line(answer))
}
