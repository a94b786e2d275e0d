package assign

import (
	"testing"

	"github.com/distgear/distgear/internal/machine/words"
)

// TestBytes: free slots are leased to whatever the size of tasks; what waits at a
// worker is bounded by its bytes.
func TestBytes(t *testing.T) {
	type task struct{ Node[task] }
	m := New[task]()
	m.Work(1, words.Offer{Slots: 3, Prefetch: 10, Bytes: 100})
	for i, size := range []uint32{80, 80, 80, 10, 10} {
		n := &task{}
		n.Number, n.Size = uint64(i)+1, size
		m.Enter(&n.Node, n, Class{Kind: "k", Idempotent: true}, "", 0)
		m.Ready(&n.Node, false)
	}
	var leased []*Node[task]
	for n, _ := m.Next(); n != nil; n, _ = m.Next() {
		leased = append(leased, n)
	}
	if len(leased) != 3 {
		t.Fatalf("%d tasks are leased to 3 free slots", len(leased))
	}
	m.Free(leased[0])
	m.Free(leased[1])
	n := 0
	for x, _ := m.Next(); x != nil; x, _ = m.Next() {
		n++
	}
	if n != 2 {
		t.Errorf("%d more are leased to 2 free slots", n)
	}
}
