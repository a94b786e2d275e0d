package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/engine"
)

// freeze stops a ledger's goroutine, and after stall its beats, as SIGSTOP would.
func (n *node) freeze(t testing.TB) (thaw func()) {
	held, ch := make(chan struct{}), make(chan struct{})
	n.mu.Lock()
	n.funcs = append(n.funcs, func() { close(held); <-ch })
	n.mu.Unlock()
	n.wake()
	<-held
	thaw = sync.OnceFunc(func() { close(ch) })
	t.Cleanup(thaw) // before Close, which would wait
	return thaw
}

const testStall = beatEvery // a frozen ledger's beats stop after two

func TestStandbyTakesOver(t *testing.T) {
	s := server(t, engine.ServerConfig{Tier: engine.Sync, Dir: t.TempDir()})
	a := start(t, engine.ConnConfig{Server: s}, Config{Eager: true})
	for i := range 10 {
		a.put(t, fmt.Sprint("a", i))
	}
	b := start(t, engine.ConnConfig{Server: s}, Config{Hub: "b"})
	if b.Writer() {
		t.Fatal("two writers")
	}
	if err := b.Submit([]byte("x")); !errors.Is(err, ErrNotWriter) {
		t.Fatal(err)
	}
	a.put(t, "while b follows")
	equal(t, a, b)
	eventually(t, "each knows of the other", func() bool { return a.Stats().Standbys == 1 && b.Stats().WriterHub == "a" })
	a.Close()
	began := time.Now()
	eventually(t, "b is the writer", b.Writer)
	b.put(t, "first of b")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took over after %v", took)
	} else {
		t.Logf("took over after %v", took)
	}
	if got, _ := b.state.all(); len(got) != 12 {
		t.Fatal(got)
	}
}

// A frozen writer that thaws is fenced by the log: what it had not released it drops.
func TestFrozenWriterIsFenced(t *testing.T) {
	s := server(t, engine.ServerConfig{Tier: engine.Sync, Dir: t.TempDir()})
	a := start(t, engine.ConnConfig{Server: s}, Config{Eager: true, stall: testStall})
	b := start(t, engine.ConnConfig{Server: s}, Config{Hub: "b", stall: testStall})
	a.put(t, "one")
	equal(t, a, b)
	thaw := a.freeze(t)
	began := time.Now()
	if err := a.Submit([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b is the writer", b.Writer)
	b.put(t, "two")
	t.Logf("took over after %v", time.Since(began))
	thaw()
	eventually(t, "a is a standby", func() bool { return !a.Writer() })
	b.put(t, "three")
	equal(t, a, b)
	select {
	case e := <-a.told:
		t.Fatalf("the fenced writer told %q", e)
	default:
	}
	if got, _ := a.state.all(); fmt.Sprint(got) != "[one two three]" {
		t.Fatal(got)
	}
	a.Close()
	if st := b.Stats(); st.Epoch != 2 {
		t.Fatalf("%+v", st)
	}
}

// Leaving hands over at once.
func TestLeaveHandsOver(t *testing.T) {
	s := server(t, engine.ServerConfig{Tier: engine.Memory})
	a := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Eager: true})
	b := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Hub: "b", Patience: time.Minute})
	for i := range 1000 {
		if err := a.Submit(fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a.Leave(ctx)
	if len(a.told) != 1000 {
		t.Fatalf("%d of 1000 entries were told before it left", len(a.told))
	}
	began := time.Now()
	eventually(t, "b is the writer", b.Writer) // long before its patience ends
	t.Logf("handed over within %v", time.Since(began))
	equal(t, a, b)
}

// proxy is a TCP proxy that can be told to drop what a server says.
type proxy struct {
	ln net.Listener
	wg sync.WaitGroup
	to string

	mu    sync.Mutex
	mute  bool // drop what comes from the server
	conns map[net.Conn]struct{}
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, to: strings.TrimPrefix(to, "nats://"), conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		ln.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.ln.Addr().String() }

func (p *proxy) serve() {
	for {
		a, err := p.ln.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", p.to)
		if err != nil {
			a.Close()
			continue
		}
		p.mu.Lock()
		p.conns[a], p.conns[b] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(b, a, false) })
		p.wg.Go(func() { p.copy(a, b, true) })
	}
}

func (p *proxy) copy(to io.Writer, from net.Conn, back bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			break
		}
		p.mu.Lock()
		drop := back && p.mute
		p.mu.Unlock()
		if drop {
			break // half a message cannot be left out
		}
		if _, err := to.Write(buf[:n]); err != nil {
			break
		}
	}
	p.cut()
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *proxy) setMute(mute bool) {
	p.mu.Lock()
	p.mute = mute
	p.mu.Unlock()
}

