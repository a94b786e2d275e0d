package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
)

// limit is the most that the bank charges at once, in cents.
const limit = 100_000

// booking is a line of the bank's book: a charge of a key, or what ended it.
type booking struct {
	Key    string `json:"key"`
	Amount int    `json:"amount"` // in cents; negative: paid back; zero: refused for ever
}

// bank is an HTTP service that charges once for each Idempotency-Key:
//
//	POST /charges  {"amount": 1200}   201 charged, 200 it was before, 402 too much, 409 another amount, 410 it was paid back
//	POST /refunds                     200 it is paid back, or was not charged and will never be
//	GET  /book                        200 all bookings, a line each
type bank struct {
	mu   sync.Mutex
	f    *os.File
	keys map[string]account
}

// account is what the book says of a key.
type account struct {
	amount int
	closed bool
}

func openBank(dir string) (*bank, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "book"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	b := &bank{f: f, keys: map[string]account{}}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var x booking
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			return nil, errors.Join(fmt.Errorf("the bank's book in %s: %w", dir, err), f.Close())
		}
		b.take(x)
	}
	if err := lines.Err(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

func (b *bank) close() error { return b.f.Close() }

func (b *bank) take(x booking) {
	a := b.keys[x.Key]
	a.amount += x.Amount
	a.closed = a.closed || x.Amount <= 0
	b.keys[x.Key] = a
}

// write books, on disk before it counts.
func (b *bank) write(x booking) error {
	line, err := json.Marshal(x)
	if err == nil {
		_, err = b.f.Write(append(line, '\n'))
	}
	if err == nil {
		err = b.f.Sync()
	}
	if err == nil {
		b.take(x)
	}
	return err
}

func (b *bank) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /charges", b.charge)
	m.HandleFunc("POST /refunds", b.refund)
	m.HandleFunc("GET /book", func(w http.ResponseWriter, q *http.Request) { http.ServeFile(w, q, b.f.Name()) })
	return m
}

func (b *bank) charge(w http.ResponseWriter, q *http.Request) {
	var in struct {
		Amount int `json:"amount"`
	}
	key := q.Header.Get("Idempotency-Key")
	if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, 1<<10)).Decode(&in); err != nil || in.Amount <= 0 || key == "" {
		http.Error(w, `want an Idempotency-Key and {"amount": cents}`, http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a, known := b.keys[key]
	switch {
	case a.closed:
		http.Error(w, "it was paid back", http.StatusGone)
	case known && a.amount != in.Amount:
		http.Error(w, fmt.Sprintf("it was charged with %d", a.amount), http.StatusConflict)
	case known:
		w.WriteHeader(http.StatusOK)
	case in.Amount > limit:
		http.Error(w, fmt.Sprintf("%d is more than %d", in.Amount, limit), http.StatusPaymentRequired)
	default:
		b.answer(w, booking{key, in.Amount}, http.StatusCreated)
	}
}

func (b *bank) refund(w http.ResponseWriter, q *http.Request) {
	key := q.Header.Get("Idempotency-Key")
	if key == "" {
		http.Error(w, "want the Idempotency-Key of the charge", http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.keys[key]
	if a.closed {
		w.WriteHeader(http.StatusOK)
		return
	}
	b.answer(w, booking{key, -a.amount}, http.StatusOK)
}

func (b *bank) answer(w http.ResponseWriter, x booking, code int) {
	if err := b.write(x); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(code)
}
