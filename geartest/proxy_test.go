package geartest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echoServer serves an echo until the test is over.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() { listenEcho(l) })
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

// A talk is one connection through a proxy to an echo.
type talk struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func newTalk(t *testing.T, addr string) *talk {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &talk{t, c, bufio.NewReader(c)}
}

func (c *talk) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		c.t.Fatalf("saying %q: %v", line, err)
	}
}

// hear reads a line, or nothing within d.
func (c *talk) hear(d time.Duration) (string, error) {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.in.ReadString('\n')
	return line, err
}

func (c *talk) expect(want string) {
	c.t.Helper()
	if got, err := c.hear(patience); got != want+"\n" || err != nil {
		c.t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

// moment is how long we listen for what must not come.
const moment = 50 * time.Millisecond

func (c *talk) expectNothing() {
	c.t.Helper()
	if got, err := c.hear(moment); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("heard %q, %v; want nothing, and the connection open", got, err)
	}
}

func TestProxyCut(t *testing.T) {
	Leaks(t)
	p := NewProxy(t, echoServer(t))
	old := newTalk(t, p.Addr())
	old.say("before")
	old.expect("before")
	p.Cut()
	p.Cut() // twice is once
	old.say("one")
	young := newTalk(t, p.Addr()) // accepted, and nothing comes of it
	young.say("two")
	old.expectNothing()
	young.expectNothing()
	p.Heal()
	p.Heal()
	old.expect("one")
	young.expect("two")
	old.say("after")
	old.expect("after")
}

// TestProxyCutHidesTheEnd: who is cut off does not learn that the other side closed.
func TestProxyCutHidesTheEnd(t *testing.T) {
	Leaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := NewProxy(t, l.Addr().String())
	c := newTalk(t, p.Addr())
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p.Cut()
	far.Close()
	c.expectNothing()
	p.Heal()
	if got, err := c.hear(patience); got != "" || !errors.Is(err, io.EOF) {
		t.Errorf("after Heal heard %q, %v; want the end", got, err)
	}
}

// TestProxyCutInterruptsWrites: a paused reader has filled every buffer, and Cut returns nevertheless; nothing is lost over it.
func TestProxyCutInterruptsWrites(t *testing.T) {
	Leaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := NewProxy(t, l.Addr().String())
	c := newTalk(t, p.Addr())
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	sent := make([]byte, 24<<20) // more than all the buffers on the way
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(sent)
	var writing sync.WaitGroup
	writing.Go(func() {
		if _, err := c.Write(sent); err != nil {
			t.Errorf("writing: %v", err)
		}
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	Eventually(t, 0, "the proxy is stuck in a write", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.writing > 0
	})
	for range 3 {
		p.Cut()
		p.Heal()
	}
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes arrived, equal %v: %v", len(got), len(sent), bytes.Equal(got, sent), err)
	}
	writing.Wait()
}

func TestProxyReset(t *testing.T) {
	Leaks(t)
	p := NewProxy(t, echoServer(t))
	old := newTalk(t, p.Addr())
	old.say("before")
	old.expect("before")
	p.Reset()
	if got, err := old.hear(patience); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("heard %q, %v; want a reset", got, err)
	}
	young := newTalk(t, p.Addr())
	young.say("after")
	young.expect("after")
}

func TestProxyDelay(t *testing.T) {
	Leaks(t)
	const d = 20 * time.Millisecond
	p := NewProxy(t, echoServer(t))
	c := newTalk(t, p.Addr())
	p.Delay(d)
	began := time.Now()
	for range 20 {
		c.say("x")
	}
	for range 20 {
		c.expect("x")
	}
	took := time.Since(began)
	if took < 2*d {
		t.Errorf("there and back took %v, less than twice %v", took, d)
	}
	if took > 20*2*d {
		t.Errorf("twenty lines took %v: each waits for the one before it", took)
	}
	p.Delay(0)
	c.say("y")
	c.expect("y")
}

func TestProxyWithoutTarget(t *testing.T) {
	Leaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // so that nobody listens there
	p := NewProxy(t, l.Addr().String())
	if c, err := net.Dial("tcp", p.Addr()); err == nil { // or the reset was faster than we
		defer c.Close()
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d bytes, %v; want a broken connection", n, err)
		}
	}
	p.Close()
	p.Close()
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		c.Close()
		t.Error("a closed proxy accepts")
	}
}
