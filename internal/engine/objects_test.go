package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestObjects: what was put is read and listed, also after the server began anew in its directory; what was deleted leaves nothing.
func TestObjects(t *testing.T) {
	dir := t.TempDir()
	cfg := ServerConfig{Tier: Sync, Dir: dir}
	s, c := startStore(t, cfg)
	o := c.Objects("log")
	if _, err := o.Get(t.Context(), "a"); !errors.Is(err, ErrNoObject) {
		t.Fatal(err)
	}
	if all, err := o.List(t.Context()); err != nil || all != nil {
		t.Fatal(all, err)
	}
	openLog(t, c, LogConfig{})
	random := rand.NewChaCha8([32]byte{1})
	values := map[string][]byte{}
	for i, n := range []int{0, 1, 70 << 10, 5 << 20} {
		v := make([]byte, n)
		_, _ = random.Read(v) // it never fails
		name := fmt.Sprint("a name.with > any * signs/", i)
		values[name] = v
		if err := o.Put(t.Context(), name, v); err != nil {
			t.Fatal(err)
		}
	}
	check := func(o *Objects) {
		t.Helper()
		all, err := o.List(t.Context())
		if err != nil || len(all) != len(values) {
			t.Fatal(all, err)
		}
		for _, i := range all {
			if v := values[i.Name]; uint64(len(v)) != i.Size || i.At.IsZero() {
				t.Error(i, len(v))
			}
		}
		for name, v := range values {
			if got, err := o.Get(t.Context(), name); err != nil || !bytes.Equal(got, v) {
				t.Errorf("%s: %d bytes, not %d: %v", name, len(got), len(v), err)
			}
		}
	}
	check(o)
	if err := o.Put(t.Context(), "too large", make([]byte, MaxObject+1)); err == nil {
		t.Error("stored more than MaxObject")
	}
	c.Close()
	s.Close()

	s, err := StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err = Dial(t.Context(), ConnConfig{Server: s})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o = c.Objects("log")
	check(o)
	for name := range values {
		if err := errors.Join(o.Delete(t.Context(), name), o.Delete(t.Context(), name)); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Get(t.Context(), name); !errors.Is(err, ErrNoObject) {
			t.Fatal(err)
		}
	}
	stream, err := o.js.Stream(t.Context(), streamOf("log"))
	if err != nil {
		t.Fatal(err)
	}
	if i := stream.CachedInfo(); i.State.Msgs != 0 {
		t.Errorf("%d messages are left", i.State.Msgs)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := o.Put(ctx, "late", nil); err == nil {
		t.Error("put after the end of its context")
	}
}

// TestObjects_ListMeanwhile: a list ends soon though what it would tell last is
// deleted meanwhile.
func TestObjects_ListMeanwhile(t *testing.T) {
	s, c := startStore(t, ServerConfig{Tier: Memory})
	defer s.Close()
	defer c.Close()
	openLog(t, c, LogConfig{})
	o := c.Objects("log")
	for i := range 30 {
		if err := o.Put(t.Context(), fmt.Sprint(i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := 29; i >= 0; i-- {
			if err := o.Delete(t.Context(), fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
	})
	for left := 30; left > 0; {
		began := time.Now()
		all, err := o.List(t.Context())
		if err != nil || len(all) > left {
			t.Fatalf("%d, then %d: %v", left, len(all), err)
		}
		left = len(all)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}
