// Approval buys what somebody approves of, however long that takes. A purchase is a
// durable event that waits for a decision; meanwhile it is on no node, and whatever is killed and
// started again, it goes on when the decision comes.
//
//	approval desks-7 lamps-8             one process: it raises two purchases, and reads decisions from its
//	                                     standard input: "desks-7 yes ann" or "lamps-8 no bob too dear"
//
//	DISTGEAR_SERVE=127.0.0.1:4222 DISTGEAR_DIR=ledger approval -serve
//	                                     a process that hosts the hub and buys; kill it, and start it again
//	export DISTGEAR_HUB=nats://127.0.0.1:4222   in others:
//	approval -within 48h desks-7         raises a purchase and waits for its end, or is interrupted
//	approval -list                       shows what waits
//	approval -decide                     reads decisions, as above
//
// A deadline is a decision, too: another event, which is raised for later, refuses. The
// first decision that the ledger has is the one that is taken, by whoever goes on with the purchase; comparing clocks, two
// owners of one run could differ.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/record"
)

type options struct {
	serve, decide, list bool
	dir                 string
	within              time.Duration
	purchases           []string
}

func main() {
	var o options
	flag.BoolVar(&o.serve, "serve", false, "buy what is approved, until interrupted")
	flag.BoolVar(&o.decide, "decide", false, "read decisions from standard input")
	flag.BoolVar(&o.list, "list", false, "show the purchases that wait for a decision")
	flag.StringVar(&o.dir, "dir", "bought", "where what was bought is written down")
	flag.DurationVar(&o.within, "within", 24*time.Hour, "how long a purchase waits")
	flag.Parse()
	o.purchases = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, &o, os.Stdin)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o *options, decisions io.Reader) (err error) {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Leave(context.WithoutCancel(ctx))) }()
	alone := n.HubURL() == ""
	if o.serve || alone {
		if err := n.Handle(newBuyer(n, o.dir).handlers()...); err != nil {
			return err
		}
	}
	switch {
	case o.serve:
		fmt.Println("serves at", n.HubURL(), "until it is interrupted")
		<-ctx.Done()
		return nil
	case o.list:
		return list(ctx, n)
	case o.decide:
		return decide(ctx, n, decisions)
	}
	futures := make([]*distgear.Future[string], len(o.purchases))
	for i, id := range o.purchases {
		if futures[i], err = raised.Raise(ctx, n, purchase{id, o.within}, distgear.ID(id)); err != nil {
			return fmt.Errorf("purchase %s: %w", id, err)
		}
	}
	if alone {
		if err := decide(ctx, n, decisions); err != nil {
			return err
		}
	}
	for i, f := range futures {
		out, err := f.Wait(ctx)
		if err != nil {
			return fmt.Errorf("purchase %s: %w", o.purchases[i], err)
		}
		fmt.Printf("%s: %s\n", o.purchases[i], out)
	}
	return nil
}

// decide tells each decision to the run that it is about.
func decide(ctx context.Context, n *distgear.Node, from io.Reader) error {
	const form = "ID yes|no WHO [WHY]"
	fmt.Println("decide:", form)
	lines := make(chan string) // closed at the end
	go func() {                // until the end, or the process's: reading cannot be interrupted
		defer close(lines)
		for in := bufio.NewScanner(from); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		var words []string
		select {
		case line, more := <-lines:
			if !more {
				return nil
			}
			words = strings.Fields(line)
		case <-ctx.Done():
			return nil
		}
		if len(words) < 3 || words[1] != "yes" && words[1] != "no" {
			fmt.Println("want", form)
			continue
		}
		a := record.Approval{Approved: words[1] == "yes", By: words[2], Reason: strings.Join(words[3:], " ")}
		switch err := n.ApproveRun(ctx, record.RunID(words[0]), decision, a); {
		case errors.Is(err, distgear.ErrNoRun), errors.Is(err, distgear.ErrInvalid): // it has ended
			fmt.Println(words[0], "waits for no decision:", err)
		case err != nil:
			return err
		default:
			fmt.Println(words[0], "is decided")
		}
	}
}

