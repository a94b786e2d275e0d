package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/distgear/distgear/bench/proc"
	"github.com/distgear/distgear/bench/sides"
)

func TestMain(m *testing.M) {
	if proc.IsChild() {
		os.Exit(proc.Run(sides.New))
	}
	os.Exit(m.Run())
}

// BenchmarkRow runs each side of each row with small sizes: a check that all of it works and that nothing is lost. `go run .` measures.
func BenchmarkRow(b *testing.B) {
	o := options{Quick: true, Hub: "own", Server: "plain", small: new(programs)}
	defer o.small.drop()
	for _, r := range rows() {
		for _, side := range r.sides {
			if why := leftOut(r.Name, side); why != "" {
				b.Logf("%s/%s is left out: %s", r.Name, side, why)
				continue
			}
			b.Run(r.Name+"/"+side, func(b *testing.B) {
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

// leftOut says why a side of a row is not run by BenchmarkRow; empty: it is.
func leftOut(row, side string) string {
	switch side {
	case "redsync", "asynq", "asynq-memory":
		if _, err := exec.LookPath("redis-server"); err != nil {
			return "redis-server is not installed (apt-get install redis-server)"
		}
	case "river":
		if _, err := proc.Postgres(); err != nil {
			return err.Error()
		}
	case "dbos", "goworkflows", "temporal":
		return "not of this module (see README.md)"
	}
	if strings.HasPrefix(row, "shared-takeover-") && row != "shared-takeover-hub" {
		return "ten seconds, for the code of shared-takeover-hub once more: go run . -quick -run takeover"
	}
	return ""
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
