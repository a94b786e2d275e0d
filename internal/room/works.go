package room

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// Works is what those who run tasks need of a node besides. A handler is a
// distgear.Handler.
type Works struct {
	Pool    *runner.Pool
	Links   *link.Endpoint // nil: the node is alone
	Labels  map[string]string
	Wrapped bool // handlers are wrapped: values must not pass by them
	// Check finds what is wrong with a handler as an action.
	Check func(h any) error
	// Serve runs a command by a handler, wrapped as the node's are. ctx is what the
	// handler gets, and c what is below it.
	Serve func(ctx context.Context, c *runner.Context, h any, w *wire.Command, from string) wire.Report
	// Failed is the report of what ran under c: of an error, or of a panic's value
	// and stack.
	Failed func(c *runner.Context, err error, panicked any, stack string) wire.Report
	// Error is the error that a report stands for, at who asked.
	Error func(r wire.Report, node, kind string) error
	// Handling are the live members that offer a kind.
	Handling func(kind string) []*members.Member
	// Live are all live members, and this node.
	Live func() []*members.Member
	// Valid tells whether the node may run what is others' (S9).
	Valid func() bool
	// Hold counts something that leaving waits for, until Free; false: the node has
	// left.
	Hold func() bool
	Free func()
	// Told tells the hub that Kinds has changed; it may take seconds.
	Told func()
}

// Guest is told what happens to the node. Its methods must not block.
type Guest interface {
	Changed() // who is a member, or what a member offers
	Leaving() // the node takes no new work from now on
	Left()    // what is unfinished stays so
}

// guests are those who stand on a node. The zero value is none.
type guests struct {
	raw atomic.Pointer[map[string]func(*link.Inbound)] // replaced as a whole, under mu

	mu    sync.Mutex
	kinds map[string]int
	all   []Guest
	state int // 1: leaving; 2: left
}

// Raw is what serves commands of a kind as they come, if there is such: it must
// reply to each, and not block. A kind that has none is served by what there is for
// its beginning up to the first colon.
func (r *Room) Raw(kind string) func(*link.Inbound) {
	m := r.guests.raw.Load()
	if m == nil {
		return nil
	}
	f := (*m)[kind]
	if f == nil {
		first, _, _ := strings.Cut(kind, ":")
		f = (*m)[first]
	}
	return f
}

// SetRaw says what Raw answers; f nil: nothing. A kind begins with _.
func (r *Room) SetRaw(kind string, f func(*link.Inbound)) {
	g := &r.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	m := map[string]func(*link.Inbound){}
	if old := g.raw.Load(); old != nil {
		m = maps.Clone(*old)
	}
	if f == nil {
		delete(m, kind)
	} else {
		m[kind] = f
	}
	g.raw.Store(&m)
}

// Kinds is what the node offers besides what it handles.
func (r *Room) Kinds() []string {
	g := &r.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.kinds))
}

// Offer adds a kind that the node offers, or takes one such away. The caller calls
// Told if it says so.
func (r *Room) Offer(kind string, more bool) (changed bool) {
	g := &r.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kinds == nil {
		g.kinds = map[string]int{}
	}
	if more {
		g.kinds[kind]++
		return g.kinds[kind] == 1
	}
	if g.kinds[kind]--; g.kinds[kind] > 0 {
		return false
	}
	delete(g.kinds, kind)
	return true
}

// Join adds a guest. One that comes late is told at once.
func (r *Room) Join(x Guest) {
	g := &r.guests
	g.mu.Lock()
	g.all = append(g.all, x)
	state := g.state
	g.mu.Unlock()
	if state > 0 {
		x.Leaving()
	}
	if state > 1 {
		x.Left()
	}
}

// Quit removes a guest.
func (r *Room) Quit(x Guest) {
	g := &r.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = slices.DeleteFunc(slices.Clone(g.all), func(y Guest) bool { return y == x })
}

// Changed tells all guests so; the node calls it.
func (r *Room) Changed() { r.guests.each(0, Guest.Changed) }

// Leaving tells all guests so; the node calls it.
func (r *Room) Leaving() { r.guests.each(1, Guest.Leaving) }

// Left tells all guests so; the node calls it.
func (r *Room) Left() { r.guests.each(2, Guest.Left) }

func (g *guests) each(state int, tell func(Guest)) {
	g.mu.Lock()
	g.state = max(g.state, state)
	all := g.all
	g.mu.Unlock()
	for _, x := range all {
		tell(x)
	}
}
