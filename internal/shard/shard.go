// Package shard is the state of one ledger: the sessions of nodes, the shared
// objects by name, and what is to be told to whom. It is pure: entries in,
// frames out.
//
//	s := shard.New(shard.Config{Send: publish})
//	s.Apply(now, entry)   // an entry of the log, or of a round that is on its way to it
//	r := s.Cut()          // at the writer: what the entries since the last Cut tell
//	r.Release()           // once the round is in the log
//
// It implements the State of internal/ledger. A session's operations are
// numbered and applied in that order, each once; what the session is told is
// numbered too and kept until it is acknowledged (docs/adr/0004).
//
// # Guarantees
//
// The state is a function of the entries and their times. Malformed entries
// change nothing and never panic: whoever sends them learns that its session is
// over, or that the operation is invalid.
//
// # Failures
//
// A session that leaves 32 MiB unacknowledged is told by no topic and no map any
// more that it watches, and hears so; one that leaves 64 MiB is expired.
package shard

import (
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/operation"
)

// Config says where frames go.
type Config struct {
	// Send publishes a frame for a session. It is called by Release only; the
	// frame is only lent.
	Send func(to machine.Session, frame []byte)
	// Deliver is called instead with each output, by Do, in a process that is
	// alone: there is one session, nothing is kept for it and nothing is encoded.
	Deliver func(o *operation.Output)
	// Works is told, at the writer, that a session works for executors now, or does
	// no more. Working tells how it is when it becomes the writer. Nil: nobody
	// wants to know.
	Works func(of machine.Session, works bool)
}

// Shard is the state. It is not safe for concurrent use.
type Shard struct {
	cfg      Config
	now      int64  // ledger ms
	token    uint64 // the last one given
	epoch    uint64 // of this writer; 0: a standby
	sessions map[machine.Session]*session
	names    map[string]*object
	floors   [operation.KEnd]uint64 // see kinds
	timed    map[*object]struct{}   // objects whose due is not 0
	due      int64                  // no object is due before; 0: none is
	drift    int64                  // what is to be added to now for the time of the hub; see EntryClock
	working  map[machine.Session]bool
	roster   members.Roster

	only  *session                  // see Do
	alone call                      // Do's, so that it needs no memory
	said  operation.Output          // scratch
	dirty []*session                // to be told something at the next Cut; none at a standby
	owing []*session                // to be confirmed to some time, by the time since when; owed 0: it was
	over  []machine.Session         // to be told so at the next Cut; none at a standby
	slow  []machine.Who             // scratch, see cutOff
	full  []*session                // that are to be ended, see Apply: some maybe more than once
	none  machine.Out[machine.None] // scratch
	vals  machine.Out[Value]        // scratch
}

type session struct {
	id      machine.Session
	name    string
	ttl     uint64 // ms
	stamp   uint64
	applied uint64 // number of the last operation
	out     outbox
	handles []*object // by handle-1; nil: free
	open    int       // objects that have it among their openers
	twice   int       // handles of objects that have another one
	owed    int64     // ledger ms since when a frame that only confirms is put off; 0: none is
	dirty   bool
	listed  bool // it is in owing
	prompt  bool // it asked: a frame that only confirms is not put off
	quiet   bool // its executors were told that it is
}

// object is a named machine.
type object struct {
	name string
	thing
	param uint64 // what it was created with: size, capacity, parties
	openers
	kind operation.Kind
	gone bool // destroyed
}

// call is an operation being applied.
type call struct {
	*Shard
	ses *session
	obj *object
	op  operation.Op
}

func (c *call) who() machine.Who { return machine.Who{Session: c.ses.id, Req: c.op.Req} }

// New returns an empty shard.
func New(cfg Config) *Shard {
	s := &Shard{cfg: cfg}
	s.reset()
	return s
}

func (s *Shard) reset() {
	*s = Shard{cfg: s.cfg, epoch: s.epoch,
		sessions: map[machine.Session]*session{}, names: map[string]*object{}, timed: map[*object]struct{}{}, working: map[machine.Session]bool{}}
}

// nextToken grows with every call, and with the ledger's time: so tokens grow
// also when a log was lost and begun again.
func (s *Shard) nextToken() uint64 {
	s.token = max(s.token+1, uint64(s.now)<<operation.TokenBits)
	return s.token
}

