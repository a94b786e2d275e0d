package shard

import (
	"bytes"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/operation"
)

// decisions is the entry that a node joined.
func decisions(t testing.TB, version uint64, name string) []byte {
	t.Helper()
	m := members.Member{
		Name: name, Life: version, Incarnation: 100 + version, State: members.Alive, Since: time.UnixMilli(1e12).UTC(),
		Labels: map[string]string{"z": "1", "a": "2"}, Kinds: []string{"x"}, Load: members.Load{InFlight: 5},
	}
	b, err := AppendDecisions(nil, &members.Decisions{Changes: []members.Changed{{Version: version, Member: m, Rev: 4}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoster_IsPartOfTheSnapshot(t *testing.T) {
	w := newWorld()
	empty := w.Snapshot()
	w.Apply(1, opening(7))
	for v := range uint64(3) {
		w.Apply(2, decisions(t, 50+v, "n"))
	}
	w.Apply(3, decisions(t, 99, "ahead")) // it is not the next
	w.Apply(3, []byte{operation.Version, byte(operation.EntryMembers), 1, 0, 0, 0, 0, 0, 0, 0, '{'})
	if all := w.Roster().Members(); w.View() != 52 || len(all) != 3 || all[0].Load.InFlight != 0 {
		t.Fatalf("version %d, %+v", w.View(), all)
	}
	data := w.Snapshot()
	o := newWorld()
	if err := o.Restore(data); err != nil {
		t.Fatal(err)
	}
	if o.View() != 52 || !bytes.Equal(o.Snapshot(), data) {
		t.Errorf("version %d, and other bytes", o.View())
	}
	was := o.Roster()
	o.Apply(4, decisions(t, 53, "n"))
	if was.Version() != 52 || o.View() != 53 {
		t.Error("a copy changed with the state")
	}
	if err := o.Restore(empty); err != nil || o.View() != 0 {
		t.Errorf("version %d, %v", o.View(), err)
	}
}

// A snapshot of the first format has no members, and no executors: it has fewer kinds.
func TestRoster_TheFirstFormatIsRead(t *testing.T) {
	data := []byte{snapshotFirst, 1, 0}
	data = append(data, make([]byte, operation.KElection+1)...) // floors
	data = append(data, 0, 1)                                   // no object, one session
	data = append(data, 7, 1, 'n', 9, 1, 0, 0, 0, 0)            // id, name, ttl, stamp, applied, last output, handles, chunks
	o := newWorld()
	if err := o.Restore(data); err != nil {
		t.Fatal(err)
	}
	if len(o.Sessions()) != 1 || o.View() != 0 {
		t.Errorf("%d sessions, version %d", len(o.Sessions()), o.View())
	}
}
