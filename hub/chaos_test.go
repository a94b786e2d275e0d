package hub_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

var roles = geartest.Roles{"hub": geartest.HubsRole, "load": loadRole, "actor": actorRole, "small hub": smallRole}

// chaos is how often what is done to hubs is done; make soak says more.
var chaos = flag.Int("chaos", 1, "how often hubs are killed, frozen and cut in the tests of a bad day")

// chaosTTL gives sessions with the ledger three times as much: more than a take-over takes.
const chaosTTL = 3 * time.Second

// day is hubs and three processes that use shared objects all the time.
type day struct {
	t     *testing.T
	hubs  *geartest.HubProcesses
	fence string
	loads []*geartest.Process
}

func startDay(t *testing.T, what geartest.Hubs, quick bool) *day {
	t.Helper()
	d := &day{t: t}
	d.begin(what)
	for i := range 3 {
		d.load(loadArgs{Name: fmt.Sprint("load-", i), Hub: d.hubs.URLs(), Me: i, Quick: quick})
	}
	return d
}

func (d *day) begin(what geartest.Hubs) {
	d.t.Helper()
	what.Role, what.TTL = "hub", chaosTTL
	d.hubs, d.fence = geartest.StartHubs(d.t, what), filepath.Join(d.t.TempDir(), "fence")
	if err := os.WriteFile(d.fence, nil, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *day) load(a loadArgs) {
	d.t.Helper()
	a.TTL, a.Fence, a.Nodes = chaosTTL, d.fence, 3
	args, err := json.Marshal(a)
	if err != nil {
		d.t.Fatal(err)
	}
	d.loads = append(d.loads, geartest.Start(d.t, geartest.Child{Role: "load", Args: []string{string(args)}}))
}

// reset begins a new measurement of the longest time without an answer.
func (d *day) reset() {
	d.t.Helper()
	for _, p := range d.loads {
		p.Say("reset")
		p.Line("reset")
	}
}

// gap is how many answers a process has had since, and the longest time without one.
func (d *day) gap(p *geartest.Process) (n int, gap time.Duration) {
	d.t.Helper()
	p.Say("gap")
	var us int64
	if line := p.Line("gap"); line != "" {
		if _, err := fmt.Sscan(line, &n, &us); err != nil {
			d.t.Fatalf("%q: %v", line, err)
		}
	}
	return n, time.Duration(us) * time.Microsecond
}

// more waits until each process has had n answers more, and returns the longest time without one since the last reset: the
// least and the most of the processes.
func (d *day) more(n int) (least, most time.Duration) {
	d.t.Helper()
	least = time.Hour
	for _, p := range d.loads {
		was, _ := d.gap(p)
		geartest.Eventually(d.t, 0, "each process is served", func() bool { now, _ := d.gap(p); return now >= was+n })
		_, gap := d.gap(p)
		least, most = min(least, gap), max(most, gap)
	}
	return least, most
}

// end stops the load and checks that what the processes were told is what the objects hold.
func (d *day) end() {
	d.t.Helper()
	d.judge(func(n *distgear.Node, all []tally) {
		d.t.Helper()
		d.sums(n, all)
		d.items(n, all)
		d.values(n, all)
		d.tokens()
	})
}

// quick is end of a load that is nothing but the counter.
func (d *day) quick() {
	d.t.Helper()
	d.judge(func(n *distgear.Node, all []tally) { d.t.Helper(); d.sums(n, all) })
}

// judge stops the load and checks what the processes were told.
func (d *day) judge(check func(n *distgear.Node, all []tally)) {
	t := d.t
	t.Helper()
	var all []tally
	for i, p := range d.loads {
		p.Say("stop")
		var s tally
		if err := json.Unmarshal([]byte(p.Line("tally")), &s); err != nil {
			t.Fatal(err)
		}
		for _, w := range s.Wrong {
			t.Errorf("process %d: %s", i, w)
		}
		if !s.Kept {
			t.Errorf("process %d lost its lock", i)
		}
		if len(s.Unknown) > 0 {
			t.Errorf("process %d does not know what became of %q", i, s.Unknown)
		}
		all = append(all, s)
	}
	n, err := distgear.Join(within(t), distgear.Config{Name: "judge", Hub: d.hubs.URLs(), TTL: chaosTTL, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Leave(within(t)) }()
	check(n, all)
}

// sums checks the counter: each addition was made once, and was told the sum that it made.
func (d *day) sums(n *distgear.Node, all []tally) {
	t := d.t
	t.Helper()
	total, err := shared.NewCounter(n, "n").Load(within(t))
	if err != nil {
		t.Fatal(err)
	}
	var sums []int64
	for _, s := range all {
		if !slices.IsSorted(s.Sums) {
			slices.Sort(s.Sums) // of two goroutines
		}
		sums = append(sums, s.Sums...)
	}
	slices.Sort(sums)
	for i, s := range sums {
		if s != int64(i)+1 {
			t.Fatalf("the sums that were told are not 1, 2, 3 …: at %d there is %d", i+1, s)
		}
	}
	if int64(len(sums)) != total {
		t.Errorf("%d additions were told, the counter is %d", len(sums), total)
	}
	t.Logf("%d additions", total)
}

// items checks the queue: each item that was put was taken once, or is there.
func (d *day) items(n *distgear.Node, all []tally) {
	t := d.t
	t.Helper()
	left, err := shared.NewQueue[string](n, "q", 20).Drain(within(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, item := range left {
		seen[item]++
	}
	put, took := 0, len(left)
	for _, s := range all {
		for _, item := range s.Took {
			seen[item]++
		}
		took += len(s.Took)
	}
	for _, s := range all {
		put += len(s.Put)
		for _, item := range s.Put {
			if seen[item] != 1 {
				t.Errorf("%s was put once and taken %d times", item, seen[item])
			}
			delete(seen, item)
		}
	}
	if len(seen) > 0 {
		t.Errorf("nobody put %v", slices.Collect(maps.Keys(seen)))
	}
	t.Logf("%d items put, %d taken or left", put, took)
}

// values checks the map: each key holds what was stored last.
func (d *day) values(n *distgear.Node, all []tally) {
	t := d.t
	t.Helper()
	kept := shared.NewMap[string, int](n, "kept")
	turns := 0
	for _, s := range all {
		for key, want := range s.Stored {
			if v, ok, err := kept.Load(within(t), key); err != nil || !ok || v != want {
				t.Errorf("%s is %d, %v, %v and was stored as %d", key, v, ok, err, want)
			}
		}
		turns += s.Turns
	}
	at, _, err := shared.NewMap[string, int](n, "turn").Load(within(t), "")
	if err != nil || at != turns {
		t.Errorf("%d turns were had, %d are noted, %v", turns, at, err)
	}
	t.Logf("%d turns", turns)
}

// tokens checks the file: nobody came in before the one before was out, and tokens grow.
func (d *day) tokens() {
	t := d.t
	t.Helper()
	f, err := os.Open(d.fence)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in, last uint64
	lines := 0
	for sc := bufio.NewScanner(f); sc.Scan(); lines++ {
		var what string
		var token uint64
		if _, err := fmt.Sscan(sc.Text(), &what, &token); err != nil {
			t.Fatalf("line %d: %q", lines, sc.Text())
		}
		switch {
		case what == "in" && in != 0:
			t.Fatalf("line %d: %d came in while %d was inside", lines, token, in)
		case what == "in" && token <= last:
			t.Fatalf("line %d: token %d after %d", lines, token, last)
		case what == "in":
			in, last = token, token
		case token != in:
			t.Fatalf("line %d: %d went out, %d was inside", lines, token, in)
		default:
			in = 0
		}
	}
	t.Logf("the lock was had %d times", lines/2)
}

// sees waits until each process knows so many nodes.
func (d *day) sees(n int) {
	d.t.Helper()
	for _, p := range d.loads {
		geartest.Eventually(d.t, 0, fmt.Sprint("each process knows ", n, " nodes"), func() bool {
			p.Say("members")
			return strings.TrimSpace(p.Line("members")) == fmt.Sprint(n)
		})
	}
}

// Three hubs: the writer is killed, and started again; frozen, and thawed under load; time after time.
func TestChaos_ThreeHubs(t *testing.T) {
	t.Parallel()
	for _, disk := range []bool{true, false} {
		t.Run(map[bool]string{true: "disk", false: "memory"}[disk], func(t *testing.T) {
			t.Parallel()
			d := startDay(t, geartest.Hubs{Disk: disk}, false)
			d.sees(3)
			d.more(50)
			for range *chaos {
				w := d.hubs.Writer()
				d.reset()
				d.hubs.Kill(w)
				least, most := d.more(50)
				t.Logf("hub %d killed: served again after %v to %v", w, least, most)
				d.hubs.Start(w)
				d.more(50)

				w = d.hubs.Writer()
				d.reset()
				d.hubs.Freeze(w)
				least, most = d.more(50)
				t.Logf("hub %d frozen: served again after %v to %v", w, least, most)
				d.hubs.Thaw(w)
				d.more(50)
				if now := d.hubs.Writer(); now == w {
					t.Log("the hub that was frozen writes again")
				}
			}
			d.sees(3)
			d.end()
		})
	}
}
