package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/cli/show"
	"github.com/distgear/distgear/record"
)

func (a *app) raiseCmd() *cobra.Command {
	var async bool
	var id string
	var timeout, delay time.Duration
	c := &cobra.Command{
		Use:   "raise EVENT [JSON|-]",
		Short: "Raise an event and wait for its result",
		Long: "raise raises an event with this input (none is null, - reads it from standard input). While the run goes, its steps are told on\n" +
			"standard error; its result is written to standard output. An interrupt or --timeout stops the waiting, not the run.\n\n" + exitHelp,
		Args: cobra.RangeArgs(1, 2),
		Example: `  distgear raise deploy '{"release": "v1"}'
  distgear raise deploy --async --id release-42 - < input.json`,
		RunE: func(c *cobra.Command, args []string) error {
			if delay < 0 || timeout < 0 {
				return exit(Usage, "--delay and --timeout must not be negative")
			}
			input, err := a.input(c.Context(), args[1:], "raised")
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			r := raising{event: args[0], id: id, input: input, async: async, timeout: timeout, delay: delay}
			if id == "" { // so that it can be watched, and named when the answer is lost
				r.id = "cli-" + strings.ToLower(rand.Text()[:16])
			}
			return a.raise(c.Context(), cl, r)
		},
	}
	f := c.Flags()
	f.BoolVar(&async, "async", false, "write the run's id and do not wait")
	f.StringVar(&id, "id", "", "idempotency id: raised again under it, the event does not run again")
	f.DurationVar(&timeout, "timeout", 0, "longest wait for the result; the run goes on")
	f.DurationVar(&delay, "delay", 0, "raise it after so long")
	return c
}

type raising struct {
	event, id      string
	input          []byte
	async          bool
	timeout, delay time.Duration
}

// raise raises an event once, tells its steps while it waits, and writes the
// result.
func (a *app) raise(ctx context.Context, cl *client, r raising) error {
	q := url.Values{"id": {r.id}}
	if r.async {
		q.Set("async", "true")
	} else if r.timeout > 0 {
		q.Set("wait", r.timeout.String())
	}
	if r.delay > 0 {
		q.Set("delay", r.delay.String())
	}
	progress := func() {}
	if !r.async {
		wctx, stop := context.WithCancel(ctx)
		over := make(chan struct{})
		go func() { a.progress(wctx, cl, record.RunID(r.id)); close(over) }()
		progress = func() { // its last words come before ours
			late := time.AfterFunc(time.Second, stop)
			<-over
			late.Stop()
			stop()
		}
		defer func() { stop(); <-over }() // it writes where we do
	}
	out, status, err := cl.raise(ctx, "/v1/events/"+url.PathEscape(r.event)+"?"+q.Encode(), r.input)
	advice := "`distgear runs watch " + r.id + "` tells more"
	switch e, _ := errors.AsType[*exitError](err); {
	case errors.Is(err, context.Canceled):
		return exit(Unknown, "interrupted; the run goes on: %s", advice)
	case e != nil && e.code == Unknown:
		return exit(Unknown, "%w\n%s", err, advice)
	case e != nil && e.code == Failed:
		progress()
		return err
	case err != nil:
		return err
	case status == http.StatusAccepted && !r.async:
		return exit(Unknown, "not over after %v; the run goes on: %s", r.timeout, advice)
	case r.async:
		if !a.json {
			out = []byte(r.id)
		}
		return a.write(string(out))
	}
	progress()
	return a.write(cmp.Or(string(out), "null"))
}

// progress tells the changes of a run on stderr, from when there is one until
// it is over.
func (a *app) progress(ctx context.Context, cl *client, id record.RunID) {
	for ctx.Err() == nil {
		_, err := a.watchRun(ctx, cl, id, func(c show.Change) error {
			if a.json {
				b, _ := json.Marshal(c) // strings and numbers
				a.say("%s", b)
			} else {
				a.say("%s", c)
			}
			return nil
		})
		if e, ok := errors.AsType[*exitError](err); !ok || e.code != NeverRan {
			return // over, or the answer will tell what is wrong
		}
		t := time.NewTimer(20 * time.Millisecond) // there is no such run yet
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// interrupted turns an error of a context into one that says what goes on.
func interrupted(err error, advice string) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	return exit(Unknown, "interrupted: %s", advice)
}

// input is an argument as JSON, of what is to be raised or sent.
func (a *app) input(ctx context.Context, args []string, what string) ([]byte, error) {
	if len(args) == 0 {
		return nil, nil
	}
	b := []byte(args[0])
	if args[0] == "-" {
		var err error
		if b, err = readAll(ctx, io.LimitReader(a.in, distgear.MaxPayload+1)); ctx.Err() != nil {
			return nil, exit(NeverRan, "interrupted while reading the input: nothing was %s", what)
		} else if err != nil {
			return nil, exit(Usage, "reading the input: %w", err)
		}
	}
	if !json.Valid(b) {
		return nil, exit(Usage, `the input is no JSON: %s (a string is '"text"')`, show.Short(string(b)))
	}
	return b, nil
}

// readAll is io.ReadAll that ends with ctx: a read of a terminal does not.
func readAll(ctx context.Context, r io.Reader) (b []byte, err error) {
	done := make(chan struct{})
	var read []byte
	var failed error
	go func() { // left behind, with the process, if nobody types
		read, failed = io.ReadAll(r)
		close(done)
	}()
	select {
	case <-done:
		return read, failed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// watchRun tells each change of a run and returns its last record.
func (a *app) watchRun(ctx context.Context, cl *client, id record.RunID, tell func(show.Change) error) (record.Run, error) {
	var last record.Run
	for rec, err := range follow[record.Run](ctx, cl, "/v1/runs/"+url.PathEscape(string(id))+"/events", "run") {
		if err != nil {
			return last, err
		}
		for _, c := range show.Changes(last, rec) {
			if err := tell(c); err != nil {
				return last, err
			}
		}
		last = rec
	}
	if ctx.Err() != nil {
		return last, context.Cause(ctx)
	}
	if !last.State.Final() {
		return last, exit(Unknown, "the gateway ended the stream before the run was over: `distgear runs watch %s` goes on", id)
	}
	return last, nil
}