// list shows what waits, the latest first.
func list(ctx context.Context, n *distgear.Node) error {
	for r, err := range n.Runs(ctx) {
		if err != nil {
			return err
		}
		if r.Event == raised.Name && r.State == record.Waiting {
			if r, err = n.FindRun(ctx, r.ID); err != nil { // with its input, which a list lacks
				return err
			}
			var p purchase
			if err := json.Unmarshal(r.Input, &p); err != nil {
				return err
			}
			fmt.Println(r.ID, "waits until", r.Started.Add(p.Within).Format(time.DateTime))
		}
	}
	return nil
}

// purchase is what the event is raised with.
type purchase struct {
	ID     string
	Within time.Duration
}

// raised is the event as those see it who raise it; who handles it says that it is durable.
var raised = &distgear.Event[purchase, string]{Name: "purchase"}

// decision is the name of what a purchase waits for.
const decision = "purchase"

// buyer is what handles purchases.
type buyer struct {
	n     *distgear.Node
	dir   string
	limit *distgear.Action[purchase, string]
	buy   *distgear.Action[string, string]
	late  *distgear.Event[string, bool]
}

func newBuyer(n *distgear.Node, dir string) *buyer {
	b := &buyer{n: n, dir: dir}
	b.late = &distgear.Event[string, bool]{Name: "purchase.late", Durable: true, On: b.refuse}
	b.limit = &distgear.Action[purchase, string]{Name: "purchase.limit", Idempotent: true, Do: b.setLimit}
	b.buy = &distgear.Action[string, string]{Name: "purchase.buy", Idempotent: true, Retries: 3, Do: b.write}
	return b
}

func (b *buyer) handlers() []distgear.Handler {
	return []distgear.Handler{b.limit, b.buy, b.late, &distgear.Event[purchase, string]{Name: raised.Name, Durable: true, On: b.purchase}}
}

// purchase is called from the top whenever the run goes on: what its plans did is in
// its journal, and so is the decision once it was taken.
func (b *buyer) purchase(ctx context.Context, r *distgear.Run, in purchase) (string, error) {
	ask := distgear.Plan{Name: "ask"}
	b.limit.Step(&ask, distgear.Any(), in)
	if err := r.Do(ctx, &ask); err != nil {
		return "", err
	}
	a, err := r.Approve(ctx, decision)
	switch {
	case err != nil:
		return "", err
	case !a.Approved:
		return strings.TrimSpace(fmt.Sprintf("refused by %s %s", a.By, a.Reason)), nil
	}
	buy := distgear.Plan{Name: "buy"}
	bought := b.buy.Step(&buy, distgear.Any(), in.ID)
	if err := r.Do(ctx, &buy); err != nil {
		return "", err
	}
	at, err := bought.Result()
	return fmt.Sprintf("%s, approved by %s", at, a.By), err
}

// setLimit raises the event that refuses when the time is over. Raised again it is the
// same run.
func (b *buyer) setLimit(ctx context.Context, in purchase) (string, error) {
	f, err := b.late.Raise(ctx, b.n, in.ID, distgear.Delay(in.Within), distgear.ID(in.ID+".late"))
	if err != nil {
		return "", err
	}
	return string(f.ID()), nil
}

// refuse refuses, unless somebody has decided.
func (b *buyer) refuse(ctx context.Context, r *distgear.Run, id string) (bool, error) {
	err := r.Node().ApproveRun(ctx, record.RunID(id), decision, record.Approval{By: "nobody", Reason: "in time"})
	if errors.Is(err, distgear.ErrNoRun) || errors.Is(err, distgear.ErrInvalid) {
		return false, nil // it has ended
	}
	return err == nil, err
}

// write writes down that something was bought; once, whoever is asked again.
func (b *buyer) write(_ context.Context, id string) (string, error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.OpenFile(filepath.Join(b.dir, id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "bought", nil
	}
	if err != nil {
		return "", err
	}
	return "bought", errors.Join(f.Sync(), f.Close())
}
