package locks

import (
	"bytes"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/transcript"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expectations in testdata")

// TestTranscripts runs testdata/*.txt: operations, each followed by what it
// is expected to tell, indented. Sessions are letters; a token that is not
// named is the one that the session holds. After each operation the state goes
// through bytes.
func TestTranscripts(t *testing.T) {
	transcript.Run(t, *rewrite, begin)
}

type player struct {
	l   *Lock
	at  At
	req uint64
	out *bytes.Buffer
}

func newPlayer(out *bytes.Buffer) *player {
	token := uint64(100)
	return &player{l: &Lock{}, at: At{Next: func() uint64 { token++; return token }}, out: out}
}

func begin(out *bytes.Buffer) transcript.Operation { return newPlayer(out).do }

func (p *player) do(f []string) error {
	n := map[string]uint64{}
	var words []string
	for _, s := range f[1:] {
		if k, v, ok := strings.Cut(s, "="); ok {
			i, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return err
			}
			n[k] = uint64(i)
		} else {
			words = append(words, s)
		}
	}
	var out Out
	op := Op{Token: n["token"], Cond: uint32(n["cond"]), Ticket: n["ticket"], N: 1}
	if v, ok := n["n"]; ok {
		op.N = int32(v)
	}
	verbs := map[string]Verb{
		"want": DoWant, "abandon": DoAbandon, "release": DoRelease, "busy": DoBusy, "downgrade": DoDowngrade,
		"wait": DoWait, "notify": DoNotify, "cancelwait": DoCancelWait, "resume": DoResume, "nonsense": 99,
	}
	switch f[0] {
	case "expire":
		p.l.Expire(&out, p.at, session(words[0]))
	case "destroy":
		p.l.Destroy(&out)
	case "tick":
		p.at.Now += 1000
	case "info":
		p.info()
	default:
		v, ok := verbs[f[0]]
		if !ok {
			return fmt.Errorf("no such operation")
		}
		op.Verb = v
		who := machine.Who{Session: session(words[0])}
		p.req++
		who.Req = p.req
		if i := p.l.holdOf(who.Session); i >= 0 && op.Token == 0 {
			op.Token = p.l.holds[i].token
		}
		for _, s := range words[1:] {
			switch s {
			case "read":
				op.Mode = Read
			case "write":
				op.Mode = Write
			case "try":
				op.Try = true
			case "wrong":
				op.Mode = 3
			default:
				return fmt.Errorf("what is %s", s)
			}
		}
		p.l.Do(&out, who, p.at, op)
	}
	for _, e := range out.Effects {
		fmt.Fprintf(p.out, "\t%s\n", effect(e))
	}
	if s := p.l.fault(); s != "" {
		return fmt.Errorf("%s: %+v", s, p.l.Info())
	}
	b := p.l.AppendBinary(nil)
	l, err := Parse(b)
	if err != nil {
		return err
	}
	if !bytes.Equal(l.AppendBinary(nil), b) {
		return fmt.Errorf("the state does not survive: %+v, %+v", p.l, l)
	}
	p.l = l
	return nil
}

func (p *player) info() {
	in := p.l.Info()
	fmt.Fprintf(p.out, "\tidle %v, contentions %d\n", p.l.Idle(), in.Contentions)
	for _, h := range in.Holders {
		fmt.Fprintf(p.out, "\tholds %s %v %d since %d recalled %v asked %v\n", letter(h.Session), h.Mode, h.Token, h.Since, h.Recalled, h.Asked)
	}
	for _, w := range in.Queue {
		fmt.Fprintf(p.out, "\twants %s %v try %v since %d\n", letter(w.Session), w.Mode, w.Try, w.Since)
	}
	for _, w := range in.Waiters {
		fmt.Fprintf(p.out, "\twaits %s %d on %d since %d notified %v\n", letter(w.Session), w.Ticket, w.Cond, w.Since, w.Notified)
	}
}

func session(s string) machine.Session { return machine.Session(s[0] - 'a' + 1) }

func letter(s machine.Session) string { return string(rune('a' + s - 1)) }

func effect(e machine.Effect[machine.None]) string {
	s := letter(e.To.Session)
	if e.To.Req != 0 {
		s += fmt.Sprintf(" (%d)", e.To.Req)
	}
	switch e.Code {
	case machine.Granted:
		s += fmt.Sprintf(": granted %d", e.Num)
		if e.Aux&AuxWrite != 0 {
			s += " write"
		} else {
			s += " read"
		}
		if e.Aux&AuxContended != 0 {
			s += " contended"
		}
	case machine.Recall:
		s += fmt.Sprintf(": recall %d", e.Num)
		if e.Aux&AuxTry != 0 {
			s += " try"
		}
	case machine.Refused:
		s += ": refused"
		if e.Aux&AuxPlace != 0 {
			s += ", keeps its place"
		}
	case machine.Wake:
		s += fmt.Sprintf(": wake %d on %d", e.Num, e.Aux)
	case machine.OK:
		s += fmt.Sprintf(": ok %d", e.Num)
	case machine.Stale:
		s += fmt.Sprintf(": stale %d", e.Num)
	case machine.Gone:
		s += ": gone"
	case machine.Invalid:
		s += ": invalid"
	default:
		s += fmt.Sprintf(": %+v", e)
	}
	return s
}
