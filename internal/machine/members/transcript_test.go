package members

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/machine/transcript"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expectations in testdata")

var epoch = time.UnixMilli(1_700_000_000_000).UTC()

// TestTranscripts runs testdata/*.txt: operations, each followed by what it
// is expected to print, indented. Lives are small numbers; incarnations are
// written as what they exceed the epoch by.
func TestTranscripts(t *testing.T) {
	transcript.Run(t, *rewrite, begin)
}

type player struct {
	m   *Machine
	now time.Time
	out *bytes.Buffer

	told map[uint64]uint64 // sessions whose end a beating node was told, once
}

func begin(out *bytes.Buffer) transcript.Operation {
	p := &player{now: epoch, out: out, told: make(map[uint64]uint64)}
	p.m = New(Config{TTL: time.Second, Keep: 10 * time.Second, Init: 5 * time.Second}, p.now)
	return p.do
}

func (p *player) do(f []string) error {
	opts := make(map[string]string)
	var args []string
	for _, s := range f[1:] {
		if k, v, ok := strings.Cut(s, "="); ok {
			opts[k] = v
		} else {
			args = append(args, s)
		}
	}
	list := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ",")
	}
	life := func(i int) uint64 {
		if i >= len(args) {
			return 0
		}
		n, _ := strconv.ParseUint(args[i], 10, 64)
		return n
	}
	// The incarnation of the life meant, unless an old one is asked for.
	inc := func() uint64 {
		if s := opts["inc"]; s != "" {
			n, _ := strconv.ParseUint(s, 10, 64)
			return n + uint64(epoch.UnixMilli())
		}
		m, _ := p.m.Member(life(0))
		return m.Incarnation
	}
	var effects []Effect
	var err error
	switch f[0] {
	case "join":
		q := Request{Name: args[0], Life: life(1), Kinds: list(opts["kinds"]), Resume: opts["resume"] != "", Rev: 1}
		if opts["load"] != "" {
			q.Load.InFlight, _ = strconv.Atoi(opts["load"])
		}
		for _, k := range list(opts["known"]) {
			name, l, _ := strings.Cut(k, ":")
			n, _ := strconv.ParseUint(l, 10, 64)
			kinds := []string{KindLost}
			if name == "h" {
				kinds = []string{KindJoin}
			}
			q.Known = append(q.Known, Member{Name: name, Life: n, Incarnation: uint64(epoch.UnixMilli()) - 100 + n, State: Alive, Kinds: kinds})
		}
		_, effects, err = p.m.Join(p.now, q)
	case "beat":
		var l Load
		l.InFlight, _ = strconv.Atoi(opts["load"])
		_, effects, err = p.m.Beat(p.now, life(0), inc(), l)
	case "kinds":
		rev, _ := strconv.ParseUint(opts["rev"], 10, 64)
		_, effects, err = p.m.SetKinds(p.now, life(0), inc(), list(opts["kinds"]), rev)
	case "leave":
		effects = p.m.Leave(p.now, life(0), inc())
	case "admit":
		effects = p.m.Admit(p.now, life(0), inc(), life(1))
	case "refuse":
		effects = p.m.Refuse(p.now, life(0), inc(), life(1), "not welcome")
	case "initfailed":
		effects = p.m.InitFailed(p.now, life(0), inc(), life(1))
	case "losstold":
		effects = p.m.LossTold(p.now, life(0), inc())
	case "lossfailed":
		effects = p.m.LossFailed(p.now, life(0), inc(), life(1))
	case "stall": // time passes and nobody looks
		d, perr := time.ParseDuration(args[0])
		if perr != nil {
			return perr
		}
		p.now = p.now.Add(d)
		effects = p.m.Tick(p.now)
	case "wait": // time passes, with ticks and the beats of those named
		d, perr := time.ParseDuration(args[0])
		if perr != nil {
			return perr
		}
		for end := p.now.Add(d); p.now.Before(end); {
			p.now = p.now.Add(100 * time.Millisecond)
			for _, s := range list(opts["beating"]) {
				l, _ := strconv.ParseUint(s, 10, 64)
				m, _ := p.m.Member(l)
				_, e, err := p.m.Beat(p.now, l, m.Incarnation, m.Load)
				if err != nil && m.State.Over() && p.told[l] != m.Incarnation {
					p.told[l] = m.Incarnation
					p.print(nil, err)
				}
				p.print(e, nil)
			}
			p.print(p.m.Tick(p.now), nil)
		}
	case "view":
		v, all := p.m.Snapshot()
		fmt.Fprintf(p.out, "\tversion %d\n", v-uint64(epoch.UnixMilli()))
		for _, m := range all {
			fmt.Fprintf(p.out, "\t%s\n", show(m))
		}
	case "loads":
		all := p.m.Loads()
		for _, l := range slices.Sorted(maps.Keys(all)) {
			fmt.Fprintf(p.out, "\tlife %d: %d in flight\n", l, all[l].InFlight)
		}
	default:
		return fmt.Errorf("no such operation")
	}
	p.print(effects, err)
	return nil
}

func (p *player) print(effects []Effect, err error) {
	if err != nil {
		fmt.Fprintf(p.out, "\terror: %v\n", err)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case Changed:
			drop := ""
			if e.Dropped {
				drop = " dropped"
			}
			fmt.Fprintf(p.out, "\t%4dms view %d: %s%s\n", p.now.Sub(epoch).Milliseconds(), e.Version-uint64(epoch.UnixMilli()), show(e.Member), drop)
		case NeedInit:
			fmt.Fprintf(p.out, "\t%4dms init %s life %d on %s\n", p.now.Sub(epoch).Milliseconds(), e.Member.Name, e.Member.Life, e.Handler.Name)
		case RaiseLost:
			fmt.Fprintf(p.out, "\t%4dms tell the loss of %s life %d to %s\n", p.now.Sub(epoch).Milliseconds(), e.Member.Name, e.Member.Life, e.Handler.Name)
		}
	}
}

func show(m Member) string {
	s := fmt.Sprintf("%s life %d incarnation %d %v", m.Name, m.Life, int64(m.Incarnation)-epoch.UnixMilli(), m.State)
	if m.Kinds != nil {
		s += fmt.Sprintf(" %v", m.Kinds)
	}
	if m.Reason != "" {
		s += " (" + m.Reason + ")"
	}
	return s
}
