package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/distgear/distgear"
)

// Why an order is not sent.
var (
	errAddress = errors.New("nobody delivers there")
	errStock   = errors.New("none left")
	errMoney   = errors.New("the bank refuses")
)

// prices are in cents.
var prices = map[string]int{"desk": 45_000, "lamp": 3_900, "palace": 99_999_900}

const perItem = 10 // of each thing in a new stock

// order is what the event is raised with.
type order struct {
	ID, Item, To string
}

func parse(text string) (order, error) {
	id, to, _ := strings.Cut(text, "@")
	item, number, ok := strings.Cut(id, "-")
	if !ok || number == "" || prices[item] == 0 || strings.ContainsAny(id, "/ ") {
		return order{}, fmt.Errorf("want THING-NUMBER or THING-NUMBER@PLACE, with a thing of %v", prices)
	}
	return order{id, item, to}, nil
}

// shop has its stock, its reservations and its labels in directories of one
// directory, and a bank.
type shop struct{ dir, bank string }

func (s *shop) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// stockUp makes the directories, and fills the stock if there is none.
func (s *shop) stockUp() error {
	for _, d := range []string{"reserved", "labels"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return err
		}
	}
	if _, err := os.Stat(s.path("stock")); err == nil {
		return nil
	}
	made, err := os.MkdirTemp(s.dir, "stock-") // whole or not at all: workers start at the same time
	if err != nil {
		return err
	}
	for item := range prices {
		for i := range perItem {
			at := filepath.Join(made, item, fmt.Sprintf("%s-%02d", item, i))
			err = errors.Join(err, os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, nil, 0o600))
		}
	}
	if err != nil {
		return err
	}
	if err := os.Rename(made, s.path("stock")); err != nil {
		if _, there := os.Stat(s.path("stock")); there == nil {
			return os.RemoveAll(made) // another was faster
		}
		return err
	}
	return nil
}

// ordered is the event. Its plan is all that a master knows.
func (s *shop) ordered() *distgear.Event[order, string] {
	return &distgear.Event[order, string]{Name: "ordered", Durable: true,
		On: func(ctx context.Context, r *distgear.Run, o order) (string, error) {
			p := distgear.Plan{Name: "order", Rollback: true}
			paid := s.pay().Step(&p, distgear.Any(), o)
			reserved := s.reserve().Step(&p, distgear.Any(), o)
			sent := s.ship().Step(&p, distgear.Any(), o, paid, reserved)
			if err := r.Do(ctx, &p); err != nil {
				return "", err // what was paid is paid back, and what was reserved is in the stock again
			}
			return sent.Result()
		}}
}

// pay charges the price. A second attempt, at another worker too, has the same key.
func (s *shop) pay() *distgear.Action[order, int] {
	return &distgear.Action[order, int]{Name: "pay", Idempotent: true, Retries: 3,
		Do: func(ctx context.Context, o order) (int, error) {
			price := prices[o.Item]
			return price, s.ask(ctx, "/charges", strings.TrimSuffix(distgear.KeyOf(ctx), "/do"), map[string]int{"amount": price})
		},
		Undo: func(ctx context.Context, d distgear.Did[order, int]) error {
			return s.ask(ctx, "/refunds", strings.TrimSuffix(d.Key, "/undo"), nil)
		}}
}

// ask sends a request to the bank. What it refuses was not done: clean, and no reason
// to try again. Of what it did not answer nobody knows.
func (s *shop) ask(ctx context.Context, path, key string, in any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, s.bank+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	q.Header.Set("Idempotency-Key", key)
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }() // it is read
	why, err := io.ReadAll(io.LimitReader(a.Body, 1<<10))
	switch {
	case a.StatusCode < 300:
		return nil
	case a.StatusCode < 500 && err == nil:
		return distgear.Permanent(distgear.Clean(fmt.Errorf("%w: %s", errMoney, bytes.TrimSpace(why))))
	}
	return errors.Join(fmt.Errorf("the bank says %s: %s", a.Status, bytes.TrimSpace(why)), err)
}

// reserve moves a thing from the stock into the order's directory. It is not Idempotent:
// two attempts at once could take two.
func (s *shop) reserve() *distgear.Action[order, string] {
	return &distgear.Action[order, string]{Name: "reserve",
		Do: func(_ context.Context, o order) (string, error) {
			if err := os.Mkdir(s.path("reserved", o.ID), 0o700); err != nil {
				return "", err
			}
			things, err := os.ReadDir(s.path("stock", o.Item))
			if err != nil {
				return "", err
			}
			for _, thing := range things {
				err := os.Rename(s.path("stock", o.Item, thing.Name()), s.path("reserved", o.ID, thing.Name()))
				if !errors.Is(err, fs.ErrNotExist) { // another order took it
					return thing.Name(), err
				}
			}
			return "", distgear.Permanent(fmt.Errorf("%w: %s", errStock, o.Item)) // dirty: the directory is to go
		},
		// Undo moves it back, and leaves a file where the directory was, or would be:
		// what comes late cannot be made there.
		Undo: func(_ context.Context, d distgear.Did[order, string]) error {
			at := s.path("reserved", d.In.ID)
			if st, err := os.Stat(at); err == nil && !st.IsDir() {
				return nil // it was undone
			}
			things, err := os.ReadDir(at)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			for _, thing := range things {
				if err := os.Rename(filepath.Join(at, thing.Name()), s.path("stock", d.In.Item, thing.Name())); err != nil {
					return err
				}
			}
			if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return os.WriteFile(at, []byte("released\n"), 0o600)
		}}
}

// ship writes the label that tells the carrier to come. It is made whole under another
// name, and gets its own only if there is none.
func (s *shop) ship() *distgear.Action[order, string] {
	return &distgear.Action[order, string]{Name: "ship", Idempotent: true, Retries: 3,
		Do: func(_ context.Context, o order) (string, error) {
			if o.To == "Atlantis" {
				return "", distgear.Permanent(distgear.Clean(fmt.Errorf("%w: %s", errAddress, o.To)))
			}
			at := s.path("labels", o.ID)
			made, err := os.CreateTemp(s.path("labels"), "."+o.ID+"-")
			if err != nil {
				return "", err
			}
			_, err = fmt.Fprintf(made, "%s for %s, to %s\n", o.Item, o.ID, o.To)
			if err = errors.Join(err, made.Close()); err == nil {
				if err = os.Link(made.Name(), at); errors.Is(err, fs.ErrExist) {
					err = nil // an attempt before has made it
				}
			}
			return o.ID + " is on its way", errors.Join(err, os.Remove(made.Name()))
		},
		// Undo strikes the label out: one that comes late finds its name taken.
		Undo: func(_ context.Context, d distgear.Did[order, string]) error {
			return os.WriteFile(s.path("labels", d.In.ID), []byte("void\n"), 0o600)
		}}
}
