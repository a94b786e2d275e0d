package greedy

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/locks"
)

// A world is one hub and its nodes, with the messages between them, and the
// goroutines that run short programs:
//
//	w r    Lock for writing, reading      u  Unlock      d  Downgrade
//	t q    Try the same; if refused, go on behind the next u
//	c      take one: while there is none, Wait; after a timeout only look once more
//	p a    put one and notify one; put two and notify all
//
// What is put and taken travels with the operations, as D7 says, so that the
// next holder sees it and a dead node's unsent part never was.
type world struct {
	cfg    *config
	hub    *locks.Lock
	next   uint64
	items  int // at the hub
	nodes  []node
	writer Token // highest acquired
	all    Token // highest acquired, readers too
	kills  int
	gives  int
	gones  int

	overtaken [8][8]int // grants of the hub to the second while the first has its place
}

type config struct {
	programs [][]string // by node, by goroutine; ending in * : each wait may be abandoned
	turn     uint8
	kills    int  // sessions that may end
	gives    int  // times that an idle grant is given back by its node
	gones    int  // times that the lock is destroyed
	back     bool // a node whose session ended comes back with a new one and begins anew
}

type node struct {
	session machine.Session
	l       Lock
	procs   []proc
	up      []message
	down    []machine.Effect[machine.None]
	dead    bool
	expired bool

	bound  bool // the grant was asked back, or is contended
	budget int  // how many goroutines it may still serve then
	run    bool // of readers, in the event that is happening
}

type message struct {
	op    locks.Op
	items int // a change, which comes with an operation or alone
}

type proc struct {
	w         *Waiter
	pc        int
	token     Token
	mode      Mode
	cancelled bool // its wait was abandoned, once in its life
	ended     bool // lost or gone
}

