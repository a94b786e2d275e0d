package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/cli/show"
	"github.com/distgear/distgear/record"
)

// screen is where a demo shows itself. It is safe for concurrent use.
type screen interface {
	heading(phase int, title, what string)
	update(rec record.Run) // the last one of a run is final
	member(m cluster.Member)
	note(text string)
	check(c Check)
	close(s Summary)
}

func newScreen(o Options, interrupt func()) screen {
	switch o.Mode {
	case JSON:
		return &jsonScreen{out: json.NewEncoder(o.Out), seen: map[record.RunID]record.Run{}}
	case Live:
		return newLive(o.In, o.Out, interrupt)
	default:
		return &plainScreen{out: o.Out, seen: map[record.RunID]record.Run{}}
	}
}

// plainScreen writes a line per change, and the tree of each run that ended.
type plainScreen struct {
	mu   sync.Mutex
	out  io.Writer
	seen map[record.RunID]record.Run
}

func (p *plainScreen) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format, args...) // nobody is left to be told when the terminal is gone
}

func (p *plainScreen) heading(phase int, title, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printf("%s", headingText(phase, title, what, show.Plain)+"\n")
}

func headingText(phase int, title, what string, ink show.Ink) string {
	if phase > 0 {
		title = fmt.Sprintf("%d. %s", phase, title)
	}
	return "\n" + ink("━━ "+title, "heading") + "\n" + ink(what, "dim")
}

func (p *plainScreen) update(rec record.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range show.Changes(p.seen[rec.ID], rec) {
		p.printf("%s\n", c)
	}
	p.seen[rec.ID] = rec
	if rec.State.Final() {
		p.printf("\n%s\n\n", show.Tree(rec, time.Now(), show.Plain))
	}
}

func (p *plainScreen) member(m cluster.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printf("%s\n", memberText(m, show.Plain))
}

func memberText(m cluster.Member, ink show.Ink) string {
	return fmt.Sprintf("● %s is %s (incarnation %d)", m.Name, ink(m.State.String(), m.State.String()), m.Incarnation)
}

func (p *plainScreen) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printf("● %s\n", text)
}

func (p *plainScreen) check(c Check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printf("%s\n", checkText(c, show.Plain))
}

func checkText(c Check, ink show.Ink) string {
	if c.Wrong != "" {
		return ink("✗", "✗") + " " + c.What + "\n  " + ink(c.Wrong, "✗")
	}
	return ink("✓", "✓") + " " + c.What
}

func (p *plainScreen) close(s Summary) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printf("%s\n", summaryText(s, show.Plain))
}

func summaryText(s Summary, ink show.Ink) string {
	took := (time.Duration(s.Millis) * time.Millisecond).Seconds()
	switch {
	case s.OK:
		return fmt.Sprintf("\n%s all %d checks held, %.1f s", ink("✓", "✓"), s.Checks, took)
	case s.Failed > 0:
		return fmt.Sprintf("\n%s %d of %d checks failed, %.1f s", ink("✗", "✗"), s.Failed, s.Checks, took)
	}
	return fmt.Sprintf("\n%s broken off after %.1f s: %s", ink("✗", "✗"), took, s.Error)
}

// jsonScreen writes a JSON object per line.
type jsonScreen struct {
	mu    sync.Mutex
	out   *json.Encoder
	phase int
	seen  map[record.RunID]record.Run
}

// line is what --json writes: type says which of the others are there.
type line struct {
	Type    string          `json:"type"` // phase, change, member, note, check, summary
	Phase   int             `json:"phase"`
	Title   string          `json:"title,omitempty"`
	Text    string          `json:"text,omitempty"`
	OK      *bool           `json:"ok,omitempty"`
	Change  *show.Change    `json:"change,omitempty"`
	Member  *cluster.Member `json:"member,omitempty"`
	Check   *Check          `json:"check,omitempty"`
	Summary *Summary        `json:"summary,omitempty"`
}

func (j *jsonScreen) write(l line) {
	l.Phase = j.phase
	_ = j.out.Encode(l) // nobody is left to be told
}

func (j *jsonScreen) heading(phase int, title, what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.phase = phase
	j.write(line{Type: "phase", Title: title, Text: what})
}

func (j *jsonScreen) update(rec record.Run) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range show.Changes(j.seen[rec.ID], rec) {
		j.write(line{Type: "change", Change: &c})
	}
	j.seen[rec.ID] = rec
}

func (j *jsonScreen) member(m cluster.Member) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(line{Type: "member", Member: &m})
}

func (j *jsonScreen) note(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(line{Type: "note", Text: text})
}

func (j *jsonScreen) check(c Check) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ok := c.Wrong == ""
	j.write(line{Type: "check", OK: &ok, Check: &c})
}

func (j *jsonScreen) close(s Summary) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(line{Type: "summary", OK: &s.OK, Summary: &s})
}
