package ledger

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/engine"
)

// list is a State that keeps all entries.
type list struct {
	told func(entry string) // called by releases; nil: nobody

	mu      sync.Mutex
	entries []string
	times   []int64
	fresh   []string
	due     int64
	ticks   int
	leads   bool
	epoch   uint64
	pad     int // bytes that make a snapshot larger
}

type said struct {
	s       *list
	entries []string
}

func (r *said) Release() {
	for _, e := range r.entries {
		r.s.told(e)
	}
}

func (s *list) Apply(now int64, entry []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.times); n > 0 && s.times[n-1] > now {
		panic("time went back")
	}
	if s.due != 0 && s.due <= now {
		s.due = 0
		s.ticks++
	}
	if len(entry) == 0 {
		return
	}
	e := string(entry)
	if e == "alarm" {
		s.due = now + 20
	}
	s.entries = append(s.entries, e)
	s.times = append(s.times, now)
	if s.leads {
		s.fresh = append(s.fresh, e)
	}
}

func (s *list) Cut() Release {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fresh) == 0 || s.told == nil {
		s.fresh = nil
		return nil
	}
	r := &said{s, s.fresh}
	s.fresh = nil
	return r
}

func (s *list) Due() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due
}

func (s *list) Snapshot() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := make([]byte, 16+s.pad)
	binary.LittleEndian.PutUint64(b, uint64(s.pad))
	binary.LittleEndian.PutUint64(b[8:], uint64(s.due))
	for i, e := range s.entries {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.times[i]))
		b = appendEntry(b, []byte(e))
	}
	return b
}

func (s *list) Restore(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries, s.times, s.fresh, s.due = nil, nil, nil, 0
	if len(b) == 0 {
		return nil
	}
	s.due = int64(binary.LittleEndian.Uint64(b[8:]))
	b = b[16+binary.LittleEndian.Uint64(b):]
	for len(b) > 0 {
		s.times = append(s.times, int64(binary.LittleEndian.Uint64(b)))
		n, w := binary.Uvarint(b[8:])
		s.entries = append(s.entries, string(b[8+w:8+w+int(n)]))
		b = b[8+w+int(n):]
	}
	return nil
}

func (s *list) Lead(epoch uint64, base int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if base == 0 {
		panic("no base")
	}
	s.leads, s.epoch = true, epoch
}

func (s *list) Follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = false
}

func (s *list) all() (entries []string, times []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.entries...), append([]int64(nil), s.times...)
}

// node is a ledger with its state and connection, for tests.
type node struct {
	*Ledger
	state *list
	conn  *engine.Conn
	told  chan string
}

// eventually waits until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	eventuallyIn(t, 15*time.Second, what, f)
}

func eventuallyIn(t testing.TB, d time.Duration, what string, f func() bool) {
	t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-end.C:
			t.Fatalf("not within %v: %s", d, what)
		case <-tick.C:
		}
	}
}

