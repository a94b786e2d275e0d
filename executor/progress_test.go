package executor

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestBarLine looks at the line that is shown after so many results in so long.
func TestBarLine(t *testing.T) {
	for _, c := range []struct {
		bar   Bar
		done  int64
		after time.Duration
		width int
		want  string
	}{
		{Bar{"tiles", 100}, 0, 0, 60, "tiles [---------------------------------] 0/100  0/s  ? left"},
		{Bar{"tiles", 100}, 25, 5 * time.Second, 60, "tiles [#######-----------------------] 25/100  5/s  15s left"},
		{Bar{"tiles", 100}, 100, 5 * time.Second, 60, "tiles [#############################] 100/100  20/s  0s left"},
		{Bar{"tiles", 100}, 120, 5 * time.Second, 60, "tiles [#############################] 120/100  24/s  0s left"},
		{Bar{"tiles", 100}, 25, 5 * time.Second, 34, "tiles 25/100  5/s  15s left"},
		{Bar{"tiles", 100}, 25, 5 * time.Second, 9, "tiles 25/"},
		{Bar{"tiles", 100}, 25, 5 * time.Second, -1, ""},
		{Bar{"tiles", 0}, 1234, 2 * time.Second, 60, "tiles 1234  617/s"},
		{Bar{"tiles", 1e9}, 1, 5 * time.Second, 60, "tiles [------------------------] 1/1000000000  0.2/s  ? left"},
	} {
		m := &meter{Bar: c.bar}
		m.done.Store(c.done)
		if got := m.line(time.Time{}.Add(c.after), c.width); got != c.want {
			t.Errorf("%v, %d after %v: %q, want %q", c.bar, c.done, c.after, got, c.want)
		}
	}
}

// TestBarRate: the rate follows what comes.
func TestBarRate(t *testing.T) {
	m := &meter{}
	now := m.began
	for range 100 { // 10 s with 100 per second
		now = now.Add(redraw)
		m.done.Add(10)
		m.rate(now)
	}
	if r := m.rate(now); r < 99 || r > 101 {
		t.Errorf("%v per second, want 100", r)
	}
	for range 100 { // 10 s with nothing
		now = now.Add(redraw)
		m.rate(now)
	}
	if r := m.rate(now); r > 5 {
		t.Errorf("%v per second after 10 s without any", r)
	}
}

// TestBarShown looks at what reaches the terminal.
func TestBarShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		m := &meter{Bar: Bar{"tiles", 4}, out: &out, width: func() int { return 61 }}
		m.start()
		m.add()
		time.Sleep(redraw + redraw/2) // of the bubble's clock: one tick
		synctest.Wait()
		m.add()
		m.stop()
		want := "\rtiles [########-------------------------] 1/4  10/s  0s left\x1b[K\rtiles 2 of 4 in 150ms, 13.3/s\x1b[K\n"
		if got := out.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// TestBarQuiet: tests have no terminal, so nothing is shown.
func TestBarQuiet(t *testing.T) {
	if m := (&Bar{}).show("double"); m != nil {
		m.out = io.Discard
		m.stop()
		t.Error("it is shown without a terminal")
	}
	var m *meter
	m.add()
	m.stop()
	o := &options{}
	Bar{Name: "a\nb", Total: -1}.set(o)
	if len(o.faults) != 2 || !strings.Contains(o.faults[0].Error(), "negative") {
		t.Errorf("%v", o.faults)
	}
}
