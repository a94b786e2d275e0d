package tasks

import (
	"bytes"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/transcript"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expectations in testdata")

// TestTranscripts runs testdata/*.txt: operations, each followed by what it tells.
// Sessions are letters, tasks go by ID. After each operation the state goes through
// bytes.
func TestTranscripts(t *testing.T) {
	transcript.Run(t, *rewrite, func(out *bytes.Buffer) transcript.Operation {
		return (&player{New[string](Limits{}, 0), 0, Out[string]{}, out}).do
	})
}

type player struct {
	m   *Machine[string]
	req uint64
	out Out[string]
	to  *bytes.Buffer
}

// operation is the words of an operation: those with a = and the others.
type operation struct {
	words []string
	with  map[string]string
}

func (w operation) num(k string) int64 {
	n, _ := strconv.ParseInt(w.with[k], 10, 64)
	return n
}

func (w operation) has(s string) bool { return slices.Contains(w.words, s) }

func (w operation) session() machine.Session { return machine.Session(w.words[0][0] - 'a' + 1) }

func letter(s machine.Session) string { return string(rune('a' + s - 1)) }

func (p *player) do(f []string) error {
	w := operation{with: map[string]string{}}
	for _, s := range f[1:] {
		if k, v, ok := strings.Cut(s, "="); ok {
			w.with[k] = v
		} else {
			w.words = append(w.words, s)
		}
	}
	if err := p.apply(f[0], w); err != nil {
		return err
	}
	for i := range p.out.Effects {
		fmt.Fprintf(p.to, "\t%s\n", p.effect(&p.out.Effects[i]))
	}
	p.out.Reset()
	text := func(b []byte, v string) []byte { return append(b, v...) }
	b := p.m.AppendBinary(nil, text)
	n := New[string](Limits{}, 0)
	if err := n.Restore(b, parseText); err != nil {
		return err
	}
	if !bytes.Equal(n.AppendBinary(nil, text), b) {
		return fmt.Errorf("the state does not survive")
	}
	p.m = n
	return nil
}

func (p *player) apply(verb string, w operation) error {
	m, out := p.m, &p.out
	p.req++
	switch verb {
	case "submit":
		p.submit(w)
	case "abandon":
		in, ok := m.Abandon(out, machine.Who{Session: w.session(), Req: uint64(w.num("req"))})
		fmt.Fprintf(p.to, "\t%d in, %v\n", in, ok)
	case "work":
		o := Offer{Slots: int(w.num("slots")), Prefetch: int(w.num("prefetch")), Bytes: int(w.num("bytes"))}
		if k := w.with["kinds"]; k != "" {
			o.Kinds = strings.Split(k, ",")
		}
		if l := w.with["label"]; l != "" {
			k, v, _ := strings.Cut(l, ":")
			o.Labels = map[string]string{k: v}
		}
		m.Work(out, w.session(), o)
	case "done", "stale":
		p.done(verb, w)
	case "giveback", "kept":
		var ls []Lease
		for _, id := range w.words[1:] {
			t := m.Find(id)
			ls = append(ls, Lease{Number: t.Number, Epoch: t.Epoch})
		}
		if verb == "kept" {
			m.Kept(out, w.session(), ls)
		} else {
			m.GiveBack(out, w.session(), ls)
		}
	case "quiet":
		m.Quiet(out, w.session(), "")
	case "heard":
		m.Heard(out, w.session())
	case "expire":
		m.Expire(out, w.session(), "")
	case "unwork":
		m.Unwork(out, w.session(), "")
	case "limits":
		m.Configure(out, Limits{Capacity: int(w.num("capacity")), Rate: w.num("rate"), Burst: int(w.num("burst")), Running: int(w.num("running")),
			KeyRate: w.num("keyrate"), KeyRunning: int(w.num("keyrunning")), Sticky: w.has("sticky"), Retain: w.num("retain"), MaxRetained: int(w.num("most"))})
	case "pause":
		m.Pause(w.words[0])
	case "resume":
		m.Resume(out)
	case "tick":
		n, err := strconv.ParseInt(w.words[0], 10, 64)
		if err != nil {
			return err
		}
		m.Tick(out, n)
	default:
		return p.more(verb, w)
	}
	return nil
}

func (p *player) more(verb string, w operation) error {
	m, out := p.m, &p.out
	said := func(err error) {
		if err != nil {
			fmt.Fprintf(p.to, "\t%v\n", err)
		}
	}
	switch verb {
	case "cancel":
		said(m.Cancel(out, m.Find(w.words[0])))
	case "retry":
		said(m.Retry(out, m.Find(w.words[0])))
	case "park":
		said(m.Park(out, m.Find(w.words[0]), "because"))
	case "watch":
		m.Watch(out, w.session(), m.Find(w.words[1]))
	case "progress":
		t := m.Find(w.words[1])
		m.Progress(out, w.session(), Lease{Number: t.Number, Epoch: t.Epoch}, w.num("done"), w.num("total"))
	case "batch":
		m.WatchBatch(out, machine.Who{Session: w.session(), Req: p.req}, w.words[1])
	case "schedule":
		said(m.Schedule(out, Schedule[string]{Name: w.words[0], Text: w.with["text"], Spec: Spec{Kind: "k", Deadline: w.num("deadline")}, Val: "in", Next: w.num("next"), Skip: w.has("skip"), All: w.has("all")}))
	case "unschedule":
		said(m.Unschedule(w.words[0]))
	case "pauseschedule", "resumeschedule":
		said(m.PauseSchedule(out, w.words[0], verb == "pauseschedule"))
	case "next":
		m.NextTime(out, w.words[0], w.num("last"), w.num("next"))
	case "ask":
		m.AskNext(out)
	case "due":
		fmt.Fprintf(p.to, "\t%d\n", m.Due())
	case "stats":
		fmt.Fprintf(p.to, "\t%+v\n", m.Stats())
	case "page":
		ts, next := m.Page(Filter{State: State(w.num("state")), Kind: w.with["kind"], Key: w.with["key"], Prefix: w.with["prefix"]}, uint64(w.num("after")), int(w.num("n")))
		for _, t := range ts {
			fmt.Fprintf(p.to, "\t%d %s %s\n", t.Number, t.ID, t.Word())
		}
		fmt.Fprintf(p.to, "\tnext %d\n", next)
	case "show":
		p.show(m.Find(w.words[0]))
	default:
		return fmt.Errorf("no such operation")
	}
	return nil
}

