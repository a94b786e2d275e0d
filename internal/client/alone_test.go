package client_test

import (
	"crypto/rand"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
)

// The tokens of a process that is alone begin at its clock: begun anew at 1, whoever remembers the highest one would refuse them for long.
func TestAlone_L1_TokensGrowOverRestarts(t *testing.T) {
	before := uint64(time.Now().UnixMilli()) << operation.TokenBits
	c := client.Alone()
	defer c.Close()
	last := before - 1
	for range 3 {
		for o, op := range map[*client.Object]operation.Op{
			c.Object(operation.KSemaphore, "s", 9, nil):        {Verb: operation.VAcquire, A: 1},
			c.Object(operation.KElection, rand.Text(), 0, nil): {Verb: operation.VCampaign, Key: []byte("a")},
		} {
			a, err := o.Wait(t.Context(), op)
			if err != nil || a.Aux <= last {
				t.Errorf("%s: %+v, %v, and the token before it was %d", o.Name(), a, err, last)
			}
			last = a.Aux
		}
	}
}

// What is never due does not keep a processor busy: in the bubble time goes on only
// when nothing is to be done.
func TestAlone_NeverDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client.Alone()
		defer c.Close()
		const ms = math.MaxInt64/int64(time.Millisecond) + 1000 // more than a Duration holds
		s := tasks.Spec{ID: "late", Kind: "k", NotBefore: ms}
		if a, err := c.Object(operation.KExecutor, "x", 0, nil).Do(t.Context(), operation.Op{Verb: operation.VSubmit, Val: words.AppendSpec(nil, &s, nil, nil)}, false); err != nil || a.Code != machine.OK {
			t.Fatal(a, err)
		}
		time.Sleep(24 * time.Hour)
	})
}
