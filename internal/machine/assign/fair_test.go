package assign

import (
	"fmt"
	"testing"

	"github.com/distgear/distgear/internal/machine/words"
)

// Keys that may run have equal turns, whatever the others have waiting.
func TestNext_KeysTakeTurns(t *testing.T) {
	m := New[item]()
	m.Configure(words.Limits{KeyRunning: 3})
	for i := range 1000 {
		n := &item{}
		n.Number = uint64(i + 1)
		key := fmt.Sprint(i % 4)
		if i >= 100 {
			key = "0"
		}
		m.Enter(&n.Node, n, Class{Kind: "k"}, key, 0)
		m.Ready(&n.Node, false)
	}
	m.Work(1, words.Offer{Slots: 1})
	got := map[string]int{}
	for range 100 {
		n, _ := m.Next()
		got[n.Key()]++
		m.Free(n)
		m.Leave(n)
	}
	for key, n := range got {
		if n != 25 {
			t.Errorf("key %s had %d turns of 100: %v", key, n, got)
		}
	}
}