func newWorld(c *config) *world {
	w := &world{cfg: c, hub: &locks.Lock{}, next: 10, kills: c.kills, gives: c.gives, gones: c.gones}
	for _, ps := range c.programs {
		n := node{session: machine.Session(len(w.nodes) + 1), l: Lock{Turn: c.turn}}
		for i := range ps {
			n.procs = append(n.procs, proc{w: &Waiter{By: i}})
		}
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *world) program(n, p int) string { return strings.TrimSuffix(w.cfg.programs[n][p], "*") }

// clone also takes the hub over: its state goes through bytes.
func (w *world) clone() *world {
	c := *w
	hub, err := locks.Parse(w.hub.AppendBinary(nil))
	if err != nil {
		panic(fmt.Sprintf("%v: %+v", err, w.hub.Info()))
	}
	c.hub = hub
	c.nodes = slices.Clone(w.nodes)
	for i := range c.nodes {
		n := &c.nodes[i]
		n.up, n.down, n.procs = slices.Clone(n.up), slices.Clone(n.down), slices.Clone(n.procs)
		for j := range n.procs {
			cp := *n.procs[j].w
			cp.prev, cp.next = nil, nil
			n.procs[j].w = &cp
		}
		n.l.readers, n.l.lost = slices.Clone(n.l.readers), slices.Clone(n.l.lost)
		for _, q := range []*list{&n.l.queue, &n.l.waits} {
			old := q.first
			*q = list{}
			for ; old != nil; old = old.next {
				q.push(n.procs[old.By.(int)].w)
			}
		}
	}
	return &c
}

// An event is something that may happen next.
type event struct {
	kind string // step, abandon, up, down, kill, expire, back, give, gone
	n, p int
}

func (e event) String() string { return fmt.Sprintf("%s %d.%d", e.kind, e.n, e.p) }

func (w *world) events() []event {
	var es []event
	for i := range w.nodes {
		n := &w.nodes[i]
		if len(n.up) > 0 && !n.expired {
			es = append(es, event{"up", i, 0})
		}
		if n.dead {
			if !n.expired {
				es = append(es, event{"expire", i, 0})
			} else if w.cfg.back {
				es = append(es, event{"back", i, 0})
			}
			continue
		}
		if len(n.down) > 0 {
			es = append(es, event{"down", i, 0})
		}
		for j := range n.procs {
			p := &n.procs[j]
			switch {
			case p.ended || p.pc >= len(w.program(i, j)):
			case p.w.State == Queued || p.w.State == Parked:
				if !p.cancelled && strings.HasSuffix(w.cfg.programs[i][j], "*") {
					es = append(es, event{"abandon", i, j})
				}
			default:
				es = append(es, event{"step", i, j})
			}
		}
		if w.kills > 0 {
			es = append(es, event{"kill", i, 0})
		}
		if w.gives > 0 && n.l.grant != 0 && n.l.writer == 0 && len(n.l.readers) == 0 && n.l.queue.first == nil {
			es = append(es, event{"give", i, 0})
		}
	}
	if w.gones > 0 {
		es = append(es, event{"gone", 0, 0})
	}
	return es
}

// do lets an event happen; the error is a broken promise.
func (w *world) do(e event) error {
	n := &w.nodes[e.n]
	n.run = false
	var out Out
	var err error
	var told locks.Out
	at := locks.At{Next: func() uint64 { w.next++; return w.next }}
	who := machine.Who{Session: n.session}
	switch e.kind {
	case "step":
		err = w.step(n, e.n, e.p, &out)
	case "abandon":
		p := &n.procs[e.p]
		p.cancelled = true
		if n.l.Abandon(p.w, &out) {
			p.w.Reset()
			p.pc = skip(w.program(e.n, e.p), p.pc)
		}
	case "up":
		m := n.up[0]
		n.up = n.up[1:]
		w.items += m.items
		if m.op.Verb != 0 {
			w.hub.Do(&told, who, at, m.op)
		}
	case "down":
		f := n.down[0]
		n.down = n.down[1:]
		switch {
		case f.Code == machine.Granted:
			n.bound, n.budget = f.Aux&locks.AuxContended != 0, max(1, int(w.cfg.turn))
		case f.Code == machine.Recall && f.Aux == 0 && f.Num == n.l.grant:
			n.bound, n.budget = true, 0
		}
		n.l.Told(f, &out)
	case "kill":
		w.kills--
		n.dead, n.down = true, nil
		n.l.Lose(&out)
		out.Ops = nil
	case "expire":
		n.expired, n.up = true, nil
		w.hub.Expire(&told, at, who.Session)
	case "back":
		n.dead, n.expired, n.bound = false, false, false
		n.session += 8
		for j := range n.procs {
			n.procs[j] = proc{w: &Waiter{By: j}}
		}
	case "give":
		w.gives--
		if !n.l.GiveBack(&out) {
			err = fmt.Errorf("an idle grant was not given back")
		}
	case "gone":
		w.gones--
		w.hub.Destroy(&told)
	}
	for _, f := range told.Effects {
		i := int(f.To.Session-1) % 8
		if f.To.Session != w.nodes[i].session {
			return fmt.Errorf("%v is told to a session that is over", f)
		}
		if !w.nodes[i].dead {
			w.nodes[i].down = append(w.nodes[i].down, f)
		}
		if f.Code == machine.Granted {
			if err == nil {
				err = w.overtake(i)
			}
		}
	}
	w.places()
	if e2 := w.after(e.n, &out); err == nil {
		err = e2
	}
	return err
}

// overtake counts the grants that pass those who have a place.
func (w *world) overtake(to int) error {
	for i := range w.nodes {
		w.overtaken[to][i] = 0
	}
	for _, q := range w.hub.Info().Queue {
		i := int(q.Session-1) % 8
		if w.overtaken[i][to]++; w.overtaken[i][to] > 1 {
			return fmt.Errorf("node %d was granted the lock twice while node %d had its place", to, i)
		}
	}
	return nil
}

// places forgets the counts of those who have no place.
func (w *world) places() {
	var has [8]bool
	for _, q := range w.hub.Info().Queue {
		has[(q.Session-1)%8] = true
	}
	for i := range has {
		if !has[i] {
			w.overtaken[i] = [8]int{}
		}
	}
}

func skip(program string, pc int) int {
	for pc < len(program) && program[pc] != 'u' {
		pc++
	}
	return pc + 1
}

func (w *world) step(n *node, i, j int, out *Out) error {
	p := &n.procs[j]
	program := w.program(i, j)
	switch c := program[p.pc]; c {
	case 'w', 'r', 't', 'q':
		m := Write
		if c == 'r' || c == 'q' {
			m = Read
		}
		if t, ok := n.l.Acquire(m); ok {
			return w.acquired(i, j, t, m)
		}
		p.w.Mode, p.w.Try = m, c == 't' || c == 'q'
		n.l.Enqueue(p.w, out)
	case 'u':
		if err := n.l.Unlock(p.token, out); err != nil {
			return err
		}
		p.token, p.mode = 0, 0
		p.pc++
	case 'd':
		p.mode = Read
		p.pc++
		return n.l.Downgrade(p.token, out)
	case 'c':
		have := w.items
		for _, m := range n.up {
			have += m.items
		}
		if have > 0 {
			n.up = append(n.up, message{items: -1})
			p.pc++
			return nil
		}
		if p.cancelled && strings.HasSuffix(w.cfg.programs[i][j], "*") {
			p.pc++ // it timed out, and there is nothing
			return nil
		}
		t := p.token
		p.token, p.mode = 0, 0
		return n.l.Wait(t, 7, p.w, out)
	case 'p':
		p.pc++
		return w.put(n, 1, n.l.Notify(p.token, 7, 1, out), out)
	case 'a':
		p.pc++
		return w.put(n, 2, n.l.Notify(p.token, 7, -1, out), out)
	}
	return nil
}

// put sends a notification together with what it is about: a node that dies
// between the two has lost it in any system.
func (w *world) put(n *node, items int, err error, out *Out) error {
	if err == nil {
		n.up = append(n.up, message{op: out.Ops[0], items: items})
		out.Ops = out.Ops[1:]
	}
	return err
}

// after sends and tells what a node's machine wants, and checks it.
func (w *world) after(i int, out *Out) error {
	n := &w.nodes[i]
	if !n.dead {
		for _, op := range out.Ops {
			n.up = append(n.up, message{op: op})
		}
	}
	for _, t := range out.Ended {
		for j := range n.procs {
			if p := &n.procs[j]; p.token == t {
				p.token, p.mode, p.ended = 0, 0, true
				if err := n.l.Unlock(t, &Out{}); err != ErrLost { //nolint:errorlint // the very error
					return fmt.Errorf("a lost lock is unlocked: %w", err)
				}
			}
		}
	}
	for _, x := range out.Tell {
		j := x.By.(int)
		p := &n.procs[j]
		s, t, m, notified := x.State, x.Token, x.Mode, x.Notified
		parked := x.resumes
		x.Reset()
		switch s {
		case Held:
			if parked {
				p.pc-- // the c is looked at again
				if notified {
					p.cancelled = false
				}
			}
			if err := w.acquired(i, j, t, m); err != nil {
				return err
			}
		case Refused:
			p.pc = skip(w.program(i, j), p.pc)
		case Lost, Gone:
			p.ended = true
		default:
			return fmt.Errorf("told %d", s)
		}
	}
	return nil
}

// acquired checks mutual exclusion and tokens.
func (w *world) acquired(i, j int, t Token, m Mode) error {
	n := &w.nodes[i]
	p := &n.procs[j]
	p.token, p.mode = t, m
	p.pc++
	if n.bound && !(n.run && m == Read) {
		if n.budget--; n.budget < 0 {
			return fmt.Errorf("%d.%d gets it for %v, and it was asked back", i, j, m)
		}
	}
	n.run = m == Read
	if w.destroyed(t) {
		return nil
	}
	for a := range w.nodes {
		for b := range w.nodes[a].procs {
			o := w.nodes[a].procs[b]
			if o.token != 0 && o.token != t && !w.destroyed(o.token) && (o.mode == Write || m == Write) {
				return fmt.Errorf("%d.%d has it for %v under %d, %d.%d gets it for %v under %d", a, b, o.mode, o.token, i, j, m, t)
			}
		}
	}
	if t <= w.writer || m == Write && t <= w.all {
		return fmt.Errorf("token %d after %d, %d", t, w.writer, w.all)
	}
	if w.all = max(w.all, t); m == Write {
		w.writer = t
	}
	return nil
}

// destroyed reports that the lock that is held under t was destroyed, and its
// holder is being told.
func (w *world) destroyed(t Token) bool {
	return w.cfg.gones > w.gones && !slices.ContainsFunc(w.hub.Info().Holders, func(h locks.Holder) bool { return h.Token == t.Grant() })
}

// settled checks a state in which nothing can happen any more.
func (w *world) settled() error {
	for i := range w.nodes {
		n := &w.nodes[i]
		if n.dead {
			continue
		}
		for j := range n.procs {
			p := &n.procs[j]
			switch {
			case p.ended || p.pc >= len(w.program(i, j)):
			case p.w.State == Parked && (w.items <= 0 || w.cfg.gones > w.gones): // what a destroyed lock protected is nobody's
			default:
				return fmt.Errorf("%d.%d is stuck at %q %d, state %d, %d items", i, j, w.program(i, j), p.pc, p.w.State, w.items)
			}
		}
		if n.l.pending || n.l.leaving || n.l.queue.first != nil {
			return fmt.Errorf("node %d waits for an answer: %+v", i, n.l)
		}
	}
	in := w.hub.Info()
	if len(in.Queue) > 0 {
		return fmt.Errorf("the hub has a queue: %+v", in)
	}
	for _, h := range in.Holders {
		if n := &w.nodes[(h.Session-1)%8]; n.dead || n.session != h.Session || n.l.grant != h.Token || n.l.mode != h.Mode {
			return fmt.Errorf("the hub has the holder %+v", h)
		}
	}
	for _, x := range in.Waiters {
		if x.Notified {
			return fmt.Errorf("notified, and did not run: %+v", x)
		}
	}
	return nil
}

// key is equal for worlds that go on in the same way: tokens are replaced by
// their rank among those that are alive.
func (w *world) key() string {
	var live []uint64
	in := w.hub.Info()
	for _, h := range in.Holders {
		live = append(live, h.Token)
	}
	for i := range w.nodes {
		n := &w.nodes[i]
		live = append(live, n.l.grant)
		for _, m := range n.up {
			live = append(live, m.op.Token)
		}
		for _, e := range n.down {
			if e.Code == machine.Granted || e.Code == machine.Recall {
				live = append(live, e.Num)
			}
		}
	}
	slices.Sort(live)
	live = slices.Compact(live)
	b := make([]byte, 0, 256)
	num := func(v uint64) { b = binary.AppendUvarint(b, v) }
	token := func(v uint64) {
		r, ok := slices.BinarySearch(live, v)
		if !ok {
			r = 255
		}
		num(uint64(r))
	}
	flag := func(vs ...bool) {
		var f uint64
		for i, v := range vs {
			if v {
				f |= 1 << i
			}
		}
		num(f)
	}
	num(uint64(w.items + 20))
	num(uint64(w.kills | w.gives<<2 | w.gones<<4))
	num(uint64(len(in.Holders)))
	for _, h := range in.Holders {
		num(uint64(h.Session))
		token(h.Token)
		num(uint64(h.Mode))
		flag(h.Recalled, h.Asked)
	}
	num(uint64(len(in.Queue)))
	for _, q := range in.Queue {
		num(uint64(q.Session))
		num(uint64(q.Mode))
		flag(q.Try)
	}
	num(uint64(len(in.Waiters)))
	for _, x := range in.Waiters {
		num(uint64(x.Session))
		num(x.Ticket)
		flag(x.Notified)
	}
	for i := range w.nodes {
		n := &w.nodes[i]
		flag(n.dead, n.expired, n.l.recalled, n.l.pending, n.l.leaving, n.l.writer != 0)
		if n.expired {
			continue
		}
		token(n.l.grant)
		num(uint64(n.l.mode))
		num(uint64(n.l.turn))
		num(uint64(len(n.l.readers)))
		num(uint64(n.l.tickets))
		for _, q := range []*list{&n.l.queue, &n.l.waits} {
			for x := q.first; x != nil; x = x.next {
				num(uint64(x.By.(int)) + 1)
			}
			num(0)
		}
		for j := range n.procs {
			p := &n.procs[j]
			num(uint64(p.pc))
			num(uint64(p.mode))
			num(uint64(p.w.State)<<2 | uint64(p.w.Mode))
			flag(p.cancelled, p.ended, p.token != 0, p.w.Try, p.w.Notified, p.w.resumes, p.w.cancelled)
			num(p.w.ticket)
		}
		num(uint64(len(n.up)))
		for _, m := range n.up {
			num(uint64(m.op.Verb)<<4 | uint64(m.op.Mode)<<1)
			flag(m.op.Try)
			num(uint64(m.items + 5))
			token(m.op.Token)
			num(m.op.Ticket)
		}
		num(uint64(len(n.down)))
		for _, e := range n.down {
			num(uint64(e.Code))
			num(e.Aux)
			if e.Code == machine.Granted || e.Code == machine.Recall {
				token(e.Num)
			} else if e.Code != machine.Stale {
				num(e.Num)
			}
		}
	}
	return string(b)
}
