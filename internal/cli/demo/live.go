package demo

import (
	"io"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/cli/show"
	"github.com/distgear/distgear/record"
)

// liveScreen draws the runs that are under way at the bottom of a terminal;
// what is over scrolls away above.
type liveScreen struct {
	program *tea.Program
	over    chan struct{} // closed when the terminal is as it was
	out     io.Writer
}

func newLive(in io.Reader, out io.Writer, interrupt func()) *liveScreen {
	l := &liveScreen{over: make(chan struct{}), out: out}
	l.program = tea.NewProgram(&live{interrupt: interrupt}, tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler())
	go func() { // ends in close
		defer close(l.over)
		_, _ = l.program.Run() // without a terminal the exit code still tells
	}()
	return l
}

type (
	recordMsg record.Run
	tickMsg   time.Time
)

// say prints for good, in the order of the calls (tea.Println as a command of
// the model would not keep it).
func (l *liveScreen) say(text string) { l.program.Println(text) }

// update draws a run, or prints one that ended.
func (l *liveScreen) update(rec record.Run) {
	l.program.Send(recordMsg(rec))
	if rec.State.Final() {
		l.say("\n" + show.Tree(rec, time.Now(), show.Paint) + "\n")
	}
}

func (l *liveScreen) member(m cluster.Member) { l.say(memberText(m, show.Paint)) }
func (l *liveScreen) note(text string)        { l.say("● " + text) }
func (l *liveScreen) check(c Check)           { l.say(checkText(c, show.Paint)) }

func (l *liveScreen) heading(phase int, title, what string) {
	l.say(headingText(phase, title, what, show.Paint))
}

func (l *liveScreen) close(s Summary) {
	l.program.Quit()
	<-l.over // with the last trees on the terminal, if the demo was broken off
	_, _ = lipgloss.Fprintln(l.out, summaryText(s, show.Paint))
}

// live is the model: what is under way.
type live struct {
	interrupt func()
	runs      []record.Run
	now       time.Time
}

const frame = 100 * time.Millisecond

func tick() tea.Cmd { return tea.Tick(frame, func(t time.Time) tea.Msg { return tickMsg(t) }) }

// Init implements tea.Model.
func (l *live) Init() tea.Cmd {
	l.now = time.Now()
	return tick()
}

// Update implements tea.Model.
func (l *live) Update(m tea.Msg) (tea.Model, tea.Cmd) {
	switch m := m.(type) {
	case tickMsg:
		l.now = time.Time(m)
		return l, tick()
	case tea.KeyPressMsg:
		if s := m.String(); s == "ctrl+c" || s == "q" || s == "esc" {
			l.interrupt()
		}
	case recordMsg:
		l.record(record.Run(m))
	}
	return l, nil
}

// record takes the news of a run in; one that ended is not drawn any more.
func (l *live) record(rec record.Run) {
	at := len(l.runs)
	for i, r := range l.runs {
		if r.ID == rec.ID {
			at = i
		}
	}
	if at == len(l.runs) {
		l.runs = append(l.runs, rec)
	}
	l.runs[at] = rec
	if rec.State.Final() {
		l.runs = append(l.runs[:at:at], l.runs[at+1:]...)
	}
}

// View implements tea.Model.
func (l *live) View() tea.View {
	var b strings.Builder
	for _, r := range l.runs {
		b.WriteString("\n" + show.Tree(r, l.now, show.Paint) + "\n")
	}
	return tea.NewView(b.String())
}