func server(t testing.TB, cfg engine.ServerConfig) *engine.Server {
	t.Helper()
	s, err := engine.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// start opens a ledger on a connection of its own.
func start(t testing.TB, conn engine.ConnConfig, cfg Config) *node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn.Logger = quiet()
	c, err := engine.Dial(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	n := &node{conn: c, told: make(chan string, 1<<16)} // more than any test has told and not taken
	n.state = &list{told: func(e string) { n.told <- e }}
	cfg.Conn, cfg.Name, cfg.State = c, "test", n.state
	if cfg.Hub == "" {
		cfg.Hub = "a"
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	if n.Ledger, err = Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// put submits an entry and waits until it is told.
func (n *node) put(t testing.TB, entry string) {
	t.Helper()
	if err := n.Submit([]byte(entry)); err != nil {
		t.Fatalf("submit %q: %v", entry, err)
	}
	n.wantTold(t, entry)
}

func (n *node) wantTold(t testing.TB, entry string) {
	t.Helper()
	select {
	case got := <-n.told:
		if got != entry {
			t.Fatalf("told %q, not %q", got, entry)
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("%q was not told", entry)
	}
}

// equal waits until a standby has what the writer has.
func equal(t testing.TB, a, b *node) {
	t.Helper()
	var diff string
	eventually(t, "states are equal", func() bool {
		ea, ta := a.state.all()
		eb, tb := b.state.all()
		diff = ""
		if x, y := fmt.Sprint(ea, ta), fmt.Sprint(eb, tb); x != y {
			diff = fmt.Sprintf("%s: %d entries, %s: %d entries", a.cfg.Hub, len(ea), b.cfg.Hub, len(eb))
		}
		return diff == ""
	})
}

func TestSingleWriter(t *testing.T) {
	for _, tier := range []engine.Tier{engine.Memory, engine.File, engine.Sync} {
		t.Run(tier.String(), func(t *testing.T) {
			s := server(t, engine.ServerConfig{Tier: tier, Dir: t.TempDir()})
			n := start(t, engine.ConnConfig{Server: s}, Config{Memory: tier == engine.Memory, Eager: true})
			if !n.Writer() {
				t.Fatal("alone and not the writer")
			}
			const many = 3000
			for i := range many {
				if err := n.Submit(fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
			}
			for i := range many {
				n.wantTold(t, fmt.Sprint(i))
			}
			if st := n.Stats(); st.Epoch != 1 || !st.Writer || st.Last < 3 || st.WriterHub != "a" {
				t.Fatalf("%+v", st)
			}
			if err := n.Submit(make([]byte, maxEntry+1)); err != ErrTooLarge { //nolint:errorlint // the value itself is promised
				t.Fatal(err)
			}
			n.put(t, strings.Repeat("x", maxEntry))
			var inside int
			if err := n.Do(t.Context(), func() { inside = len(n.state.entries) }); err != nil || inside != many+1 {
				t.Fatal(inside, err)
			}
			n.Leave(t.Context())
			if err := n.Submit([]byte("late")); err != ErrClosed { //nolint:errorlint // the value itself is promised
				t.Fatal(err)
			}
			if err := n.Do(t.Context(), func() {}); err == nil {
				t.Fatal("Do ran after the end")
			}
			if n.Err() != nil {
				t.Fatal(n.Err())
			}
		})
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for life := range 4 {
		s := server(t, engine.ServerConfig{Tier: engine.Sync, Dir: dir})
		n := start(t, engine.ConnConfig{Server: s}, Config{Eager: true})
		if got, _ := n.state.all(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("life %d: %v, not %v", life, got, want)
		}
		for i := range 50 {
			e := fmt.Sprint(life, ".", i)
			n.put(t, e)
			want = append(want, e)
		}
		n.Close()
		n.conn.Close()
		s.Close()
	}
}

// TestGroups: what comes while a round is on its way to the disk goes with another, none is forgotten, and rounds have
// many entries (20 or so; BenchmarkEntries says what that is worth).
func TestGroups(t *testing.T) {
	s := server(t, engine.ServerConfig{Tier: engine.Sync, Dir: t.TempDir()})
	n := start(t, engine.ConnConfig{Server: s}, Config{Eager: true})
	const callers, each = 64, 50
	before := n.Stats().Rounds
	var wg sync.WaitGroup
	said := make(chan string, callers*each)
	for c := range callers { // each goes on when it was told of any
		wg.Go(func() {
			for i := range each {
				if err := n.Submit(fmt.Appendf(nil, "%d.%d", c, i)); err != nil {
					t.Error(err)
					return
				}
				select {
				case e := <-n.told:
					said <- e
				case <-time.After(15 * time.Second):
					t.Error("nothing is told")
					return
				}
			}
		})
	}
	wg.Wait()
	close(said)
	got := map[string]bool{}
	for e := range said {
		got[e] = true
	}
	if rounds := n.Stats().Rounds - before; len(got) != callers*each || rounds == 0 || rounds > callers*each/8 {
		t.Errorf("%d of %d entries were told, in %d rounds", len(got), callers*each, rounds)
	}
}

func TestTick(t *testing.T) {
	s := server(t, engine.ServerConfig{Tier: engine.Memory})
	a := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Eager: true})
	b := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Hub: "b"})
	a.put(t, "alarm")
	for _, n := range []*node{a, b} {
		eventually(t, "the tick was applied", func() bool {
			n.state.mu.Lock()
			defer n.state.mu.Unlock()
			return n.state.ticks == 1
		})
	}
}