// Do applies one operation of the only session of a process that is alone. Its
// time is that of the last Apply, which objects with a time would not go by.
func (s *Shard) Do(op *operation.Op) {
	if s.only == nil {
		s.only = &session{id: 1}
		s.sessions[1] = s.only
	}
	s.alone = call{Shard: s, ses: s.only, op: *op}
	s.alone.apply()
	s.alone.op.X, s.said.X = nil, nil
}

// Apply applies one entry at ledger time now. No entry is a tick.
func (s *Shard) Apply(now int64, entry []byte) {
	s.take(now, entry)
	for len(s.full) > 0 {
		ses := s.full[0]
		s.full = s.full[1:]
		if s.sessions[ses.id] == ses {
			s.end(ses)
		}
	}
	s.full = nil
}

func (s *Shard) take(now int64, entry []byte) {
	s.now = max(s.now, now)
	if s.due != 0 && s.due <= s.now {
		s.tick()
	}
	if len(entry) == 0 {
		return
	}
	e, err := operation.ParseEntry(entry)
	if err != nil {
		return // nobody to tell: the head does not parse
	}
	ses := s.sessions[e.Session]
	switch e.Type {
	case operation.EntryOpen:
		if ses == nil {
			ses = &session{id: e.Session, name: string(e.Name), ttl: e.TTL}
			s.sessions[e.Session] = ses
		}
		ses.stamp = max(ses.stamp, e.Stamp)
		ses.prompt = true
		s.soil(ses)
	case operation.EntryExpire:
		if ses != nil {
			s.end(ses)
		}
	case operation.EntryMembers:
		s.decided(e.Decisions)
	case operation.EntryQuiet:
		if ses != nil {
			s.hush(ses, true)
		}
	case operation.EntryClock:
		s.clock(e.Stamp)
	case operation.EntryOps, operation.EntryAsk:
		if ses == nil {
			s.ended(e.Session)
			return
		}
		s.ops(ses, &e)
	}
}

func (s *Shard) ops(ses *session, e *operation.Entry) {
	ses.stamp = max(ses.stamp, e.Stamp)
	ses.out.ack(min(e.Ack, ses.out.last))
	if e.Type == operation.EntryAsk {
		ses.out.again()
		ses.prompt = true
	}
	s.soil(ses)
	if ses.quiet {
		s.hush(ses, false)
	}
	c := call{Shard: s, ses: ses}
	for n := e.First; e.Next(&c.op); n++ {
		if n <= ses.applied {
			continue // resent, and done already
		}
		if n != ses.applied+1 {
			return // something before it was lost; the session learns what was applied and sends it again
		}
		ses.applied = n
		c.apply()
	}
}

// soil notes that a session is to be told something. A standby tells nobody, and
// Lead notes them all.
func (s *Shard) soil(ses *session) {
	if !ses.dirty && s.epoch != 0 {
		ses.dirty = true
		s.dirty = append(s.dirty, ses)
	}
}

// ended notes that a session is to be told that it is over. Those that end while
// this is a standby hear it when they ask.
func (s *Shard) ended(id machine.Session) {
	if s.epoch != 0 && !slices.Contains(s.over, id) {
		s.over = append(s.over, id)
	}
}

func (c *call) apply() {
	if c.op.Verb == operation.VOpen {
		c.open()
		return
	}
	c.obj = c.ses.object(c.op.Handle)
	switch {
	case c.obj == nil:
		c.answer(machine.Invalid, 0, 0)
	case c.op.Verb == operation.VClose:
		c.closeHandle()
	case c.obj.gone:
		c.answer(machine.Gone, 0, 0)
	case c.op.Verb == operation.VAbandon:
		c.obj.abandon(c, machine.Who{Session: c.ses.id, Req: c.op.A})
		c.told()
	case c.op.Verb == operation.VDestroy:
		c.destroyObject()
		c.answer(machine.OK, 0, 0)
	case c.op.Verb.Kind() != c.obj.kind:
		c.answer(machine.Invalid, 0, 0)
	default:
		c.obj.apply(c)
		c.told()
		c.timing(c.obj)
	}
}

