package shared

import (
	"context"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/objects"
)

// Cycle is a set of goroutines that wait for each other's locks: each for one
// that the next holds, and the last for one that the first holds. They wait until
// a context ends.
type Cycle struct {
	Waits []CycleWait `json:"waits"`
}

// CycleWait is a goroutine in a Cycle.
type CycleWait struct {
	Node  cluster.NodeName `json:"node"`
	Func  string           `json:"func"`  // the function that asked for the lock
	Lock  string           `json:"lock"`  // for which it waits
	Holds []string         `json:"holds"` // the locks that it holds
	Since time.Time        `json:"since"` // by its node's clock
}

// Cycles are the cycles among goroutines that wait for a Mutex or RWMutex, in the
// whole cluster, a second or so after they began.
//
// They are known from contexts: who waits under the context that a Do or DoRead
// gave, in the goroutine to which it gave it, holds that lock until it has the
// other. Not seen are locks that were got by Lock and not by Do, nested calls with
// another context, semaphores, and readers that wait for readers behind a writer.
func Cycles(ctx context.Context, n *distgear.Node) ([]Cycle, error) {
	if r := n.Room(); r.Ledger.Alone() {
		return cycles(objects.Loops(r)), context.Cause(ctx)
	}
	in, err := inspect(ctx, n, client.Query{What: client.Loops})
	return cycles(in.Loops), err
}

func cycles(loops []client.Loop) []Cycle {
	return convert(loops, func(l *client.Loop) Cycle {
		return Cycle{convert(*l, func(x *client.LoopWait) CycleWait {
			holds := convert(x.Holds, func(h *client.Hold) string { return h.Lock })
			return CycleWait{cluster.NodeName(x.Node), x.Func, x.Lock, holds, time.UnixMilli(x.Since).UTC()}
		})}
	})
}
