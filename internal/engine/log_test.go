package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// startStore starts a server that keeps logs, and a connection in the process.
func startStore(t testing.TB, cfg ServerConfig) (*Server, *Conn) {
	t.Helper()
	s, err := StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, err := Dial(t.Context(), ConnConfig{Server: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return s, c
}

func openLog(t testing.TB, c *Conn, cfg LogConfig) *Log {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cfg.Name, cfg.Subject = "log", "dg.log"
	l, err := OpenLog(ctx, c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func appendAll(t testing.TB, l *Log, last uint64, records ...string) error {
	t.Helper()
	p, err := l.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	type ack struct {
		seq uint64
		err error
	}
	acks := make(chan ack, len(records))
	for i, r := range records {
		if err := p.Append(last+uint64(i), []byte(r), func(seq uint64, err error) { acks <- ack{seq, err} }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range records {
		select {
		case a := <-acks:
			if a.err != nil {
				return a.err
			}
			if a.seq != last+uint64(i)+1 {
				return fmt.Errorf("record %d got number %d", i, a.seq)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no acknowledgement")
		}
	}
	return nil
}

func readAll(t testing.TB, l *Log, from uint64) (got []string, next uint64, err error) {
	t.Helper()
	next, err = l.Read(t.Context(), from, func(seq uint64, data []byte) error {
		got = append(got, fmt.Sprintf("%d=%s", seq, data))
		return nil
	})
	return got, next, err
}

func TestLog_AppendReadPurge(t *testing.T) {
	for _, tier := range []Tier{Memory, File, Sync} {
		t.Run(tier.String(), func(t *testing.T) {
			cfg := ServerConfig{Tier: tier, Dir: t.TempDir()}
			_, c := startStore(t, cfg)
			l := openLog(t, c, LogConfig{Memory: tier == Memory})
			if got, next, err := readAll(t, l, 0); err != nil || next != 0 || got != nil {
				t.Fatal(got, next, err)
			}
			if err := appendAll(t, l, 0, "a", "b", "c", "d"); err != nil {
				t.Fatal(err)
			}
			if err := appendAll(t, l, 3, "e"); !errors.Is(err, ErrConflict) {
				t.Fatalf("append at the wrong place: %v", err)
			}
			got, next, err := readAll(t, l, 2)
			if err != nil || next != 5 || strings.Join(got, " ") != "2=b 3=c 4=d" {
				t.Fatal(got, next, err)
			}
			if err := l.Purge(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			if _, _, err := readAll(t, l, 2); !errors.Is(err, ErrTruncated) {
				t.Fatalf("read of what was purged: %v", err)
			}
			got, next, err = readAll(t, l, 0)
			if err != nil || next != 5 || strings.Join(got, " ") != "3=c 4=d" {
				t.Fatal(got, next, err)
			}
			if last, err := l.Last(t.Context()); err != nil || last != 4 {
				t.Fatal(last, err)
			}
		})
	}
}

// A read of many records takes several answers.
func TestLog_ReadMany(t *testing.T) {
	_, c := startStore(t, ServerConfig{Tier: Memory})
	l := openLog(t, c, LogConfig{Memory: true})
	records := make([]string, 60)
	for n := uint64(0); n < 3*readBatch; n += uint64(len(records)) {
		if err := appendAll(t, l, n, records...); err != nil {
			t.Fatal(err)
		}
	}
	n := uint64(0)
	next, err := l.Read(t.Context(), 0, func(seq uint64, _ []byte) error {
		if n++; seq != n {
			return fmt.Errorf("record %d came as the %dth", seq, n)
		}
		return nil
	})
	if err != nil || next != n+1 || n < 3*readBatch {
		t.Fatal(n, next, err)
	}
}

func TestLog_Full(t *testing.T) {
	_, c := startStore(t, ServerConfig{Tier: Memory})
	l := openLog(t, c, LogConfig{Memory: true, MaxBytes: 4096})
	if err := appendAll(t, l, 0, strings.Repeat("x", 3000)); err != nil {
		t.Fatal(err)
	}
	if err := appendAll(t, l, 1, strings.Repeat("x", 3000)); !errors.Is(err, ErrStorage) {
		t.Fatalf("append to a full log: %v", err)
	}
}

// Rule 15: nothing in NATS keeps two servers out of one directory.
func TestStore_DirectoryIsTaken(t *testing.T) {
	dir := t.TempDir()
	s, err := StartServer(ServerConfig{Tier: File, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := StartServer(ServerConfig{Tier: File, Dir: dir}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("second server on one directory: %v", err)
	}
	s.Close()
	if s, err = StartServer(ServerConfig{Tier: File, Dir: dir}); err != nil {
		t.Fatalf("after the first has stopped: %v", err)
	}
	s.Close()
	if _, err := StartServer(ServerConfig{Tier: Sync}); err == nil {
		t.Fatal("a tier on disk without a directory")
	}
}

func TestLog_RefusesAnotherStream(t *testing.T) {
	_, c := startStore(t, ServerConfig{Tier: Memory})
	openLog(t, c, LogConfig{Memory: true})
	for _, cfg := range []LogConfig{{Name: "log", Subject: "dg.log"}, {Name: "log", Subject: "other", Memory: true}} {
		if _, err := OpenLog(t.Context(), c, cfg); err == nil {
			t.Fatalf("%+v was opened", cfg)
		}
	}
	js, err := jetstream.New(c.nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "async", Subjects: []string{"async"}, Discard: jetstream.DiscardNew, AllowDirect: true, PersistMode: jetstream.AsyncPersistMode,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLog(t.Context(), c, LogConfig{Name: "async", Subject: "async"}); err == nil || !strings.Contains(err.Error(), "persist") {
		t.Fatalf("asynchronous stream: %v", err)
	}
}

// BenchmarkAppend is what the log itself does: one append at a time, and 60 in
// flight.
func BenchmarkAppend(b *testing.B) {
	for _, tier := range []Tier{Memory, File, Sync} {
		for _, window := range []int{1, 60} {
			for _, size := range []int{128, 8 << 10} {
				b.Run(fmt.Sprintf("%v/window=%d/%dB", tier, window, size), func(b *testing.B) {
					_, c := startStore(b, ServerConfig{Tier: tier, Dir: b.TempDir()})
					l := openLog(b, c, LogConfig{Memory: tier == Memory})
					p, err := l.Pipe()
					if err != nil {
						b.Fatal(err)
					}
					defer p.Close()
					room := make(chan error, window)
					for range window {
						room <- nil
					}
					data := make([]byte, size)
					done := func(_ uint64, err error) { room <- err }
					b.ResetTimer()
					for i := range b.N {
						if err := <-room; err != nil {
							b.Fatal(err)
						}
						if err := p.Append(uint64(i), data, done); err != nil {
							b.Fatal(err)
						}
					}
					for range window {
						if err := <-room; err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// stock is read before any server runs.
var stock = [3]time.Duration{minElectionTimeout, maxElectionTimeout, hbInterval}

// The timers are those of nats-server, which may rename them: then they would be 0.
func TestElectionTimers(t *testing.T) {
	if stock != [3]time.Duration{4 * time.Second, 9 * time.Second, time.Second} {
		t.Fatalf("nats-server's election timers are not %v any more: look at raft.go", stock)
	}
}

func TestVersionFloor(t *testing.T) {
	for v, want := range map[string]bool{"2.15.2": true, "2.15.1": false, "2.16.0-RC.1": true, "3.0.0": true, "2.9.25": false, "dev": true} {
		if recent(v) != want {
			t.Errorf("%s: %v", v, !want)
		}
	}
}

// While the servers of a cluster elect a leader nobody answers: that is found out soon, and not when the caller's context ends.
func TestLogs_WithoutALeader(t *testing.T) {
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", Tier: Memory, Cluster: &Cluster{Server: "s1", Listen: "127.0.0.1:0", Routes: []string{"127.0.0.1:1", "127.0.0.1:2"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := Dial(t.Context(), ConnConfig{Server: s})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if n := c.Logs(ctx); n != 3 || ctx.Err() != nil {
		t.Fatalf("%d replicas, %v", n, ctx.Err())
	}
	if left, _ := ctx.Deadline(); time.Until(left) < 40*time.Second {
		t.Fatal("it waited for the context")
	}
}

// A server of a cluster that listens nowhere would not start, and not end either.
func TestCluster_NeedsToListen(t *testing.T) {
	if s, err := StartServer(ServerConfig{Tier: Memory, Cluster: &Cluster{Server: "s1", Listen: "127.0.0.1:0"}}); err == nil {
		s.Close()
		t.Error("it was started")
	}
}

// Three hubs that start together find a leader that has heard of one: that is no refusal.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&jetstream.APIError{Code: 400, ErrorCode: noPeers, Description: "no suitable peers for placement"}, false},
		{&jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamNameInUse}, true},
		{&jetstream.APIError{Code: 503, ErrorCode: 10008}, false},
		{context.DeadlineExceeded, false},
	} {
		if got := refused(c.err); got != c.want {
			t.Errorf("%v: refused %v", c.err, got)
		}
	}
}