func (ses *session) object(handle uint64) *object {
	if handle == 0 || handle > uint64(len(ses.handles)) {
		return nil
	}
	return ses.handles[handle-1]
}

const maxHandles = 1 << 22 // objects that one session may have open

// open gives the object named Key the number Handle, which need not be the next:
// in a new session a node opens what it uses, under the numbers it has given. It
// creates the object with the kind A and the parameter B. Invalid tells that the
// name has another kind (Num) or parameter (Aux).
func (c *call) open() {
	h, name, kind := c.op.Handle, string(c.op.Key), operation.Kind(c.op.A)
	if h == 0 || h > maxHandles || c.ses.object(h) != nil || !kind.Known() || name == "" {
		c.answer(machine.Invalid, 0, 0)
		return
	}
	o := c.names[name]
	if o == nil {
		o = &object{name: name, kind: kind, param: c.op.B, thing: makers[kind](c.op.B, c.floors[kind])}
		c.names[name] = o
	} else if o.kind != kind || o.param != c.op.B {
		c.answer(machine.Invalid, uint64(o.kind), o.param)
		return
	}
	for uint64(len(c.ses.handles)) < h {
		c.ses.handles = append(c.ses.handles, nil)
	}
	c.ses.handles[h-1] = o
	if o.of(c.ses) == 0 {
		o.set(c.ses, h)
	} else {
		c.ses.twice++
	}
	c.answer(machine.OK, 0, 0)
	if x, ok := o.thing.(*executor); ok {
		c.obj = o
		x.opened(c)
	}
}

func (c *call) closeHandle() {
	o, h := c.obj, c.op.Handle
	c.ses.handles[h-1] = nil
	switch of := o.of(c.ses); {
	case of == h && c.ses.twice > 0 && slices.Contains(c.ses.handles, o): // it goes on under that number
		o.drop(c.ses)
		o.set(c.ses, uint64(slices.Index(c.ses.handles, o))+1)
		c.ses.twice--
	case of == h:
		if !o.gone {
			o.expire(c)
			c.told()
		}
		c.shut(o, c.ses)
	case of != 0:
		c.ses.twice--
	}
	c.answer(machine.OK, 0, 0)
}

// shut notes that a session has given an object up, and drops the object when
// nobody could notice.
func (s *Shard) shut(o *object, ses *session) {
	o.drop(ses)
	if o.count() == 0 && !o.gone && o.Idle() {
		s.remove(o)
	}
}

func (c *call) destroyObject() {
	c.obj.destroy(c)
	c.told()
	c.obj.gone = true
	c.remove(c.obj)
}

func (s *Shard) remove(o *object) {
	delete(s.names, o.name)
	delete(s.timed, o)
	s.floors[o.kind] = max(s.floors[o.kind], o.floor())
}

// end ends a session: what it held is free.
func (s *Shard) end(ses *session) {
	delete(s.sessions, ses.id)
	s.ended(ses.id)
	for _, o := range ses.handles {
		if o == nil || o.of(ses) == 0 {
			continue
		}
		c := call{Shard: s, ses: ses, obj: o}
		if !o.gone {
			o.expire(&c)
			c.told()
			s.timing(o)
		}
		s.shut(o, ses)
	}
}

// answer tells the one who asked.
func (c *call) answer(code machine.Code, num, aux uint64) {
	if c.op.Req != 0 {
		c.said = operation.Output{Code: code, Num: num, Aux: aux}
		c.put(c.who(), &c.said, "")
	}
}

func (c *call) invalid() { c.answer(machine.Invalid, 0, 0) }

// told moves what a machine said into the outboxes.
func (c *call) told() {
	for i := range c.none.Effects {
		e := &c.none.Effects[i]
		c.said = operation.Output{Code: e.Code, Num: e.Num, Aux: e.Aux}
		c.put(e.To, &c.said, e.Key)
	}
	for i := range c.vals.Effects {
		e := &c.vals.Effects[i]
		c.said = operation.Output{Code: e.Code, Num: e.Num, Aux: e.Aux, Str: e.Val.S, X: e.Val.X}
		c.put(e.To, &c.said, e.Key)
	}
	c.none.Reset()
	c.vals.Reset()
	c.cutOff()
}

