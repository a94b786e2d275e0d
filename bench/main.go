// Command bench measures every figure that DistGear's documents quote, side by side with what a user would pick instead: plain NATS request/reply
// (nats.go's Request) and gRPC-go unary.
//
//	go run .                     every row, five rounds, a markdown table
//	go run . -run 'call' -n 9    the rows whose name matches, nine rounds
//	go run . -json               the same as one JSON document
//	go run . -sides nats,grpc    only the rivals
//	go run . -run commands-string -profile /tmp/p   profiles of caller and worker in /tmp/p
//
// # How it measures
//
// A row is a set of trials, one for each side; a round runs them one after another (A B C A B C …), so a drift of the machine meets all of them. Each trial
// starts fresh processes: this binary executes itself as hub, worker and caller. The parent only waits.
//
// # Guarantees
//
// A trial in which a command was lost, run twice, or answered with another's result has no figure: callers check the content of each answer, workers count what
// they ran, and the two counts must be equal.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear/bench/proc"
	"github.com/distgear/distgear/bench/sides"
)

func main() {
	if proc.IsChild() {
		os.Exit(proc.Run(sides.New))
	}
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options is the command line.
type options struct {
	Run     string   // rows whose name matches
	N       int      // rounds
	JSON    bool     // JSON instead of markdown
	Quick   bool     // small sizes, for a check that everything works
	Sides   []string // which sides run
	Hub     string   // "own" or "caller": the process that hosts the NATS server
	Server  string   // "plain" or "hub": the server that the plain NATS side talks to
	Profile string   // folder for profiles; empty means none
	Dir     string   // folder on a disk, for what is to be durable
	Program named    // programs of sides that this module does not import

	small *programs
}

func run(args []string, stdout, stderr io.Writer) error {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&o.Run, "run", ".", "run the rows whose name matches this regular `expression`")
	fs.IntVar(&o.N, "n", 5, "`rounds`; the table shows medians")
	fs.BoolVar(&o.JSON, "json", false, "print JSON")
	fs.BoolVar(&o.Quick, "quick", false, "small sizes: shows that it works, measures nothing")
	names := fs.String("sides", "distgear,nats,grpc,etcd,redsync,go,pond,ants,asynq,asynq-memory,river", "`sides` to run; temporal too, if named")
	fs.Var(&o.Program, "program", "`SIDE=PATH`: the program of a side that this module does not import (dbos, goworkflows) or that is built already (temporal); may be repeated")
	fs.StringVar(&o.Dir, "dir", os.TempDir(), "`folder` on a disk, for what is to be durable")
	fs.StringVar(&o.Hub, "hub", "own", "the process that hosts the NATS server, for both sides alike: `own|caller`")
	fs.StringVar(&o.Server, "server", "plain", "the server of the plain NATS side: `plain|hub`, one with default options or DistGear's hub")
	fs.StringVar(&o.Profile, "profile", "", "write profiles (CPU, allocations) of all children to this `folder`")
	if err := fs.Parse(args); err != nil {
		return err
	}
	o.Sides = strings.Split(*names, ",")
	match, err := regexp.Compile(o.Run)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}

	o.small = &programs{named: o.Program}
	defer o.small.drop()
	start := time.Now()
	m := thisMachine()
	var results []rowResult
	for _, r := range rows() {
		if !match.MatchString(r.Name) || !slices.ContainsFunc(r.sides, func(s string) bool { return slices.Contains(o.Sides, s) }) {
			continue
		}
		if m.Fsync == "" && onDisk(r.Name) && !o.Quick {
			m.Fsync = fsyncOf(o.Dir)
			m.rivalVersions()
		}
		results = append(results, r.measure(o, stderr))
	}
	if len(results) == 0 {
		return fmt.Errorf("no row matches %q and has one of the sides %s", o.Run, strings.Join(o.Sides, ","))
	}
	m.After = load()
	rep := report{Machine: m, Options: o, Took: time.Since(start).Round(time.Second).String(), Rows: results}
	if o.JSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(rep)
	} else {
		err = rep.markdown(stdout)
	}
	if err == nil && slices.ContainsFunc(results, func(r rowResult) bool { return len(r.Errors) > 0 }) {
		err = fmt.Errorf("some trials have no figure: see above")
	}
	return err
}

func (o options) check() error {
	if !slices.Contains([]string{"own", "caller"}, o.Hub) {
		return fmt.Errorf("-hub is own or caller, not %q", o.Hub)
	}
	if !slices.Contains([]string{"plain", "hub"}, o.Server) {
		return fmt.Errorf("-server is plain or hub, not %q", o.Server)
	}
	if o.Server == "hub" && o.Hub == "caller" {
		return fmt.Errorf("-server hub needs -hub own")
	}
	if o.N < 1 {
		return fmt.Errorf("-n is at least 1")
	}
	return nil
}
