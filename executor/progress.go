package executor

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/charmbracelet/x/term"
)

// Bar makes a Map show how far it is, on standard error while that is a terminal:
// results, results per second and the time that is left. Elsewhere it shows nothing. The
// loop should print nothing to the same terminal meanwhile. The zero value works.
type Bar struct {
	Name  string // before the bar; empty means the action's name
	Total int    // how many inputs there will be; zero means that nobody knows: there is no bar then, and no time left
}

func (b Bar) set(o *options) {
	o.fault(b.Total < 0, "Bar: Total %d is negative", b.Total)
	o.fault(strings.ContainsFunc(b.Name, func(r rune) bool { return r < ' ' || r == 0x7f }), "Bar: Name %.20q has control characters", b.Name)
	o.bar, o.bulk = &b, true
}

const (
	redraw = 100 * time.Millisecond
	memory = 3 * time.Second // of the rate: what is longer ago counts less than a third
)

// meter is a Bar that is shown. A nil one shows nothing.
type meter struct {
	Bar

	out   io.Writer
	width func() int // of the terminal, in columns
	done  atomic.Int64
	end   chan struct{}
	drawn sync.WaitGroup

	// what follows is the drawing goroutine's
	began, last time.Time
	seen        int64   // of done, at last
	speed       float64 // results per second, on average, as if it had been 0 before
}

// show begins to show b, if it is there and standard error is a terminal.
func (b *Bar) show(action string) *meter {
	fd := os.Stderr.Fd()
	if b == nil || !term.IsTerminal(fd) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	m := &meter{Bar: *b, out: os.Stderr, width: func() int {
		w, _, err := term.GetSize(fd)
		if err != nil || w <= 0 { // some say 0
			return 80
		}
		return w
	}}
	if m.Name == "" {
		m.Name = action
	}
	m.start()
	return m
}

func (m *meter) start() {
	m.end = make(chan struct{})
	m.began = time.Now()
	m.last = m.began
	m.drawn.Go(m.draw)
}

// add counts a result.
func (m *meter) add() {
	if m != nil {
		m.done.Add(1)
	}
}

// stop leaves the last state on the terminal.
func (m *meter) stop() {
	if m != nil {
		close(m.end)
		m.drawn.Wait()
	}
}

func (m *meter) draw() {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			// One column stays free: some terminals go to the next line when the last one is used.
			_, _ = fmt.Fprintf(m.out, "\r%s\x1b[K", m.line(now, m.width()-1))
		case <-m.end:
			_, _ = fmt.Fprintf(m.out, "\r%s\x1b[K\n", m.sum(time.Now()))
			return
		}
	}
}

// rate takes up what was done since it was called last, and returns results per second.
func (m *meter) rate(now time.Time) float64 {
	done, since := m.done.Load(), now.Sub(m.last).Seconds()
	if since > 0 {
		m.speed += (float64(done-m.seen)/since - m.speed) * (1 - math.Exp(-since/memory.Seconds()))
		m.seen, m.last = done, now
	}
	all := now.Sub(m.began).Seconds()
	if all <= 0 {
		return 0
	}
	return m.speed / (1 - math.Exp(-all/memory.Seconds())) // of the time since it began only
}

// line is what is shown now, in at most so many columns if the name has no wide letters.
func (m *meter) line(now time.Time, width int) string {
	done, rate := m.done.Load(), m.rate(now)
	if m.Total == 0 {
		return fmt.Sprintf("%s %d  %.3g/s", m.Name, done, rate)
	}
	left := "?"
	if missing := max(int64(m.Total)-done, 0); missing == 0 {
		left = "0s"
	} else if s := float64(missing) / rate; s < (1000 * time.Hour).Seconds() { // not if nothing comes
		left = time.Duration(s * float64(time.Second)).Round(time.Second).String()
	}
	text := fmt.Sprintf("%d/%d  %.3g/s  %s left", done, m.Total, rate, left)
	room := min(width-len(m.Name)-len(text)-len(" [] "), 40)
	if room < 5 {
		return cut(m.Name+" "+text, width)
	}
	full := int(min(done*int64(room)/int64(m.Total), int64(room)))
	return fmt.Sprintf("%s [%s%s] %s", m.Name, strings.Repeat("#", full), strings.Repeat("-", room-full), text)
}

// sum is what stays.
func (m *meter) sum(now time.Time) string {
	done, took := m.done.Load(), now.Sub(m.began)
	of := ""
	if m.Total > 0 && done < int64(m.Total) {
		of = fmt.Sprintf(" of %d", m.Total)
	}
	return fmt.Sprintf("%s %d%s in %v, %.3g/s", m.Name, done, of, took.Round(10*time.Millisecond), float64(done)/max(took.Seconds(), 1e-9))
}

func cut(s string, width int) string {
	if rs := []rune(s); len(rs) > width {
		return string(rs[:max(width, 0)])
	}
	return s
}
