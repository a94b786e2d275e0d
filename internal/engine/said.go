package engine

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sayEvery = 10 * time.Second // what is said again sooner is counted only
	maxSaid  = 256              // texts that are remembered
)

// logger hands the server's warnings and errors to slog; what it says while it
// runs well is not worth a line of the user's log.
type logger struct {
	l     *slog.Logger
	fatal chan error  // 1: only the first is told
	store atomic.Bool // a store could not be written
	twin  func()      // another server has this one's name; nil: nobody wants to know

	mu   sync.Mutex
	said map[string]saying
}

// saying is a text that was told.
type saying struct {
	at    time.Time
	again int // times since then
}

func newLogger(l *slog.Logger, twin func()) *logger {
	return &logger{l: l, fatal: make(chan error, 1), twin: twin, said: map[string]saying{}}
}

// hint says what to do about what NATS says, of the pinned version.
func hint(said string) string {
	switch {
	case strings.Contains(said, "duplicate name"):
		return "another hub has this hub's name: give each of the three a Name (--name) of its own"
	case strings.Contains(said, "authentication error"):
		return "who connects has another token: set Token (DISTGEAR_TOKEN) to the same on all hubs and nodes"
	case strings.Contains(said, "Authorization Violation"):
		return "the other hub has another token: set Token (DISTGEAR_TOKEN) to the same on all hubs and nodes"
	}
	return ""
}

// what is a text without what differs when it is told again: the number of a
// connection or attempt, and the port of who connects.
func what(said string) string {
	if a, rest, ok := strings.Cut(said, "(attempt "); ok {
		_, b, _ := strings.Cut(rest, ")")
		said = a + b
	}
	who, rest, ok := strings.Cut(said, " - ")
	number, text, also := strings.Cut(rest, " - ")
	if !ok || !also || !strings.Contains(number, "id:") {
		return said
	}
	if host, _, err := net.SplitHostPort(who); err == nil {
		who = host
	}
	return who + " " + text
}

// say tells a text, and how often it was not told since the last time.
func (l *logger) say(log func(string, ...any), said string) {
	key, now := what(said), time.Now()
	l.mu.Lock()
	s, known := l.said[key]
	if known && now.Sub(s.at) < sayEvery {
		s.again++
		l.said[key] = s
		l.mu.Unlock()
		return
	}
	if !known && len(l.said) >= maxSaid {
		clear(l.said)
	}
	l.said[key] = saying{at: now}
	l.mu.Unlock()
	var more []any
	if s.again > 0 {
		more = append(more, "again", s.again)
	}
	if do := hint(said); do != "" {
		more = append(more, "do", do)
	}
	log(said, more...)
}

func (l *logger) Noticef(string, ...any) {}
func (l *logger) Debugf(string, ...any)  {}
func (l *logger) Tracef(string, ...any)  {}

func (l *logger) Warnf(format string, v ...any) { l.say(l.l.Warn, fmt.Sprintf(format, v...)) }

func (l *logger) Errorf(format string, v ...any) {
	said := fmt.Sprintf(format, v...)
	switch { // of the pinned version; held by the tests of full disks and of names in package hub
	case strings.Contains(said, "write error") || strings.Contains(said, "failed to store") || strings.Contains(said, "will be DISABLED"):
		l.store.Store(true)
	case strings.Contains(said, "duplicate name") && l.twin != nil:
		l.twin()
	}
	l.say(l.l.Error, said)
}

func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Errorf(format, v...):
	default:
	}
}
