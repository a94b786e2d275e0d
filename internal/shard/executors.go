package shard

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/shard/executors"
)

// executor is the thing that package executors is.
type executor struct {
	executors.Executor
	topic string // that tells what becomes of its tasks
}

func newExecutor(_, floor uint64) thing { return &executor{Executor: *executors.New(floor)} }

// wall is the time that executors go by: ledger time, corrected by EntryClock. So
// what is due while no hub runs is due when one does again.
func (s *Shard) wall() int64 { return max(s.now+s.drift, 0) }

// to is c as executors know it.
func (c *call) to() executors.Call {
	x := executors.Call{Op: c.op, Now: c.wall(), Ledger: c}
	if c.ses != nil {
		x.By = c.ses.id
	}
	x.Heard = c.topic() != nil
	return x
}

// topic is the one that tells what becomes of the tasks of the executor; nil: nobody
// listens.
func (c *call) topic() *object {
	x, ok := c.obj.thing.(*executor)
	if !ok {
		return nil
	}
	if x.topic == "" {
		x.topic = c.obj.name + operation.Lifecycle
	}
	if o := c.names[x.topic]; o != nil {
		if t, ok := o.thing.(*topic); ok && t.Subscribers() > 0 {
			return o
		}
	}
	return nil
}

// Publish implements executors.Ledger.
func (c *call) Publish(told *executors.Told) {
	o := c.topic()
	if o == nil {
		return
	}
	b, err := json.Marshal(told)
	if err != nil {
		return // texts and numbers: there is none
	}
	v := Value{X: json.RawMessage(b)}
	if c.cfg.Deliver == nil {
		v = Value{S: codecJSON + string(b)}
	}
	t := &call{Shard: c.Shard, obj: o}
	o.thing.(*topic).Topic.Publish(&t.vals, machine.Who{}, v)
	t.told()
}

// codecJSON is what JSON begins with when it is a value (internal/codec).
const codecJSON = "j"

// Tell implements executors.Ledger.
func (c *call) Tell(to machine.Who, o *operation.Output) { c.put(to, o, "") }

// Opener implements executors.Ledger.
func (c *call) Opener(except machine.Session) (first machine.Session) {
	for id, ses := range c.sessions {
		if c.obj.of(ses) != 0 && id != except && (first == 0 || id < first) {
			first = id
		}
	}
	return first
}

// Node implements executors.Ledger.
func (c *call) Node(of machine.Session) string {
	if c.ses != nil && c.ses.id == of { // it may end in this very call
		return c.ses.name
	}
	return c.node(of)
}

func (x *executor) apply(c *call) {
	to := c.to()
	x.Apply(&to)
	if c.op.Verb == operation.VWork || c.op.Verb == operation.VUnwork {
		c.works(c.ses.id)
	}
}

func (x *executor) abandon(c *call, who machine.Who) {
	to := c.to()
	x.Abandon(&to, who)
}

func (x *executor) expire(c *call) {
	to := c.to()
	x.Expire(&to)
	c.works(c.ses.id)
}

func (x *executor) destroy(c *call) {
	c.goneToAll()
	for _, id := range x.Destroy() {
		c.works(id)
	}
}

func (x *executor) floor() uint64 { return x.Last() }
func (x *executor) due() int64    { return x.Due() }

func (x *executor) tick(c *call) {
	to := c.to()
	x.Tick(&to)
}

func (x *executor) opened(c *call) {
	to := c.to()
	x.Opened(&to)
}

func (x *executor) quiet(c *call, quiet bool) {
	to := c.to()
	x.Quiet(&to, quiet)
}

// hush tells the executors of a session that it is quiet, or is heard of again.
func (s *Shard) hush(ses *session, quiet bool) {
	ses.quiet = quiet
	for _, o := range ses.handles {
		if o == nil || o.gone || o.of(ses) == 0 {
			continue
		}
		if x, ok := o.thing.(*executor); ok {
			x.quiet(&call{Shard: s, ses: ses, obj: o}, quiet)
			s.timing(o)
		}
	}
}

// works tells the desk whether a session works for an executor, if that has changed.
func (s *Shard) works(id machine.Session) {
	ses := s.sessions[id]
	on := ses != nil && ses.works()
	if on != s.working[id] {
		if on {
			s.working[id] = true
		} else {
			delete(s.working, id)
		}
		if s.cfg.Works != nil && s.epoch != 0 {
			s.cfg.Works(id, on)
		}
	}
}

// Working are the sessions that work for executors.
func (s *Shard) Working() []machine.Session { return slices.Sorted(maps.Keys(s.working)) }

func (ses *session) works() bool {
	return slices.ContainsFunc(ses.handles, func(o *object) bool {
		if o == nil || o.gone {
			return false
		}
		x, ok := o.thing.(*executor)
		return ok && x.Works(ses.id)
	})
}

// clock sets how far ledger time is from the hub's.
func (s *Shard) clock(wall uint64) {
	s.drift = int64(min(wall, executors.MaxDelay)) - s.now
	s.due = 0
	for o := range maps.Keys(s.timed) {
		s.timing(o)
	}
}

// executorState has the times of the ledger: executors have their own.
func (s *Shard) executorState(name string, x *executor) look.ExecutorState {
	st := x.State(name, s.wall())
	st.Shift(-s.drift)
	return st
}

// executor is the one with a name; nil: there is none.
func (s *Shard) executor(name string) *executor {
	if o := s.names[name]; o != nil {
		if x, ok := o.thing.(*executor); ok {
			return x
		}
	}
	return nil
}

// pageTasks tells of the tasks of an executor: of all that are asked for, or of the
// one with an ID.
func (s *Shard) pageTasks(p *look.Page, q look.Query) {
	x := s.executor(q.Executor)
	if x == nil {
		return
	}
	p.Executors = []look.ExecutorState{s.executorState(q.Executor, x)} // that it is there
	p.Tasks, p.Next = x.Tasks(q, s.node)
	for i := range p.Tasks {
		p.Tasks[i].Shift(-s.drift)
	}
}

// Refers tells whether a task of an executor is known, and whether the value that it
// has now, its input or its result, is val.
func (s *Shard) Refers(name, id, val string) (known, refers bool) {
	if x := s.executor(name); x != nil {
		return x.Refers(id, val)
	}
	return false, false
}
