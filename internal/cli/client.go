package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"
)

const defaultGateway = "http://127.0.0.1:8422"

// client asks a gateway. Its errors carry the exit code.
type client struct {
	base, token string
	patience    time.Duration // for an answer that the gateway need not wait for
}

func (a *app) client() (*client, error) {
	base := cmp.Or(a.gateway, os.Getenv("DISTGEAR_GATEWAY"), defaultGateway)
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, exit(Usage, "%s is no URL of a gateway, such as %s", base, defaultGateway)
	}
	return &client{strings.TrimRight(base, "/"), a.tokenOr(), askTime}, nil
}

// problem is what a gateway answers instead of a result (RFC 9457).
type problem struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Outcome string `json:"outcome"`
	Run     string `json:"run"`
}

// err is the problem as the command tells it.
func (p *problem) err() error {
	text := cmp.Or(p.Detail, p.Title, http.StatusText(p.Status))
	slug := p.Type[strings.LastIndex(p.Type, "#")+1:]
	switch slug {
	case "unauthorized":
		text = "the gateway wants a token: give --token or DISTGEAR_TOKEN"
	case "forbidden":
		text += ": ask from the gateway's machine, or start it with a token"
	case "unknown-event":
		text += "\nno live node handles it: `distgear nodes` shows what they handle"
	case "unknown-run":
		text += "\n`distgear runs list` shows what the nodes remember"
	case "unknown-executor":
		text += "\n`distgear executors` lists those there are"
	case "unknown-task":
		text += "\n`distgear tasks EXECUTOR` lists those that are known"
	case "unknown-schedule":
		text += "\n`distgear schedules` lists those there are"
	case "overloaded", "unavailable", "stopping":
		text += ": try again later"
	}
	code := Failed
	if slug == "bad-request" {
		return exit(Usage, "%s", text)
	}
	switch p.Outcome {
	case "never ran":
		code = NeverRan
	case "unknown":
		code = Unknown
		if p.Run != "" {
			text += "\n`distgear runs show " + p.Run + "` tells more"
		}
	}
	return exit(code, "%s", text)
}

// do sends a request and returns the answer, whose body the caller closes.
func (c *client) do(ctx context.Context, method, path string, body []byte, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, exit(Usage, "%w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if u, err := user.Current(); err == nil && method != http.MethodGet {
		req.Header.Set("Distgear-By", u.Username)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := http.DefaultClient.Do(req)
	switch {
	case ctx.Err() != nil:
		if res != nil {
			_ = res.Body.Close()
		}
		return nil, context.Cause(ctx)
	case err != nil:
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		if op, ok := errors.AsType[*net.OpError](err); method != http.MethodGet && (!ok || op.Op != "dial") {
			return nil, exit(Unknown, "%s did not answer: %w", c.base, err)
		}
		return nil, exit(Unreachable, "no hub answers at %s: start one with `distgear hub`, or say where it is with --gateway (%w)", c.base, err)
	case res.StatusCode >= 400:
		defer res.Body.Close()
		p := problem{Status: res.StatusCode}
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // what there is of it
		if json.Unmarshal(b, &p) != nil || p.Type == "" {
			return nil, exit(Unreachable, "%s answers %s, but is no gateway of DistGear", c.base, res.Status)
		}
		if res.StatusCode == http.StatusUnauthorized && c.token != "" {
			return nil, exit(NeverRan, "the gateway does not take this token: give another with --token or DISTGEAR_TOKEN")
		}
		return nil, p.err()
	}
	return res, nil
}

// askTime is the patience of commands.
const askTime = 15 * time.Second

// call is do with the JSON answer decoded into out.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	if method == http.MethodGet {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.patience, exit(Unreachable, "%s does not answer: is it frozen? Ask another hub, with --gateway", c.base))
		defer cancel()
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return exit(Usage, "%w", err)
		}
	}
	res, err := c.do(ctx, method, path, body, "")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// raise posts an event and returns the answer as it is.
func (c *client) raise(ctx context.Context, path string, input []byte) (out []byte, status int, err error) {
	res, err := c.do(ctx, http.MethodPost, path, input, "")
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	if out, err = io.ReadAll(res.Body); err != nil {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		return nil, 0, exit(Unknown, "the answer of %s broke off: %w", c.base, err)
	}
	return bytes.TrimSpace(out), res.StatusCode, nil
}

// broken is an answer that ended before it was whole.
func (c *client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return exit(Unreachable, "the answer of %s broke off: %w", c.base, err)
}

// event is a server-sent event.
type event struct {
	name, data string
}

// stream yields the events of a path until the server ends it.
func (c *client) stream(ctx context.Context, path string) iter.Seq2[event, error] {
	return func(yield func(event, error) bool) {
		res, err := c.do(ctx, http.MethodGet, path, nil, "text/event-stream")
		if err != nil {
			yield(event{}, err)
			return
		}
		defer res.Body.Close()
		var e event
		r := bufio.NewReader(res.Body)
		for {
			text, err := r.ReadString('\n')
			if err != nil {
				if !errors.Is(err, io.EOF) || text != "" || e.data != "" {
					yield(event{}, c.broken(ctx, err))
				}
				return
			}
			text = strings.TrimRight(text, "\r\n")
			field, value, _ := strings.Cut(text, ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case text == "":
				if e.data != "" && !yield(e, nil) {
					return
				}
				e = event{}
			case field == "event":
				e.name = value
			case field == "data":
				e.data += value
			}
		}
	}
}

// follow yields the values of a stream's events of those names.
func follow[T any](ctx context.Context, c *client, path string, names ...string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		for e, err := range c.stream(ctx, path) {
			var v T
			switch {
			case err != nil:
			case e.name == "error":
				var p problem
				if err = json.Unmarshal([]byte(e.data), &p); err == nil {
					err = p.err()
				}
			case !slices.Contains(names, e.name):
				continue
			default:
				if err = json.Unmarshal([]byte(e.data), &v); err != nil {
					err = fmt.Errorf("the gateway sent what this version does not know: %w", err)
				}
			}
			if err != nil {
				yield(zero, err)
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}
