package hub_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/distgear/distgear/geartest"
)

// stream is the log of the default cluster, as NATS sees it.
const stream = "distgear-default"

// leader is the hub whose server leads the log; -1: none does now.
func (d *day) leader(nc *nats.Conn) int {
	js, err := jetstream.New(nc)
	if err != nil {
		d.t.Fatal(err)
	}
	s, err := js.Stream(within(d.t), stream)
	if err != nil {
		return -1
	}
	in := s.CachedInfo()
	if in.Cluster == nil {
		return -1
	}
	var i int
	if _, err := fmt.Sscanf(in.Cluster.Leader, "hub-%d", &i); err != nil {
		return -1
	}
	for _, r := range in.Cluster.Replicas {
		if !r.Current {
			return -1 // it could not take the lead
		}
	}
	return i
}

// lead makes the log's leader the writer's server, or another.
func (d *day) lead(writer bool) (w int) {
	d.t.Helper()
	nc, err := nats.Connect(d.hubs.URLs())
	if err != nil {
		d.t.Fatal(err)
	}
	defer nc.Close()
	tries := 0
	geartest.Eventually(d.t, 0, "the log has the leader that is wanted", func() bool {
		w = d.hubs.Writer()
		now := d.leader(nc)
		if now < 0 {
			return false
		}
		if (now == w) == writer {
			return true
		}
		to := w
		if !writer {
			to = (w + 1) % 3
		}
		ask := fmt.Appendf(nil, `{"placement":{"preferred":"hub-%d"}}`, to)
		if tries++; tries%3 == 0 {
			ask = nil // whoever it is that can
		}
		m, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, ask, 2*time.Second)
		if err == nil {
			var r struct {
				Error *struct{ Description string } `json:"error"`
			}
			if err = json.Unmarshal(m.Data, &r); err == nil && r.Error != nil && !strings.Contains(r.Error.Description, "leader") {
				d.t.Logf("step down: %s", r.Error.Description)
			}
		}
		return false
	})
	return w
}

// How long nobody is answered when a hub is gone: it is killed or frozen, with its server, which leads the log or does not.
func TestTakeover(t *testing.T) {
	if *chaos == 1 { // else it is measured, with nothing beside it
		t.Parallel()
	}
	for _, c := range []struct {
		name   string
		leader bool // the hub's server leads the log
		freeze bool
		bar    time.Duration
		long   bool // only with -chaos
	}{
		{"frozen, the log keeps its leader", false, true, 2 * time.Second, true},
		{"killed with the log's leader", true, false, 3 * time.Second, false},
		{"killed, the log keeps its leader", false, false, 2 * time.Second, true},
		{"frozen with the log's leader", true, true, 3 * time.Second, true},
	} {
		if c.long && *chaos == 1 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			d := startDay(t, geartest.Hubs{Disk: true}, true)
			d.more(50)
			var first, all []time.Duration
			for range *chaos {
				w := d.lead(c.leader)
				d.more(20)
				d.reset()
				if c.freeze {
					d.hubs.Freeze(w)
				} else {
					d.hubs.Kill(w)
				}
				t.Logf("hub %d is gone since %s", w, time.Now().UTC().Format("05.000"))
				least, most := d.more(20)
				first, all = append(first, least.Round(time.Millisecond)), append(all, most.Round(time.Millisecond))
				if c.freeze {
					d.hubs.Thaw(w)
				} else {
					d.hubs.Start(w)
				}
				d.more(20)
			}
			slices.Sort(first)
			slices.Sort(all)
			t.Logf("first node served after %v, median %v", first, first[len(first)/2])
			t.Logf("all nodes served after %v, median %v", all, all[len(all)/2])
			if m := all[len(all)/2]; m > c.bar+4*time.Second { // a busy machine is slower than the bar
				t.Errorf("median %v", m)
			}
			d.quick()
		})
	}
}
