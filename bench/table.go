package main

import (
	"bytes"
	_ "embed" // go.mod
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distgear/distgear/bench/proc"
)

// report is everything that one command measured.
type report struct {
	Machine machine
	Options options
	Took    string
	Rows    []rowResult
}

// machine says where and when.
type machine struct {
	Date, CPU, Kernel, Go string
	Cores                 int
	MemoryGiB             float64
	Modules               map[string]string // path → version
	Before, After         string            // load averages
	Fsync                 string            // of 400 B in the folder for what is durable; empty where no row needs it
}

func thisMachine() machine {
	m := machine{
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		Cores: runtime.NumCPU(), Kernel: firstLine("/proc/sys/kernel/osrelease"), CPU: field("/proc/cpuinfo", "model name"), Before: load(), Modules: map[string]string{},
	}
	if kb, err := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		m.MemoryGiB = math.Round(kb / (1 << 20))
	}
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, d := range bi.Deps {
			switch d.Path {
			case "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2", "google.golang.org/grpc":
				m.Modules[d.Path] = d.Version
			}
		}
	}
	return m
}

//go:embed go.mod
var goMod string

// rivalVersions adds what the program of the rivals is made of.
func (m *machine) rivalVersions() {
	for line := range strings.Lines(goMod) {
		switch f := strings.Fields(line); {
		case len(f) < 2:
		case slices.Contains([]string{"go.etcd.io/etcd/server/v3", "github.com/go-redsync/redsync/v4", "github.com/alitto/pond/v2", "github.com/panjf2000/ants/v2",
			"github.com/hibiken/asynq", "github.com/riverqueue/river"}, f[0]):
			m.Modules[f[0]] = f[1]
		}
	}
	if out, err := exec.Command("redis-server", "--version").Output(); err == nil {
		for _, w := range strings.Fields(string(out)) {
			if v, ok := strings.CutPrefix(w, "v="); ok {
				m.Modules["redis-server"] = v
			}
		}
	}
	if dir, err := proc.Postgres(); err == nil {
		if out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output(); err == nil {
			if _, v, ok := strings.Cut(string(out), ") "); ok {
				m.Modules["PostgreSQL"] = strings.Fields(v)[0]
			}
		}
	}
}

func firstLine(path string) string {
	b, _ := os.ReadFile(path) // empty where there is no such file
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return string(line)
}

func field(path, name string) string {
	b, _ := os.ReadFile(path) // empty where there is no such file
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func load() string {
	f := strings.Fields(firstLine("/proc/loadavg"))
	return strings.Join(f[:min(3, len(f))], " ")
}

// markdown prints the table: medians, lowest and highest trial in brackets, and DistGear over each rival.
func (r report) markdown(w io.Writer) error {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s · %s, %d cores, %.0f GiB · Linux %s · %s", m.Date, m.CPU, m.Cores, m.MemoryGiB, m.Kernel, m.Go)
	for _, p := range slices.Sorted(maps.Keys(m.Modules)) {
		fmt.Fprintf(&b, " · %s %s", strings.TrimPrefix(p, "github.com/nats-io/"), m.Modules[p])
	}
	place := "in a process of its own"
	if r.Options.Hub == "caller" {
		place = "in the caller's process"
	}
	server := "with default options"
	if r.Options.Server == "hub" {
		server = "that is DistGear's hub"
	}
	fmt.Fprintf(&b, "\n\nRounds: %d, sides alternating. NATS server %s, for DistGear and NATS alike; plain NATS uses a server %s. Load average before: %s; after: %s. Took %s.\n",
		r.Options.N, place, server, m.Before, m.After, r.Took)
	if m.Fsync != "" {
		fmt.Fprintf(&b, "\n400 B written and synced in %s: %s.\n", r.Options.Dir, m.Fsync)
	}
	if r.Options.Quick {
		b.WriteString("\n**-quick: these figures measure nothing.**\n")
	}
	var last []string
	for _, row := range r.Rows {
		rivals := rivalsOf(row.Name)
		if !slices.Equal(rivals, last) {
			tableHead(&b, rivals)
			last = rivals
		}
		row.markdown(&b, rivals)
	}
	for _, row := range r.Rows {
		for _, e := range row.Errors {
			fmt.Fprintf(&b, "\nNo figure: `%s` %s", row.Name, e)
		}
	}
	_, err := io.WriteString(w, b.String()+"\n")
	return err
}

// tables are the rivals that share a table, by how its rows' names begin.
var tables = map[string][]string{
	"": {"nats", "grpc"}, "shared-": {"etcd", "redsync", "go"},
	"exec-alone-": {"pond", "ants"}, "exec-fast": {"asynq", "asynq-memory", "river"}, "exec-durable": {"asynq", "asynq-memory", "river"}, "durable-": {"dbos", "goworkflows", "temporal"},
}

// titles are the heads of the columns.
var titles = map[string]string{"distgear": "DistGear", "nats": "NATS", "grpc": "gRPC", "etcd": "etcd", "redsync": "redsync", "go": "Go",
	"pond": "pond", "ants": "ants", "asynq": "asynq", "asynq-memory": "asynq, Redis in memory", "river": "River", "dbos": "DBOS", "goworkflows": "go-workflows", "temporal": "Temporal"}

// rivalsOf says in which table a row stands.
func rivalsOf(row string) []string {
	for begin, rivals := range tables {
		if begin != "" && strings.HasPrefix(row, begin) {
			return rivals
		}
	}
	return tables[""]
}

func tableHead(b *strings.Builder, rivals []string) {
	b.WriteString("\n| row | unit | DistGear |")
	for _, s := range rivals {
		b.WriteString(" " + titles[s] + " |")
	}
	for _, s := range rivals {
		b.WriteString(" DistGear ÷ " + titles[s] + " |")
	}
	b.WriteString(" bar | verdict |\n|" + strings.Repeat("---|", 5+2*len(rivals)) + "\n")
}

func (row rowResult) markdown(b *strings.Builder, rivals []string) {
	for i, l := range row.Lines {
		what := "`" + row.Name + "` " + row.What
		if i > 0 {
			what = "`" + row.Name + "`"
		}
		if l.What != "" {
			what += ": " + l.What
		}
		fmt.Fprintf(b, "| %s | %s | %s |", what, l.Unit, l.cell("distgear"))
		for _, s := range rivals {
			b.WriteString(" " + l.cell(s) + " |")
		}
		for _, s := range rivals {
			b.WriteString(" " + l.ratio(s) + " |")
		}
		fmt.Fprintf(b, " %s | %s |\n", l.Bar, l.Verdict)
	}
}

func (l lineResult) cell(side string) string {
	t := l.Trials[side]
	switch len(t) {
	case 0:
		return "–"
	case 1:
		return number(t[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(l.Medians[side]), number(slices.Min(t)), number(slices.Max(t)))
}

func (l lineResult) ratio(rival string) string {
	d, ok := l.Medians["distgear"]
	r, ok2 := l.Medians[rival]
	if !ok || !ok2 || r == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", d/r)
}

// median of no values is not asked for.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// number prints three digits that matter, and thousands apart.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		s := strconv.FormatInt(int64(math.Round(v)), 10)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + " " + s[i:]
		}
		return s
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