func (p *player) submit(w operation) {
	var items []Item[string]
	for _, id := range w.words[1:] {
		if id == "wait" || id == "strict" {
			continue
		}
		s := Spec{
			ID: id, Kind: "k", Key: w.with["key"], Batch: w.with["batch"], Priority: int8(w.num("priority")), Idempotent: !w.has("strict"), Retries: uint16(w.num("retries")),
			NotBefore: w.num("at"), Deadline: w.num("deadline"), Retain: w.num("retain"), Size: uint32(w.num("size")), Labels: strings.ReplaceAll(w.with["label"], ":", "="),
		}
		if k := w.with["kind"]; k != "" {
			s.Kind = k
		}
		items = append(items, Item[string]{Task: &Task[string]{}, Spec: s, Val: "in"})
	}
	n, waits := p.m.Submit(&p.out, machine.Who{Session: w.session(), Req: p.req}, How{Wait: w.has("wait"), Watch: true}, items)
	switch {
	case waits:
		fmt.Fprintf(p.to, "\t%d taken, the others wait as %d\n", n, p.req)
	case n < len(items):
		fmt.Fprintf(p.to, "\t%d taken, then it is full\n", n)
	}
}

func (p *player) done(verb string, w operation) {
	t := p.m.Find(w.words[1])
	l := Lease{Number: t.Number, Epoch: t.Epoch}
	if verb == "stale" {
		l.Epoch--
	}
	outcomes := map[string]Outcome{"ok": OK, "clean": Clean, "dirty": Dirty, "never": NeverRan, "unknown": Unknown}
	r := Report[string]{Lease: l, Outcome: outcomes[w.words[2]], Permanent: w.has("permanent"), After: w.num("after"), Val: "out"}
	if r.Outcome != OK {
		r.Message, r.Val = "it failed", "error"
	}
	if n := p.m.Done(&p.out, w.session(), []Report[string]{r}); n > 0 {
		fmt.Fprintf(p.to, "\t%d stale\n", n)
	}
}

func (p *player) show(t *Task[string]) {
	if t == nil {
		fmt.Fprintf(p.to, "\tunknown\n")
		return
	}
	fmt.Fprintf(p.to, "\t%s: outcome %d, cause %d, attempts %d, lease %d, value %q, since %d", t.Word(), t.Outcome, t.Cause, t.Attempts, t.Epoch, t.Val, t.Since)
	if v, ok := t.Failure(); ok {
		fmt.Fprintf(p.to, ", failure %q", v)
	}
	if r := t.Reason(); r != "" {
		fmt.Fprintf(p.to, ", parked %s", r)
	}
	fmt.Fprintln(p.to)
	for _, a := range t.History() {
		fmt.Fprintf(p.to, "\t  at %s from %d to %d: outcome %d, lost %v, %q\n", letter(a.Worker), a.Began, a.Ended, a.Outcome, a.Lost, a.Message)
	}
}

func (p *player) effect(e *Effect[string]) string {
	s := ""
	if e.To.Session != 0 {
		s = letter(e.To.Session)
	}
	if e.To.Req != 0 {
		s += fmt.Sprintf(" (%d)", e.To.Req)
	}
	switch e.Code {
	case Run:
		return fmt.Sprintf("%s: run %s, lease %d", s, e.Task.ID, e.Lease.Epoch)
	case Recall:
		return fmt.Sprintf("%s: recall %s", s, e.Task.ID)
	case Stop:
		return fmt.Sprintf("%s: stop %s", s, e.Task.ID)
	case Finished:
		return fmt.Sprintf("%s: %s is %s, outcome %d, cause %d", s, e.Task.ID, e.Task.Word(), e.Task.Outcome, e.Task.Cause)
	case Advanced:
		done, total := e.Task.Progress()
		return fmt.Sprintf("%s: %s did %d of %d", s, e.Task.ID, done, total)
	case Accepted:
		return s + ": accepted"
	case Refused:
		return fmt.Sprintf("%s: %s refused: %v", s, e.Text, e.Why)
	case Next:
		return fmt.Sprintf("asked for the time of %s (%s) after %d", e.Schedule.Name, e.Schedule.Text, e.Time)
	case BatchEnd:
		return fmt.Sprintf("%s: batch %s has ended, %d ok, %d failed", s, e.Text, e.OK, e.Failed)
	}
	return fmt.Sprintf("%s: %+v", s, e)
}