// listened is an object that tells what others do to it.
type listened interface {
	leave(out *machine.Out[Value], who machine.Who) // who is told no more
}

// cutOff ends the watchers and subscriptions of sessions that are far behind: they
// have been told Refused.
func (c *call) cutOff() {
	if len(c.slow) == 0 {
		return
	}
	for _, who := range c.slow {
		c.obj.thing.(listened).leave(&c.vals, who)
	}
	c.vals.Reset() // they know
	c.slow = c.slow[:0]
}

// behind tells that an output is of a watcher or a subscription, and its session
// has not heard too much of what was told before.
func (c *call) behind(ses *session, to machine.Who, o *operation.Output) bool {
	if ses.out.size <= maxBehind || to.Req == 0 || o.Code != machine.Message && o.Code != machine.Changed {
		return false
	}
	_, can := c.obj.thing.(listened)
	return can
}

func (c *call) put(to machine.Who, o *operation.Output, key string) {
	ses := c.ses
	if ses == nil || ses.id != to.Session {
		if ses = c.sessions[to.Session]; ses == nil {
			return
		}
	}
	if to.Req == 0 {
		if o.Code < machine.Granted && c.obj.kind != operation.KLock { // the answer to an operation that wants none
			return
		}
		if o.Handle = c.obj.of(ses); o.Handle == 0 {
			return
		}
	}
	if c.behind(ses, to, o) {
		if slices.Contains(c.slow, to) {
			return
		}
		c.slow = append(c.slow, to)
		*o, key = operation.Output{Code: machine.Refused}, ""
	}
	o.Req = to.Req
	if len(key) > 0 {
		o.Key = []byte(key)
	}
	if c.cfg.Deliver != nil {
		c.cfg.Deliver(o)
		return
	}
	ses.out.add(o)
	if ses.out.size > maxOutbox {
		c.full = append(c.full, ses)
	}
	c.soil(ses)
}

// timing notes when an object wants a tick.
func (s *Shard) timing(o *object) {
	d := s.dueOf(o)
	if d == 0 {
		if len(s.timed) > 0 {
			delete(s.timed, o)
		}
		return
	}
	s.timed[o] = struct{}{}
	if s.due == 0 || d < s.due {
		s.due = d
	}
}

// dueOf is when an object wants a tick, ledger ms; 0: never.
func (s *Shard) dueOf(o *object) int64 {
	d := o.due()
	if o.kind == operation.KExecutor && d != 0 {
		d = max(d-s.drift, 1)
	}
	return d
}

func (s *Shard) tick() {
	var ready []*object
	for o := range s.timed {
		if s.dueOf(o) <= s.now {
			ready = append(ready, o)
		}
	}
	slices.SortFunc(ready, func(a, b *object) int { return strings.Compare(a.name, b.name) })
	for _, o := range ready {
		c := call{Shard: s, obj: o}
		o.tick(&c)
		c.told()
	}
	s.due = 0
	for o := range s.timed {
		s.timing(o)
	}
}

// Due is the next ledger time, in ms, at which a tick is wanted; 0: none.
func (s *Shard) Due() int64 {
	i := 0
	for i < len(s.owing) && s.owing[i].owed == 0 { // it was confirmed with something else
		s.owing[i].listed = false
		i++
	}
	s.owing = slices.Delete(s.owing, 0, i)
	if len(s.owing) == 0 {
		return s.due
	}
	d := s.owing[0].owed + confirmWithin
	if s.due != 0 {
		d = min(d, s.due)
	}
	return d
}

// Lead makes this the writer's state: every session is told again what it has
// not acknowledged.
func (s *Shard) Lead(epoch uint64) {
	s.epoch = epoch
	for _, ses := range s.sessions {
		ses.out.again()
		ses.prompt = true
		s.soil(ses)
	}
}

// Follow makes this a standby's state: it keeps nothing of what is to be told
// but the outboxes.
func (s *Shard) Follow() {
	s.epoch = 0
	for _, ses := range s.owing {
		ses.owed, ses.listed = 0, false
	}
	for _, ses := range s.dirty {
		ses.dirty = false
	}
	s.owing, s.dirty, s.over = nil, nil, nil
}
