package hub_test

import (
	"testing"
	"time"

	"github.com/distgear/distgear/geartest"
)

// C01, C02: the only hub is killed and started again, time after time, under load: nothing that was acknowledged is lost, nothing is done twice, and
// sessions go on.
func TestChaos_OneHubOnDisk(t *testing.T) {
	t.Parallel()
	d := startDay(t, geartest.Hubs{Count: 1, Disk: true}, false)
	d.sees(3)
	for range 2 + *chaos {
		d.more(50)
		d.reset()
		d.hubs.Kill(0)
		began := time.Now()
		d.hubs.Start(0)
		_, most := d.more(50)
		t.Logf("the hub was back after %v; silence of %v", time.Since(began).Round(time.Millisecond), most)
	}
	d.sees(3)
	d.end()
}

// Links are cut for a moment again and again under load, and broken.
func TestChaos_LinksAreCut(t *testing.T) {
	t.Parallel()
	d := &day{t: t}
	d.begin(geartest.Hubs{Count: 1, Disk: true})
	var roads []*geartest.Proxy
	for i := range 3 {
		roads = append(roads, geartest.NewProxy(t, d.hubs.URL(0)[len("nats://"):]))
		d.load(loadArgs{Name: "load-" + string(rune('0'+i)), Hub: "nats://" + roads[i].Addr(), Me: i})
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 3 * *chaos {
		for i, p := range roads {
			d.more(10)
			p.Cut()
			<-tick.C // cut for 100 ms: how long it is cut is what is tested
			p.Heal()
			d.more(10)
			p.Reset() // as a firewall does: what was on the way is lost
			roads[(i+1)%3].Reset()
		}
	}
	d.more(50)
	d.sees(3)
	d.end()
}
