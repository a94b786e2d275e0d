package engine

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What NATS says again and again is told once in a while, with what to do about it.
func TestLogger_SaysTheSameOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		twins := 0
		l := newLogger(slog.New(slog.NewTextHandler(&out, nil)), func() { twins++ })
		for i := range 50 {
			l.Errorf("127.0.0.1:%d - rid:%d - authentication error - User %q", 4000+i, i, "distgear")
			l.Errorf("Error trying to connect to route (attempt %d): dial tcp 127.0.0.1:6122: connect: connection refused", i)
			l.Errorf("Error trying to connect to route (attempt %d): dial tcp 127.0.0.1:6222: connect: connection refused", i)
			l.Errorf("127.0.0.1:6122 - rid:%d - Remote server has a duplicate name: %q", i, "h1")
		}
		if n := strings.Count(out.String(), "\n"); n != 4 {
			t.Errorf("%d lines, not 4:\n%s", n, out.String())
		}
		if twins != 50 || !strings.Contains(out.String(), "DISTGEAR_TOKEN") || !strings.Contains(out.String(), "--name") {
			t.Errorf("twins: %d\n%s", twins, out.String())
		}
		out.Reset()
		time.Sleep(sayEvery)
		l.Errorf("127.0.0.1:9 - rid:9 - authentication error - User %q", "distgear")
		if !strings.Contains(out.String(), "again=49") {
			t.Error(out.String())
		}
		for i := range 10 * maxSaid {
			l.Warnf("%s", fmt.Sprint("another text ", i))
		}
		if len(l.said) > maxSaid {
			t.Errorf("%d texts are remembered", len(l.said))
		}
		if l.store.Load() {
			t.Error("no store failed")
		}
		l.Errorf("JetStream out of resources, will be DISABLED")
		if !l.store.Load() {
			t.Error("a store failed")
		}
	})
}
