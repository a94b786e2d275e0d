package hub_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// The ledger is written anew, as a snapshot, and its log cut short, while it is used; then the writer is killed, and each hub in turn reads what is left.
func TestChaos_Snapshot(t *testing.T) {
	if *chaos == 1 { // it writes 225 MB for each time
		return
	}
	t.Parallel()
	d := startDay(t, geartest.Hubs{Disk: true}, false)
	d.more(20)
	n, err := distgear.Join(within(t), distgear.Config{Name: "filler", Hub: d.hubs.URLs(), TTL: chaosTTL, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Leave(within(t)) })
	m := shared.NewMap[int, []byte](n, "large")
	large := make([]byte, 500_000)
	fill := func() {
		for i := range 150 { // 75 MB; it is written anew after 64
			large[0] = byte(i)
			if err := m.Store(within(t), i%10, large); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range *chaos {
		fill()
		w := d.hubs.Writer()
		d.hubs.Kill(w)
		d.more(20)
		d.hubs.Start(w)
		d.more(20)
		for i := range 10 {
			if v, ok, err := m.Load(within(t), i); len(v) != len(large) || !ok || err != nil || v[0] != byte(140+i) {
				t.Fatalf("%d: %d bytes, %v, %v", i, len(v), ok, err)
			}
		}
	}
	nc, err := nats.Connect(d.hubs.URLs())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	geartest.Eventually(t, 0, "the log was cut short", func() bool {
		s, err := js.Stream(within(t), stream)
		return err == nil && s.CachedInfo().State.FirstSeq > 100
	})
	d.end()
}
