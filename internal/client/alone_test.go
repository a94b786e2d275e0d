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

// slowTaker takes an output while the client is closed.
type slowTaker struct {
	c          *client.Client
	told, lost int
}

func (s *slowTaker) Output(*operation.Output) bool {
	s.told++
	s.c.Close()
	return true
}

func (s *slowTaker) Lost() { s.lost++ }

// Who is told an answer is not told as well that it was lost, though the process leaves in that moment.
func TestAlone_ToldOnce(t *testing.T) {
	c := client.Alone()
	o := c.Object(operation.KSemaphore, "s", 9, nil)
	of, err := o.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &slowTaker{c: c}
	if _, err := o.Start(of, s, operation.Op{Verb: operation.VAcquire, A: 1}); err != nil {
		t.Fatal(err)
	}
	if s.told != 1 || s.lost != 0 {
		t.Errorf("told %d times, and %d times that it was lost", s.told, s.lost)
	}
}
