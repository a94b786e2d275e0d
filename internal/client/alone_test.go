package client_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/client"
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
