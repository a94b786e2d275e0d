package greedy

import (
	"bytes"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/locks"
	"github.com/distgear/distgear/internal/machine/transcript"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expectations in testdata")

// TestTranscripts runs testdata/*.txt: what goroutines do and what the hub
// tells, each followed by what comes of it, indented. A token is written as
// grant.count.
func TestTranscripts(t *testing.T) {
	transcript.Run(t, *rewrite, begin)
}

type player struct {
	l     Lock
	names map[string]*Waiter
	out   Out
	text  *bytes.Buffer
}

func begin(out *bytes.Buffer) transcript.Operation {
	return (&player{names: map[string]*Waiter{}, text: out}).do
}

func (p *player) say(format string, args ...any) {
	fmt.Fprintf(p.text, "\t"+format+"\n", args...)
}

func (p *player) waiter(name string) *Waiter {
	if p.names[name] == nil {
		p.names[name] = &Waiter{By: name}
	}
	return p.names[name]
}

func (p *player) do(f []string) error {
	num := func(i int) int {
		if i >= len(f) {
			return 0
		}
		n, _ := strconv.Atoi(f[i]) // a word is a flag
		return n
	}
	has := func(s string) bool { return strings.Contains(strings.Join(f[1:], " ")+" ", s+" ") }
	mode := Read
	if has("write") {
		mode = Write
	}
	var w *Waiter
	if len(f) > 1 {
		w = p.waiter(f[1])
	}
	var err error
	switch f[0] {
	case "alone":
		p.l = Alone(uint64(num(1)))
	case "turn":
		p.l.Turn = uint8(num(1))
	case "spend":
		p.l.use = p.l.limit - 1
	case "lock":
		w.Reset()
		if t, ok := p.l.Acquire(mode); ok {
			w.Token, w.State, w.Mode = t, Held, mode
			p.say("%s: held %s at once", f[1], show(t))
			break
		}
		w.Mode, w.Try = mode, has("try")
		p.l.Enqueue(w, &p.out)
	case "check":
		err = p.l.Check(w.Token, mode)
	case "unlock":
		err = p.l.Unlock(w.Token, &p.out)
	case "downgrade":
		err = p.l.Downgrade(w.Token, &p.out)
	case "wait":
		t := w.Token
		if p.l.monitor(t) == nil {
			w.Reset()
		}
		err = p.l.Wait(t, uint32(num(2)), w, &p.out)
	case "notify":
		err = p.l.Notify(w.Token, uint32(num(2)), num(3), &p.out)
	case "abandon":
		p.say("left: %v", p.l.Abandon(w, &p.out))
	case "giveback":
		p.say("gave back: %v", p.l.GiveBack(&p.out))
	case "lose":
		p.l.Lose(&p.out)
	case "idle":
		holding, queued, parked := p.l.Counts()
		p.say("idle: %v, %d hold, %d queued, %d parked", p.l.Idle(), holding, queued, parked)
	case "told":
		e := machine.Effect[machine.None]{Num: uint64(num(2))}
		codes := map[string]machine.Code{"granted": machine.Granted, "recall": machine.Recall, "refused": machine.Refused,
			"wake": machine.Wake, "ok": machine.OK, "stale": machine.Stale, "gone": machine.Gone}
		e.Code = codes[f[1]]
		for s, bit := range map[string]uint64{"write": locks.AuxWrite, "contended": locks.AuxContended, "try": locks.AuxTry, "place": locks.AuxPlace} {
			if has(s) {
				e.Aux |= bit
			}
		}
		p.l.Told(e, &p.out)
	default:
		return fmt.Errorf("no such operation")
	}
	if err != nil {
		p.say("%v", err)
	}
	for _, op := range p.out.Ops {
		p.say("hub: %s", showOp(op))
	}
	for _, t := range p.out.Ended {
		p.say("ended %s", show(t))
	}
	for _, w := range p.out.Tell {
		s := [...]string{"fresh", "queued", "parked", "held", "refused", "abandoned", "lost", "gone"}[w.State]
		if w.State == Held {
			s += " " + show(w.Token)
		}
		if w.Notified {
			s += " notified"
		}
		p.say("%s: %s", w.By, s)
	}
	p.out.Reset()
	return nil
}

func show(t Token) string { return fmt.Sprintf("%d.%d", t.Grant(), uint64(t)%Uses) }

func showOp(op locks.Op) string {
	s := [...]string{"", "want", "abandon", "release", "busy", "downgrade", "wait", "notify", "cancel wait", "resume"}[op.Verb]
	if op.Token != 0 {
		s += fmt.Sprintf(" %d", op.Token)
	}
	if op.Mode != 0 {
		s += " " + op.Mode.String()
	}
	if op.Try {
		s += " try"
	}
	if op.Cond != 0 {
		s += fmt.Sprintf(" on %d", op.Cond)
	}
	if op.Ticket != 0 {
		s += fmt.Sprintf(" ticket %d", op.Ticket)
	}
	if op.N != 0 {
		s += fmt.Sprintf(" n %d", op.N)
	}
	return s
}
