package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear/record"
)

func TestListen_LoopbackOrToken(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "127.0.0.2:0": true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "192.0.2.1:0": false,
	} {
		s, err := listen(&fake{}, addr, Config{})
		if ok != (err == nil) {
			t.Errorf("%s: %v", addr, err)
		}
		if !ok && !strings.Contains(fmt.Sprint(err), "without a token") {
			t.Errorf("%s: %v does not say why", addr, err)
		}
		if s != nil {
			s.Close()
		}
	}
	s, err := listen(&fake{}, ":0", Config{Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, addr := range []string{"nonsense", "localhost:99999", "1.2.3.4.5:1", "127.0.0.1"} {
		if _, err := listen(&fake{}, addr, Config{}); err == nil || !strings.HasPrefix(err.Error(), "gateway: ") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if _, err := listen(&fake{}, s.Addr().String(), Config{Token: "secret"}); err == nil {
		t.Error("two on one address")
	}
}

// running is a server that serves b until the test, or stop, ends it.
func running(t *testing.T, b backend, cfg Config) (url string, stop func() error) {
	t.Helper()
	s, err := listen(b, "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		err := <-served
		http.DefaultClient.CloseIdleConnections()
		return err
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return s.URL(), stop
}

func get(t *testing.T, method, url, body string, head ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func ask(t *testing.T, method, url, body string, head ...string) answer {
	t.Helper()
	resp := get(t, method, url, body, head...)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{resp.StatusCode, resp.Header, string(b)}
	documented(t, resp.Request, a)
	return a
}

// TestServer_Stop: a raise that is waited for is answered with its result if
// that comes within the grace, and with 202 otherwise; streams end; nothing is left.
func TestServer_Stop(t *testing.T) {
	for _, inTime := range []bool{true, false} {
		f := newFuture("run-1")
		raised := make(chan struct{}, 2) // one for each raise
		b := &fake{
			onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) { raised <- struct{}{}; return f, nil },
			onWatch: func(ctx context.Context, _ record.RunID) iter.Seq2[record.Run, error] {
				return func(yield func(record.Run, error) bool) {
					if yield(run1, nil) {
						<-ctx.Done()
					}
				}
			},
		}
		cfg := Config{Grace: time.Hour}
		if !inTime {
			cfg.Grace = time.Millisecond
		}
		url, stop := running(t, b, cfg)
		answers := make(chan answer, 2)
		for _, path := range []string{"/v1/events/e", "/"} {
			go func() { answers <- ask(t, "POST", url+path, `{"event":"e"}`) }()
		}
		<-raised
		<-raised
		resp := get(t, "GET", url+"/v1/runs/run-1/events", "")
		stream := bufio.NewReader(resp.Body)
		if line, err := stream.ReadString('\n'); err != nil || line != "id: 3\n" {
			t.Fatalf("%q, %v", line, err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- stop() }()
		rest, err := io.ReadAll(stream) // ends because of the stop: raises are in flight still
		if err != nil || !strings.HasSuffix(string(rest), ": the gateway is stopping\n\n") {
			t.Errorf("%q, %v", rest, err)
		}
		resp.Body.Close()
		if inTime {
			f.resolve("7", nil)
		}
		for range 2 {
			a := <-answers
			legacy := strings.Contains(a.body, "status")
			switch {
			case inTime && legacy && a.body != `{"status":"success","result":7}`+"\n",
				inTime && !legacy && (a.status != 200 || a.body != "7\n"),
				!inTime && legacy && (a.status != 200 || !strings.Contains(a.body, "run-1 goes on")),
				!inTime && !legacy && (a.status != 202 || a.json(t)["run"] != "run-1"):
				t.Errorf("in time %v: %v", inTime, a)
			}
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
			c.Close()
			t.Error("still listening")
		}
	}
}

// TestServer_CloseAnyTime: before Serve, during it, twice, at once.
func TestServer_CloseAnyTime(t *testing.T) {
	for _, started := range []bool{false, true} {
		s, err := listen(&fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) { return newFuture("run-1"), nil }}, "127.0.0.1:0", Config{})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		if started {
			go func() { served <- s.Serve(t.Context()) }()
			ask(t, "GET", s.URL()+"/healthz", "")
		}
		var g sync.WaitGroup
		for range 3 {
			g.Go(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		g.Wait()
		if !started {
			served <- s.Serve(t.Context())
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := s.Serve(t.Context()); err == nil {
			t.Error("served twice")
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestServer_Broken: a listener that breaks is an error of Serve.
func TestServer_Broken(t *testing.T) {
	s, err := listen(&fake{}, "127.0.0.1:0", Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.ln.Close()
	if err := s.Serve(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// raw sends text over a connection of its own and returns what comes back until the server closes it.
func raw(t *testing.T, url, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// TestServer_SlowClient: header and body have to arrive in time, each.
func TestServer_SlowClient(t *testing.T) {
	url, _ := running(t, &fake{onRaise: echo}, Config{Read: 300 * time.Millisecond, Token: "secret"})
	head := "POST /v1/events/e HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
	if got := raw(t, url, "POST /v1/events/e HTTP/1.1\r\nHost"); strings.Contains(got, "200 OK") {
		t.Error(got)
	}
	if got := raw(t, url, head+"Authorization: Bearer secret\r\n\r\n{\"a\""); !strings.Contains(got, "408 Request Timeout") || !strings.Contains(got, "slow-body") {
		t.Error(got)
	}
	// A body that is not read must not keep the connection either.
	if got := raw(t, url, head+"\r\n{\"a\""); !strings.Contains(got, "401 Unauthorized") {
		t.Error(got)
	}
}

// TestServer_LongWait: a raise may take longer than any timeout of a connection,
// and the connection is good for more afterwards.
func TestServer_LongWait(t *testing.T) {
	url, _ := running(t, &fake{onRaise: func(_ string, in json.RawMessage, _ raiseOptions) (pending, error) {
		f := newFuture("run-1")
		time.AfterFunc(500*time.Millisecond, func() { f.resolve(string(in), nil) })
		return f, nil
	}}, Config{Read: 250 * time.Millisecond, Write: 250 * time.Millisecond})
	for i := range 2 {
		if a := ask(t, "POST", url+"/v1/events/e", fmt.Sprint(i)); a.status != 200 || a.body != fmt.Sprintln(i) {
			t.Error(a)
		}
	}
}

// TestServer_TenThousand: 10 000 events at once, each waiting, each answered with its own result.
func TestServer_TenThousand(t *testing.T) {
	const n = 10_000
	var in sync.WaitGroup // until all are in flight
	in.Add(n)
	b := &fake{onRaise: func(_ string, v json.RawMessage, _ raiseOptions) (pending, error) {
		f := newFuture("run-" + record.RunID(v))
		in.Done()
		go func() {
			in.Wait()
			f.resolve(string(v), nil)
		}()
		return f, nil
	}}
	tenThousand(t, b, n, func(i int, a answer) error {
		if a.status != 200 || a.body != fmt.Sprintln(i) {
			return fmt.Errorf("event %d: %v", i, a)
		}
		return nil
	})
}

// tenThousand raises n events "e" at once, each with its number on a connection
// of its own, and has each answer checked.
func tenThousand(t *testing.T, b backend, n int, check func(int, answer) error) {
	t.Helper()
	ln := newPipes()
	s := newServer(b, ln, Config{})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	tr := &http.Transport{DialContext: ln.dial, DisableKeepAlives: true}
	var g sync.WaitGroup
	for i := range n {
		g.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://localhost/v1/events/e", strings.NewReader(fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Errorf("event %d: no answer: %v", i, err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				err = check(i, answer{resp.StatusCode, resp.Header, string(body)})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// pipes is a listener in memory: 10 000 connections must not depend on how many
// files the machine allows.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	over  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), over: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.over:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.over) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
