package geartest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// A Proxy is a TCP connection's bad road: it stands between a node and the hub, and loses, delays or breaks what passes. Its methods may be called by several
// goroutines.
type Proxy struct {
	target string
	l      net.Listener
	ctx    context.Context // of the proxy's life: Close ends it
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	quiet   sync.Cond // writing went to zero
	cut     bool
	healed  chan struct{} // closed when not cut
	delay   time.Duration
	writing int // writes in progress
	roads   map[*road]struct{}
}

// A road is one connection through the proxy: from who dialled, to the target.
type road struct{ from, to *net.TCPConn }

func (r *road) each(f func(*net.TCPConn)) {
	for _, c := range []*net.TCPConn{r.from, r.to} {
		if c != nil {
			f(c)
		}
	}
}

// NewProxy starts a proxy on a loopback port in front of target (host:port). It is closed when the test is over.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening for a proxy: %v", err)
	}
	p := &Proxy{target: target, l: l, healed: make(chan struct{}), roads: map[*road]struct{}{}}
	p.quiet.L = &p.mu
	close(p.healed)
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.work.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Addr returns the proxy's own address, host:port: what the node dials.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Cut loses everything from now on, both ways: connections stay open, and no byte arrives. New ones are accepted and come to nothing. When it returns, nothing
// sent later arrives before Heal. What either side sends meanwhile is kept, as TCP keeps it, up to what buffers hold; then its writes block.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return
	}
	p.cut = true
	p.healed = make(chan struct{})
	for r := range p.roads { // a write that is blocked, because its reader is paused, ends
		r.each(func(c *net.TCPConn) { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	}
	for p.writing > 0 {
		p.quiet.Wait()
	}
}

// Heal ends Cut: what was kept arrives, then what is sent.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		return
	}
	p.cut = false
	for r := range p.roads {
		r.each(func(c *net.TCPConn) { _ = c.SetWriteDeadline(time.Time{}) })
	}
	close(p.healed)
}

// Delay makes each byte take d longer each way, from the next one read on. Order and throughput stay. Zero ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Reset breaks the connections there are (both sides see a reset, as when a firewall forgets them); what was on the way is lost. New ones are served.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r := range p.roads {
		r.each(reset)
	}
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// Close ends the proxy and its connections, and returns when its goroutines are gone. It may be called more than once.
func (p *Proxy) Close() {
	p.stop()
	p.l.Close()
	p.Reset()
	p.work.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return // closed
		}
		p.work.Go(func() { p.serve(c.(*net.TCPConn)) })
	}
}

// serve connects one connection to the target, when nothing is cut, and carries both directions.
func (p *Proxy) serve(from *net.TCPConn) {
	r := &road{from: from}
	if !p.add(r, nil) {
		return
	}
	defer p.remove(r)
	if !p.open() {
		return
	}
	to, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		reset(from)
		return
	}
	if !p.add(r, to.(*net.TCPConn)) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(r.from, r.to) })
	both.Go(func() { p.carry(r.to, r.from) })
	both.Wait()
}

// add registers a road, or its second half, unless the proxy has been closed.
func (p *Proxy) add(r *road, to *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if to != nil {
		r.to = to
	}
	if p.ctx.Err() != nil {
		r.each(reset)
		return false
	}
	if p.cut {
		r.each(func(c *net.TCPConn) { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	}
	p.roads[r] = struct{}{}
	return true
}

func (p *Proxy) remove(r *road) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.roads, r)
	r.each(func(c *net.TCPConn) { c.Close() })
}

// open waits until the road is open. It returns false if the proxy was closed.
func (p *Proxy) open() bool {
	p.mu.Lock()
	healed := p.healed
	p.mu.Unlock()
	select {
	case <-healed:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// A parcel is a piece of a direction's stream, due at a time, and how the stream ended after it: nil means it goes on, io.EOF an orderly end.
type parcel struct {
	data []byte
	due  time.Time
	end  error
}

// carry moves one direction of a road until it ends. Reading and writing are apart, so that a delay delays each byte and not each after the other; between
// them are at most 64 parcels of 32 KiB, then the sender has to wait, as with a full window.
func (p *Proxy) carry(src, dst *net.TCPConn) {
	parcels := make(chan parcel, 64)
	gone := make(chan struct{}) // nobody takes parcels any more
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(parcels)
		for {
			buf := make([]byte, 32<<10)
			n, err := src.Read(buf)
			p.mu.Lock()
			due := time.Now().Add(p.delay)
			p.mu.Unlock()
			select {
			case parcels <- parcel{buf[:n], due, err}:
			case <-gone:
				return
			}
			if err != nil {
				return
			}
		}
	})
	for x := range parcels {
		if !p.deliver(dst, x) {
			reset(dst)
			reset(src)
			break
		}
	}
	close(gone)
	reading.Wait()
}

// deliver writes a parcel when it is due and the road is open. It returns false when the road is broken, or was at its other end.
func (p *Proxy) deliver(dst *net.TCPConn, x parcel) bool {
	if wait := time.Until(x.due); wait > 0 {
		late := time.NewTimer(wait)
		defer late.Stop()
		select {
		case <-late.C:
		case <-p.ctx.Done():
			return false
		}
	}
	for len(x.data) > 0 {
		n, err := p.write(dst, x.data)
		x.data = x.data[n:]
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // the deadline is how Cut interrupts
			return false
		}
	}
	if x.end == nil {
		return true
	}
	if !p.open() { // also the end of a stream does not pass a road that is cut
		return false
	}
	return errors.Is(x.end, io.EOF) && dst.CloseWrite() == nil
}

// write writes what it can while the road is open.
func (p *Proxy) write(dst *net.TCPConn, data []byte) (int, error) {
	for {
		if !p.open() {
			return 0, net.ErrClosed
		}
		p.mu.Lock()
		if !p.cut {
			break
		}
		p.mu.Unlock()
	}
	p.writing++
	p.mu.Unlock()
	n, err := dst.Write(data)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writing--; p.writing == 0 {
		p.quiet.Broadcast()
	}
	return n, err
}
