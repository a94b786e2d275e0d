package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")) // see patient: now and then one is left all the same
}

func TestPublishSubscribe(t *testing.T) {
	for _, inProcess := range []bool{true, false} {
		s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", Token: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		cfg := ConnConfig{URLs: s.URL(), Token: "secret"}
		if inProcess {
			cfg = ConnConfig{Server: s}
		}
		c, err := Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 1)
		stop, err := c.Subscribe("a.b", func(b []byte) { got <- string(b) })
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Publish("a.b", []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if g := <-got; g != "hello" {
			t.Fatalf("got %q", g)
		}
		stop()
		c.Close()
		s.Close()
	}
}

// Fault 12 of the original: no authentication.
func TestFault12_TokenIsRequired(t *testing.T) {
	if _, err := StartServer(ServerConfig{Listen: "0.0.0.0:0"}); err == nil || !strings.Contains(err.Error(), "token") {
		t.Fatalf("served on every address without a token: %v", err)
	}
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, token := range []string{"", "wrong"} {
		if _, err := Dial(t.Context(), ConnConfig{URLs: s.URL(), Token: token}); err == nil || !strings.Contains(err.Error(), "token") {
			t.Fatalf("token %q: %v", token, err)
		}
	}
}

func TestAddressTaken(t *testing.T) {
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := StartServer(ServerConfig{Listen: strings.TrimPrefix(s.URL(), "nats://")}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("second server on one address: %v", err)
	}
	if _, err := StartServer(ServerConfig{Listen: "nonsense"}); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Fatalf("nonsense address: %v", err)
	}
}

func TestDialOfNoAddress(t *testing.T) {
	for _, urls := range []string{"nats://[::1:4222", "foo:://x", "nats://127.0.0.1:1,http://127.0.0.1:8422"} {
		if _, err := Dial(t.Context(), ConnConfig{URLs: urls}); err == nil || !strings.Contains(err.Error(), "NATS address") {
			t.Errorf("dial of %s: %v", urls, err)
		}
	}
}

func TestDialObeysContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, ConnConfig{URLs: "nats://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "distgear hub") {
		t.Fatalf("dial of nobody: %v", err)
	}
}