// Appends whose acknowledgements are lost are found in the log: nothing is
// lost and nothing is there twice.
func TestUnknownAppends(t *testing.T) {
	s := server(t, engine.ServerConfig{Listen: "127.0.0.1:0", Tier: engine.Sync, Dir: t.TempDir()})
	p := newProxy(t, s.URL())
	n := start(t, engine.ConnConfig{URLs: p.url()}, Config{Eager: true})
	var want []string
	for i := range 12 {
		p.setMute(true)
		for j := range 20 {
			e := fmt.Sprint(i, ".", j)
			want = append(want, e)
			if err := n.Submit([]byte(e)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the writer noticed", func() bool { return n.Stats().Trouble != "" || n.Stats().Epoch > uint64(i)+1 })
		p.setMute(false)
		for _, e := range want[i*20:] {
			n.wantTold(t, e)
		}
	}
	if got, _ := n.state.all(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%v", got)
	}
	b := start(t, engine.ConnConfig{Server: s}, Config{Hub: "b"})
	equal(t, n, b)
	if !n.Writer() {
		t.Fatal("stepped down with nobody else there")
	}
}

// Random histories: writers are cut off, frozen, closed and started again while entries come in.
func TestHistories(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { history(t, seed) })
	}
}

func history(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	s := server(t, engine.ServerConfig{Listen: "127.0.0.1:0", Tier: engine.File, Dir: t.TempDir()})
	const hubs = 3
	type hub struct {
		*node
		p    *proxy
		thaw func()
	}
	var nodes [hubs]hub
	life := 0
	up := func(i int) {
		p := newProxy(t, s.URL())
		life++
		n := start(t, engine.ConnConfig{URLs: p.url()}, Config{
			Hub: fmt.Sprint("hub", i, ".", life), Patience: 300 * time.Millisecond, SnapshotBytes: 4 << 10, stall: testStall, Window: 4,
		})
		nodes[i] = hub{n, p, func() {}}
	}
	for i := range hubs {
		up(i)
	}
	told := map[string]int{}
	hear := func() {
		for i := range nodes {
			for len(nodes[i].told) > 0 {
				told[<-nodes[i].told]++
			}
		}
	}
	count := 0
	for range 14 {
		// Entries go to whoever takes them, for a while.
		until := len(told) + 40
		eventually(t, "somebody writes", func() bool {
			for i := range nodes {
				for range 5 {
					if nodes[i].Submit(fmt.Append(nil, "e", count)) == nil {
						count++
					}
				}
			}
			hear()
			return len(told) >= until
		})
		i := rnd.IntN(hubs)
		for j := range nodes { // mostly the writer
			if nodes[j].Writer() && rnd.IntN(4) > 0 {
				i = j
			}
		}
		switch rnd.IntN(5) {
		case 0:
			nodes[i].p.cut()
		case 1:
			nodes[i].p.setMute(true)
		case 2:
			nodes[i].thaw()
			nodes[i].thaw = nodes[i].freeze(t)
		case 3:
			nodes[i].thaw()
			nodes[i].Close()
			hear()
			up(i)
		case 4:
			for j := range nodes {
				nodes[j].thaw()
				nodes[j].p.setMute(false)
			}
		}
		if well := rnd.IntN(hubs); well != i { // somebody must be able to write
			nodes[well].thaw()
			nodes[well].p.setMute(false)
		} else {
			nodes[(i+1)%hubs].thaw()
			nodes[(i+1)%hubs].p.setMute(false)
		}
		if rnd.IntN(2) == 0 {
			for j := range nodes {
				nodes[j].thaw()
			}
		}
	}
	for j := range nodes {
		nodes[j].thaw()
		nodes[j].p.setMute(false)
	}
	var w *node
	eventually(t, "one writer that is told its own", func() bool {
		for i := range nodes {
			if nodes[i].Submit([]byte("last")) == nil {
				w = nodes[i].node
			}
		}
		hear()
		return told["last"] > 0
	})
	hear()
	equalAll := func() {
		for i := range nodes {
			equal(t, w, nodes[i].node)
		}
	}
	equalAll()
	hear()
	entries, _ := w.state.all()
	in := map[string]int{}
	for _, e := range entries {
		in[e]++
	}
	for e, n := range in {
		if n > 1 && e != "last" {
			t.Errorf("%s is in the log %d times", e, n)
		}
	}
	for e, n := range told {
		if in[e] == 0 {
			t.Errorf("%s was acknowledged and lost", e)
		}
		if n > 1 && e != "last" {
			t.Errorf("%s was acknowledged %d times", e, n)
		}
	}
	t.Logf("%d entries, %d in the log, %d told, epoch %d, %d lives", count, len(entries), len(told), w.Stats().Epoch, life)
}
