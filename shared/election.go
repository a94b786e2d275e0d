package shared

import (
	"context"
	"fmt"
	"iter"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Election finds one leader among those who campaign. Make it with NewElection;
// it is safe for concurrent use.
//
//	e := shared.NewElection(n, "primary")
//	lead, err := e.Campaign(ctx, "10.0.0.1:80") // returns when we lead
//	defer lead.Resign()
//	leader, err := e.Leader(ctx)                // anywhere: 10.0.0.1:80
//
// At most one leads, by Token: a process that was stopped may still believe
// that it leads, see Leadership.Lost, and whoever remembers the highest Token can
// refuse it. Candidates lead in the order in which the hub heard of them. A leader
// whose node left or was lost leads no more, and the next one does.
type Election struct{ x *objects.Holder }

// NewElection returns the election with that name. It does no I/O.
func NewElection(n *distgear.Node, name string) *Election {
	return &Election{objects.NewHolder(host(n), objects.ID{Kind: operation.KElection, Name: name}, nil)}
}

// maxValue is how long the value of a candidate may be, in bytes: an address, not
// a document. All who observe are told it.
const maxValue = 4096

// Leader is who leads. The zero value is nobody.
type Leader struct {
	Value string // as given to Campaign
	Token Token  // of its Leadership; 0: nobody leads
}

// Campaign waits until it leads, and tells value, at most 4,096 bytes, to those
// who ask for the leader: an address, say. An error means that it does not lead:
// ctx ended, or the session was lost while it waited (ErrSessionLost). Two Campaigns of
// one node are two candidates.
func (e *Election) Campaign(ctx context.Context, value string) (Leadership, error) {
	h, _, err := e.take(ctx, value, 0)
	return Leadership{h}, err
}

// TryCampaign leads if nobody does now. ctx bounds the message to the hub and its
// answer.
func (e *Election) TryCampaign(ctx context.Context, value string) (Leadership, bool, error) {
	h, ok, err := e.take(ctx, value, 1)
	return Leadership{h}, ok, err
}

func (e *Election) take(ctx context.Context, value string, try uint64) (*objects.Hold, bool, error) {
	if len(value) > maxValue {
		return nil, false, fmt.Errorf("%w: a candidate's value in election %q has %d bytes: at most %d", ErrInvalid, e.x.Name, len(value), maxValue)
	}
	return e.x.Take(ctx, "campaign", operation.Op{Verb: operation.VCampaign, Key: []byte(value), B: try}, operation.Op{Verb: operation.VResign})
}

// Do campaigns, runs f while it leads, and resigns. The context of f ends, with
// the cause ErrSessionLost or ErrDestroyed, when the lead is lost meanwhile; then
// Do's error says so too.
func (e *Election) Do(ctx context.Context, value string, f func(context.Context, Token) error) error {
	h, _, err := e.take(ctx, value, 0)
	if err != nil {
		return err
	}
	return under(ctx, h, "resign", f)
}

// Leader asks the hub who leads now. It may be over when the answer is here; for
// as long as its node was not found to be lost, a lost leader still counts.
func (e *Election) Leader(ctx context.Context) (Leader, error) {
	a, err := e.x.Do(ctx, "leader", operation.Op{Verb: operation.VLeader}, true)
	return Leader{a.Key, Token(a.Aux)}, err
}

// Observe yields who leads now, and then each change, nobody included. Who reads
// slowly misses what was between, never the latest. It ends with ctx, whose cause
// it yields, and with ErrDestroyed. A loss of the session does not end it: it goes on
// in the next one.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Leader, error] {
	return func(yield func(Leader, error) bool) {
		last, told := Leader{}, false
		for {
			v, err := e.x.Observe(ctx)
			if err != nil {
				yield(Leader{}, err)
				return
			}
			for {
				latest, over, err := v.Next(ctx)
				if over {
					break // the session was lost
				}
				if err != nil {
					v.Stop()
					yield(Leader{}, err)
					return
				}
				now := Leader{latest.Key, Token(latest.Aux)}
				if told && now == last {
					continue
				}
				last, told = now, true
				if !yield(now, nil) {
					v.Stop()
					return
				}
			}
		}
	}
}

// Destroy ends the election for everybody: who campaigns or observes gets
// ErrDestroyed, who leads has lost the lead. The name may be used anew.
func (e *Election) Destroy(ctx context.Context) error { return e.x.Destroy(ctx) }

// Leadership is the lead of an Election. The zero value does not lead. It may be
// copied; any goroutine may resign, once.
type Leadership struct{ h *objects.Hold }

// Token fences what is done by the leader: of two leaders of one election the
// later has the higher one.
func (l Leadership) Token() Token { return Token(l.h.Token()) }

// Resign lets the next one lead. ErrSessionLost: the lead was lost before;
// ErrDestroyed: the election was; ErrNotHeld: it does not lead, or not any more.
// It does not block: what was done before is on its way before it.
func (l Leadership) Resign() error { return l.h.Release("resign") }

// Lost is closed when the lead is gone without a Resign: the session with the
// hub was lost, or the election was destroyed. It is closed before the hub may let
// another lead, unless this process was stopped at that moment: only the Token is
// safe against that. After Resign it is closed too, if it was not asked for before.
func (l Leadership) Lost() <-chan struct{} { return l.h.Gone() }
