package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/gateway"
	"github.com/distgear/distgear/geartest"
)

// screen is what a command wrote up to now.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// hubAt is a hub with a gateway at an address, until stop.
func hubAt(t *testing.T, addr, token string) (at string, stop func()) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	n, err := distgear.Join(t.Context(), distgear.Config{Name: "hub", Serve: "127.0.0.1:0", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	s, err := gateway.Listen(n, addr, gateway.Config{Token: token, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	return u.Host, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := n.Leave(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// nodes --watch goes on when the hub was gone and is back, and says so; a hub that never was there ends it.
func TestNodesWatch_HubReturns(t *testing.T) {
	addr, stop := hubAt(t, "127.0.0.1:0", "")
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs screen
	code := make(chan Exit, 1)
	go func() {
		code <- Run(ctx, []string{"nodes", "--watch", "--gateway", "http://" + addr}, strings.NewReader(""), &out, &errs)
	}()
	alive := func() int { return strings.Count(out.String(), "alive    hub") }
	geartest.Eventually(t, 0, "the hub is listed", func() bool { return alive() > 0 })
	stop()
	geartest.Eventually(t, 0, "the command says that the hub is gone", func() bool { return strings.Contains(errs.String(), "waiting until it is back") })
	before := alive()
	_, again := hubAt(t, addr, "")
	defer again()
	geartest.Eventually(t, 0, "the hub is listed again", func() bool { return alive() > before })
	cancel()
	if c := <-code; c != OK || strings.Count(errs.String(), "waiting") != 1 {
		t.Errorf("interrupted: exit code %d, %s", c, &errs)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if c := Run(t.Context(), []string{"nodes", "--watch", "--gateway", "http://" + l.Addr().String()}, strings.NewReader(""), &out, &errs); c != Unreachable {
		t.Errorf("without a hub: exit code %d", c)
	}
}

// An interrupt ends raise also while it waits for its input, and nothing was raised.
func TestRaise_InterruptedInput(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close() // ends who reads
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs screen
	code := make(chan Exit, 1)
	go func() { code <- Run(ctx, []string{"raise", "x", "-"}, r, &out, &errs) }()
	if _, err := w.Write([]byte("[1,")); err != nil { // it reads
		t.Fatal(err)
	}
	cancel()
	if c := <-code; c != NeverRan || !strings.Contains(errs.String(), "nothing was raised") {
		t.Errorf("exit code %d, %s", c, &errs)
	}
}

// A token that is wrong is told from one that is missing.
func TestToken_Wrong(t *testing.T) {
	t.Setenv("DISTGEAR_TOKEN", "")
	addr, stop := hubAt(t, "127.0.0.1:0", "sesame")
	defer stop()
	for token, want := range map[string]string{"": "wants a token", "guess": "does not take this token"} {
		var out, errs screen
		args := []string{"nodes", "--gateway", "http://" + addr, "--token", token}
		if c := Run(t.Context(), args, strings.NewReader(""), &out, &errs); c != NeverRan || !strings.Contains(errs.String(), want) {
			t.Errorf("token %q: exit code %d, %s", token, c, &errs)
		}
	}
}

// locks --watch goes on as well.
func TestLocksWatch_HubReturns(t *testing.T) {
	addr, stop := hubAt(t, "127.0.0.1:0", "")
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs screen
	code := make(chan Exit, 1)
	go func() {
		code <- Run(ctx, []string{"locks", "--watch", "--gateway", "http://" + addr}, strings.NewReader(""), &out, &errs)
	}()
	shown := func() int { return strings.Count(out.String(), "CONTENDED") }
	geartest.Eventually(t, 0, "the locks are listed", func() bool { return shown() > 0 })
	stop()
	geartest.Eventually(t, 0, "it says that the hub is away", func() bool { return strings.Contains(errs.String(), "waiting until it is back") })
	before := shown()
	_, stop2 := hubAt(t, addr, "")
	defer stop2()
	geartest.Eventually(t, 0, "the locks are listed again", func() bool { return shown() > before })
	cancel()
	if c := <-code; c != OK {
		t.Errorf("exit code %d: %s", c, errs.String())
	}
}

// A gateway that takes a question and says nothing is not waited for without end.
func TestClient_FrozenGateway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := client{base: "http://" + l.Addr().String(), patience: 50 * time.Millisecond}
	err = c.call(t.Context(), "GET", "/v1/doctor", nil, new(any))
	if e, ok := errors.AsType[*exitError](err); !ok || e.code != Unreachable || !strings.Contains(err.Error(), "frozen") {
		t.Fatal(err)
	}
}
