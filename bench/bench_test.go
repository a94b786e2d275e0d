package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/bench/proc"
)

func TestMain(m *testing.M) {
	if proc.IsChild() {
		os.Exit(proc.Run(newRole))
	}
	os.Exit(m.Run())
}

// BenchmarkRow runs each side of each row with small sizes: a check that all of it works and that nothing is lost. `go run .` measures.
func BenchmarkRow(b *testing.B) {
	o := options{Quick: true, Hub: "own", Server: "plain", small: new(programs)}
	defer o.small.drop()
	for _, r := range rows() {
		for _, side := range r.sides {
			b.Run(r.Name+"/"+side, func(b *testing.B) {
				if _, err := exec.LookPath("redis-server"); side == "redsync" && err != nil {
					b.Skip("redis-server is not installed (apt-get install redis-server): redsync is not measured")
				}
				if strings.HasPrefix(r.Name, "shared-takeover-") && r.Name != "shared-takeover-hub" {
					b.Skip("ten seconds, for the code of shared-takeover-hub once more: go run . -quick -run takeover")
				}
				var v map[string]float64
				for b.Loop() {
					sp := r.size(true)
					sp.Row, sp.Side = r.Name, side
					var err error
					if v, err = r.trial(sp, o); err != nil {
						b.Fatal(err)
					}
				}
				for _, l := range r.lines {
					unit := strings.ReplaceAll(strings.TrimSpace(l.What+" "+l.Unit), " ", "-")
					b.ReportMetric(v[l.value]*l.factor(), unit)
				}
			})
		}
	}
}

func TestPayloads(t *testing.T) {
	seen := map[string]bool{}
	for caller := range 3 {
		for i, s := range ringOf(caller) {
			o := string(orderBytes(caller, i))
			if len(s) != payloadSize || len(o) != payloadSize {
				t.Errorf("caller %d, %d: %d and %d bytes, not %d", caller, i, len(s), len(o), payloadSize)
			}
			if seen[s] || seen[o] {
				t.Errorf("caller %d, %d: a payload for the second time", caller, i)
			}
			seen[s], seen[o] = true, true
		}
	}
}

func TestPlanByHand(t *testing.T) {
	if v, err := planByHand(7, func(x int64) (int64, error) { return x + 1, nil }); err != nil || v != planResult(7) {
		t.Errorf("planByHand: %d, %v; planResult: %d", v, err, planResult(7))
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		b         bar
		gear, riv float64
		ok, known bool
		text      string
	}{
		{bar{limit: 4, of: "nats"}, 800, 200, true, true, "≥ 4 × nats"},
		{bar{limit: 4, of: "nats"}, 799, 200, false, true, "≥ 4 × nats"},
		{bar{limit: 1.25, atMost: true, of: "nats"}, 90, 70, false, true, "≤ 1.25 × nats"},
		{bar{limit: 60e3}, 60e3, 1, true, true, "≥ 60 000"},
		{bar{}, 1, 1, false, false, "–"},
	} {
		ok, known := c.b.met(map[string]float64{"distgear": c.gear, "nats": c.riv})
		if ok != c.ok || known != c.known || c.b.String() != c.text {
			t.Errorf("%v with %v and %v: %v, %v; not %v, %v, %q", c.b, c.gear, c.riv, ok, known, c.ok, c.known, c.text)
		}
	}
	if _, known := (bar{limit: 4, of: "nats"}).met(map[string]float64{"distgear": 1}); known {
		t.Error("a bar without its rival is known")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234.5: "1 235", 1234567: "1 234 567", -1234: "-1 234"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, not %q", v, got, want)
		}
	}
	if m := median([]float64{5, 1, 4, 2}); m != 3 {
		t.Errorf("median: %v", m)
	}
}

func TestOneWayNoticesWhatIsWrong(t *testing.T) {
	nothing := func() error { return nil }
	sp := spec{Count: 100}
	var right flow
	if _, err := oneWay(sp, &right, func(v int64) error { right.take(v); return nil }, nothing); err != nil {
		t.Error(err)
	}
	var twice flow // 7 came twice, 8 never: the number of arrivals alone would not tell
	_, err := oneWay(sp, &twice, func(v int64) error {
		if v == 8 {
			v = 7
		}
		twice.take(v)
		return nil
	}, nothing)
	if err == nil {
		t.Error("a duplicate in a lost number's place was not noticed")
	}
}

func TestWrongAnswerHasNoFigure(t *testing.T) {
	wrong := func(caller int) func(int) error {
		return func(k int) error {
			if k == 50 {
				return errMixed(caller, k)
			}
			return nil
		}
	}
	if _, err := latency(spec{Count: 100}, wrong); err == nil {
		t.Error("latency has a figure")
	}
	if _, err := throughput(spec{Callers: 4, Window: time.Millisecond}, wrong); err == nil {
		t.Error("throughput has a figure")
	}
}
