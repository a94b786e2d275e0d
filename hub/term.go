package hub

import (
	"sync"
	"time"

	"github.com/distgear/distgear/internal/ledger"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/shard"
)

// term is a time in which this hub decides who is a member: all the time that it
// runs, or where there is a ledger as long as it is the writer.
type term struct {
	number   uint64          // above those of all terms before it, whatever hub had them, and whatever its clock says
	ledger   uint64          // which log it is: in another one nodes join again
	roster   *members.Roster // how it begins
	sessions []shard.SessionInfo
	several  bool // another hub may take over
	desk     *desk
}

// only is the term of a hub that has no ledger: nothing outlives it.
func only(now time.Time) *term {
	id := uint64(link.NewID(now))
	return &term{number: id, ledger: id, roster: &members.Roster{}}
}

// grace is how much longer than its time-to-live a session that has not beaten yet may
// be silent when the term begins. A beat that the hub before answered when a
// round was in the log 0.9 TTL ago is good for 0.8 TTL more at its node: 1.7 TTL.
func (t *term) grace(ttl time.Duration) time.Duration {
	if t.several {
		return ttl / 4 * 3
	}
	return 0
}

// keep hands decisions to the ledger, which has to be in this term still; false: it
// does not take them now.
func (t *term) keep(d *members.Decisions) (taken bool) {
	if t.desk == nil {
		return true
	}
	entry, err := shard.AppendDecisions(nil, d)
	if err != nil {
		t.desk.log.Error("cannot encode what was decided about members", "err", err)
		return false
	}
	return t.submit(entry)
}

// prove hands in an entry that does nothing but have its place in the log.
func (t *term) prove() (taken bool) { return t.submit(nothing()) }

func nothing() []byte {
	return operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: operation.Nobody})
}

func (t *term) submit(entry []byte) (taken bool) {
	t.desk.mu.Lock() // as Lead has it when the next term begins, before which the ledger takes nothing
	defer t.desk.mu.Unlock()
	return t.desk.term == t.number && t.desk.submit(entry)
}

// begins makes the term in which this hub is the writer. The State's goroutine calls
// it.
func (d *desk) begins(epoch uint64, base int64) *term {
	t := &term{
		number: uint64(base)<<22 | epoch&(1<<22-1), ledger: uint64(base) << 22, several: d.several,
		roster: d.shard.Roster(), sessions: d.shard.Sessions(), desk: d,
	}
	d.view = t.roster.Version()
	d.mu.Lock()
	d.term = t.number
	d.mu.Unlock()
	return t
}

// confirming has f told of the rounds that are in the log; nil: nobody.
func (d *desk) confirming(f func(version uint64, cut time.Time)) {
	d.confirm.mu.Lock()
	defer d.confirm.mu.Unlock()
	d.confirm.f = f
}

type confirm struct {
	mu sync.Mutex
	f  func(version uint64, cut time.Time)
}

// confirmed is a round's Release that also tells the authority.
type confirmed struct {
	told    ledger.Release // nil: nothing
	d       *desk
	version uint64
	cut     time.Time
}

// Release implements ledger.Release.
func (c *confirmed) Release() {
	if c.told != nil {
		c.told.Release()
	}
	c.d.confirm.mu.Lock()
	f := c.d.confirm.f
	c.d.confirm.mu.Unlock()
	if f != nil {
		f(c.version, c.cut)
	}
}
