package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/engine"
	"github.com/nats-io/nats.go"
)

// bounds asks what the log holds.
func (n *node) bounds(t testing.TB) engine.Bounds {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	b, err := n.log.Bounds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Snapshots of several pieces are written between rounds, and the log is purged; who joins, restarts or takes over has it all.
func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	s := server(t, engine.ServerConfig{Tier: engine.File, Dir: dir})
	cfg := Config{Eager: true, SnapshotBytes: 200 << 10}
	a := start(t, engine.ConnConfig{Server: s}, cfg)
	if err := a.Do(t.Context(), func() { a.state.pad = 3*maxPiece + 1 }); err != nil {
		t.Fatal(err)
	}
	cfg.Eager, cfg.Hub = false, "b"
	b := start(t, engine.ConnConfig{Server: s}, cfg)
	pad := string(make([]byte, 1000))
	n, purged := 0, uint64(0)
	for range 3 { // three snapshots
		eventually(t, "the log is purged", func() bool {
			for range 50 {
				a.put(t, fmt.Sprint("entry ", n, pad))
				n++
			}
			return a.bounds(t).First > purged+10
		})
		purged = a.bounds(t).First
	}
	c := start(t, engine.ConnConfig{Server: s}, Config{Hub: "c", SnapshotBytes: 200 << 10})
	equal(t, a, b)
	equal(t, a, c)
	if age := c.Stats().Snapshot; age < 0 {
		t.Fatal("the joiner knows of no snapshot")
	}
	if st := a.Stats(); st.Epoch != 1 || st.LogBytes > 8<<20 {
		t.Fatalf("%+v", st)
	}
	a.Close()
	eventually(t, "another writes", func() bool { return b.Writer() || c.Writer() })
	w := b
	if c.Writer() {
		w = c
	}
	w.put(t, "after")
	equal(t, b, c)
	if got, _ := b.state.all(); len(got) != n+1 {
		t.Fatalf("%d entries, not %d", len(got), n+1)
	}
	for _, x := range []*node{b, c} {
		x.Close()
		x.conn.Close()
	}
	a.conn.Close()
	s.Close()
	s = server(t, engine.ServerConfig{Tier: engine.File, Dir: dir})
	d := start(t, engine.ConnConfig{Server: s}, Config{Eager: true})
	if got, _ := d.state.all(); len(got) != n+1 || got[n] != "after" {
		t.Fatalf("%d entries after the restart, not %d", len(got), n+1)
	}
	d.put(t, "again")
}

// The pieces of a writer that died before the last are not taken for a snapshot.
func TestSnapshot_Incomplete(t *testing.T) {
	s := server(t, engine.ServerConfig{Tier: engine.Memory})
	a := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Eager: true, Window: 1})
	a.put(t, "one")
	if err := a.Do(t.Context(), func() { // two of three pieces, and no more
		a.state.pad = 2 * maxPiece
		a.take()
		a.sendPiece(a.taking)
		a.sendPiece(a.taking)
		a.taking.data = nil
	}); err != nil {
		t.Fatal(err)
	}
	a.put(t, "two")
	b := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Hub: "b", SnapshotBytes: 1000})
	equal(t, a, b)
	a.Close()
	eventually(t, "b writes", b.Writer)
	eventually(t, "b's own snapshot is complete", func() bool { b.put(t, string(make([]byte, 200))); return b.bounds(t).First > 1 })
	c := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Hub: "c"})
	equal(t, b, c)
}

// A record that nobody of ours wrote ends the ledger with an error that names it.
func TestForeignRecord(t *testing.T) {
	s := server(t, engine.ServerConfig{Tier: engine.Memory})
	a := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Eager: true})
	a.put(t, "one")
	if err := a.conn.Publish(a.cfg.Subject, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the writer ends", func() bool {
		_ = a.Submit([]byte("two"))
		select {
		case <-a.Done():
			return true
		default:
			return false
		}
	})
	if err := a.Err(); !errors.Is(err, errRecord) {
		t.Fatal(err)
	}
	t.Log(a.Err())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if l, err := Open(ctx, Config{Conn: a.conn, Name: "test", Hub: "b", Memory: true, State: &list{}, Logger: quiet()}); !errors.Is(err, errRecord) {
		if err == nil {
			l.Close()
		}
		t.Fatal(err)
	}
}

// A log that is removed ends writer and standby.
func TestLogIsGone(t *testing.T) {
	s := server(t, engine.ServerConfig{Listen: "127.0.0.1:0", Tier: engine.Memory})
	a := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Eager: true})
	b := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Hub: "b", Patience: 300 * time.Millisecond})
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	a.put(t, "one")
	equal(t, a, b)
	if _, err := nc.Request("$JS.API.STREAM.DELETE.test", nil, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := a.Submit([]byte("two")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{a, b} {
		select {
		case <-n.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("goes on without a log")
		}
		if !errors.Is(n.Err(), engine.ErrGone) {
			t.Fatal(n.Err())
		}
	}
}

// Records of an epoch that is over, which are stored late, do not count.
func TestChain(t *testing.T) {
	rec := func(k kind, epoch, index, nonce uint64) record {
		return record{kind: k, epoch: epoch, index: index, nonce: nonce, now: 7}
	}
	var c chain
	for i, x := range []struct {
		r    record
		want bool
	}{
		{rec(genesis, 0, 0, 0), true},
		{rec(genesis, 0, 0, 0), false},
		{rec(round, 0, 1, 0), false},
		{rec(opening, 1, 0, 11), true},
		{rec(round, 1, 1, 11), true},
		{rec(round, 1, 3, 11), false}, // the one before is not there
		{rec(round, 1, 2, 12), false}, // not this writer's
		{rec(piece, 1, 2, 11), true},
		{rec(opening, 1, 0, 13), false}, // late
		{rec(opening, 4, 0, 14), true},
		{rec(round, 1, 3, 11), false}, // late
		{rec(opening, 3, 0, 15), false},
		{rec(round, 4, 1, 14), true},
		{rec(kind(9), 4, 2, 14), false},
	} {
		if got := c.accept(&x.r); got != x.want {
			t.Errorf("record %d: %v", i, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for k := genesis; k <= piece; k++ {
		b := make([]byte, headLen+1)
		if k == round {
			b = appendEntry(b, []byte("entry"))
		}
		if k == piece {
			b = (&pieceHead{at: 1, index: 1, parts: 1}).append(b[:headLen])
		}
		if k == genesis {
			b = b[:headLen]
		}
		seal(b, k, uint64(k)-1, uint64(k)-uint64(min(k, 2)), 5, 6)
		f.Add(b)
	}
	f.Add([]byte("DL"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parse(b); err != nil {
			if len(b) < headLen { // make the rest of the parser see it
				return
			}
			b = bytes.Clone(b)
			k := kind(b[3])
			seal(b, k, 1, uint64(b[16]), 3, 4)
		}
		r, err := parse(b)
		if err != nil {
			return
		}
		var c chain
		c.accept(&r)
		switch r.kind {
		case round:
			n := 0
			for e := range r.entries {
				n += len(e) + 1
			}
			if n > len(r.body) {
				t.Fatalf("%d bytes of entries in %d", n, len(r.body))
			}
		case piece:
			var col collector
			col.add(&r, true, 1)
		}
		if h, ok := parseBeat(b); ok && len(h.hub) > len(b) {
			t.Fatal(h)
		}
	})
}
