// Package memo is what a handler takes from its run instead of from the world: in
// a durable run it is, when the handler is called again, what it was before.
//
//	now := memo.Now(run)
//	draws := memo.Rand(run)
//	ms, err := memo.Members(run, list)
//	a, err := memo.Approve(ctx, run, "ship")
//
// # Guarantees
//
// The n-th call of each kind answers what the n-th call did before.
//
// # Failures
//
// None of its own, but a decision that is no JSON, which is fault.ErrInvalid.
package memo

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/record"
)

// approval begins the name of the signal that tells a decision.
const approval = "approve "

// Now is the cluster's time.
func Now(r *runs.Run) time.Time {
	v := r.Value("now", func() []byte { return binary.AppendVarint(nil, r.Host().Clock().UnixNano()) })
	ns, _ := binary.Varint(v)
	return time.Unix(0, ns)
}

// Rand is a source of random numbers, as new. It is not safe for concurrent use.
func Rand(r *runs.Run) *rand.Rand {
	v := r.Value("rand", func() []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, rand.Uint64()), rand.Uint64())
	})
	if len(v) < 16 {
		v = make([]byte, 16) // of nobody's journal
	}
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[8:])))
}

// Members are those that list answers. An error of list is recorded as no members,
// and returned this time only.
func Members(r *runs.Run, list func() ([]cluster.Member, error)) (ms []cluster.Member, err error) {
	v := r.Value("members", func() (b []byte) {
		if ms, err = list(); err == nil {
			b, err = json.Marshal(ms)
		}
		return b
	})
	if err != nil || len(v) == 0 {
		return nil, err
	}
	ms = nil
	err = json.Unmarshal(v, &ms)
	return ms, err
}

// Approve waits for somebody's decision about what is named, and takes it; see
// runs.Run.Signal.
func Approve(ctx context.Context, r *runs.Run, name string) (a record.Approval, err error) {
	v, err := r.Signal(ctx, approval+name)
	if err != nil {
		return a, err
	}
	if err = json.Unmarshal(v, &a); err != nil {
		err = fmt.Errorf("%w: the decision about %s: %w", fault.ErrInvalid, name, err)
	}
	return a, err
}

// Approval is the signal that tells a decision.
func Approval(name string, a record.Approval) (journal.Signal, error) {
	v, err := json.Marshal(a)
	return journal.Signal{Name: approval + name, Value: v}, err
}
