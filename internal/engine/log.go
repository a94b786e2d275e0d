package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The errors of a log. Of an append each of them means unknown: the record may
// be in the log, or come into it later. Read before deciding.
var (
	ErrConflict    = errors.New("the log does not end where expected") // also told when it does: rejections are no information
	ErrUnavailable = errors.New("the log does not answer")             // no leader, no connection, no time left
	ErrStorage     = errors.New("the log cannot store")                // disk full, limit reached, store broken
	ErrTruncated   = errors.New("the log begins later than that")      // what was asked for was purged
	ErrDamaged     = errors.New("records are missing in the log")      // deleted by hand, or a broken store
	ErrGone        = errors.New("the log does not exist")              // deleted, or kept in the memory of a server that ended
)

// minVersion is the oldest server that is trusted with a log: see the Jepsen
// findings on 2.12.1 and the fixes since.
var minVersion = [3]int{2, 15, 2}

// LogConfig says which log.
type LogConfig struct {
	Name     string // letters, digits, '-' and '_'
	Subject  string // nobody else publishes there
	Replicas int    // zero: 1
	Memory   bool   // keep it in memory only
	MaxBytes int64  // when it is full, appends fail with ErrStorage; zero: no limit but the server's
}

// Log is one replicated sequence of records, numbered from 1. It is safe for
// concurrent use.
type Log struct {
	c   *Conn
	cfg LogConfig
	js  jetstream.JetStream

	ackHead []byte // how its acknowledgements begin
}

// Bounds tells what a log holds.
type Bounds struct {
	First, Last uint64 // sequence numbers; Last is First-1 when it holds nothing
	Bytes       uint64
	Replicas    int
	Memory      bool
	Behind      []string // servers that run and whose replica is not kept up
}

// OpenLog opens a log and creates it when there is none. It tries until ctx
// ends while the servers are not ready, and fails at once when the log there is
// another than asked for, or the server is too old.
func OpenLog(ctx context.Context, c *Conn, cfg LogConfig) (*Log, error) {
	cfg.Replicas = cmp.Or(cfg.Replicas, 1)
	js, err := jetstream.New(c.nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", cfg.Name, err)
	}
	l := &Log{c: c, cfg: cfg, js: js, ackHead: fmt.Appendf(nil, `{"stream":"%s","seq":`, cfg.Name)}
	for {
		if v := c.nc.ConnectedServerVersion(); v != "" && !recent(v) {
			return nil, fmt.Errorf("log %s: nats-server %s loses what it acknowledged; run %d.%d.%d or newer", cfg.Name, v, minVersion[0], minVersion[1], minVersion[2])
		}
		again, err := l.open(ctx)
		if err == nil {
			return l, nil
		}
		if !again {
			return nil, fmt.Errorf("log %s: %w", cfg.Name, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("log %s: %w (does the NATS server run JetStream, with %d servers for %d replicas?)", cfg.Name, errors.Join(context.Cause(ctx), err), cfg.Replicas, cfg.Replicas)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Logs asks the servers how many replicas a log should have there: 1, 3 where
// they are a cluster, and 0 where they keep no logs.
func (c *Conn) Logs(ctx context.Context) int {
	js, err := jetstream.New(c.nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		return 0
	}
	ask, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = js.AccountInfo(ask)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return 0
	case c.nc.ConnectedClusterName() != "":
		return 3 // also while they elect a leader, and do not answer
	}
	return 1
}

// recent reports whether a version is the floor or above; one that cannot be
// read is.
func recent(version string) bool {
	version, _, _ = strings.Cut(version, "-")
	for i, part := range strings.SplitN(version, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return true
		}
		if n != minVersion[i] {
			return n > minVersion[i]
		}
	}
	return true
}

// How long one attempt to open a log lasts.
const (
	lookPatience   = 300 * time.Millisecond
	createPatience = 3 * time.Second
)

// open finds or creates the stream; again tells that it may work later.
func (l *Log) open(ctx context.Context) (again bool, err error) {
	// Servers that are electing a leader do not answer at all.
	look, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	s, err := l.js.Stream(look, l.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want := jetstream.StreamConfig{
			Name: l.cfg.Name, Subjects: []string{l.cfg.Subject}, Replicas: l.cfg.Replicas,
			MaxMsgs: -1, MaxBytes: -1, MaxConsumers: -1, MaxMsgSize: -1, MaxMsgsPerSubject: -1,
			Discard: jetstream.DiscardNew, AllowDirect: true,
			Duplicates: time.Second, // no record has an id; the least that is configured
		}
		if l.cfg.MaxBytes > 0 {
			want.MaxBytes = l.cfg.MaxBytes
		}
		if l.cfg.Memory {
			want.Storage = jetstream.MemoryStorage
		}
		try, cancel := context.WithTimeout(ctx, createPatience)
		defer cancel()
		s, err = l.js.CreateStream(try, want)
	}
	if err != nil {
		return !refused(err), err
	}
	return false, l.check(s.CachedInfo())
}

// noPeers is what a leader answers that has just been elected and has not heard of
// enough servers yet.
const noPeers = 10005

// refused tells whether a server has understood what it was asked for, and will never do it.
func refused(err error) bool {
	a, ok := errors.AsType[*jetstream.APIError](err)
	return ok && a.Code < 500 && a.ErrorCode != noPeers
}

// check refuses a stream that would not keep what it acknowledges.
func (l *Log) check(i *jetstream.StreamInfo) error {
	has := i.Config
	var faults []error
	fault := func(format string, v ...any) { faults = append(faults, fmt.Errorf(format, v...)) }
	if len(has.Subjects) != 1 || has.Subjects[0] != l.cfg.Subject {
		fault("holds the subjects %q, not %s", has.Subjects, l.cfg.Subject)
	}
	if memory := has.Storage == jetstream.MemoryStorage; memory != l.cfg.Memory {
		fault("is kept in %v storage", has.Storage)
	}
	if has.Replicas != l.cfg.Replicas {
		fault("has %d replicas, not %d", has.Replicas, l.cfg.Replicas)
	}
	if has.PersistMode != jetstream.DefaultPersistMode {
		fault("has an asynchronous persist mode: it would acknowledge what is not stored")
	}
	if has.Retention != jetstream.LimitsPolicy || has.MaxAge != 0 || has.MaxMsgs > 0 || has.MaxMsgsPerSubject > 0 || has.Discard != jetstream.DiscardNew || has.NoAck || has.AllowRollup {
		fault("would drop records by itself (retention, limits, discard or rollup)")
	}
	if !has.AllowDirect {
		fault("has no direct get")
	}
	if len(faults) > 0 {
		return fmt.Errorf("a stream of that name is there and %w: set it right, or remove it with what it holds", errors.Join(faults...))
	}
	return nil
}

// What is told of a replica: every one is some records behind while there is traffic.
const (
	silentReplica = 3 * time.Second
	farBehind     = 1000 // records
)

// Bounds asks the log's leader what it holds. The answer is not linearizable:
// a leader that was deposed and does not know it answers too.
func (l *Log) Bounds(ctx context.Context) (Bounds, error) {
	s, err := l.js.Stream(ctx, l.cfg.Name)
	if err != nil {
		return Bounds{}, l.fault(err)
	}
	i := s.CachedInfo()
	b := Bounds{First: i.State.FirstSeq, Last: i.State.LastSeq, Bytes: i.State.Bytes,
		Replicas: i.Config.Replicas, Memory: i.Config.Storage == jetstream.MemoryStorage}
	if i.Cluster != nil {
		for _, r := range i.Cluster.Replicas {
			if !r.Current && !r.Offline && (r.Active > silentReplica || r.Lag > farBehind) {
				b.Behind = append(b.Behind, r.Name)
			}
		}
	}
	return b, nil
}

// Last asks the log's leader for the number of the last record; see Bounds.
func (l *Log) Last(ctx context.Context) (uint64, error) {
	b, err := l.Bounds(ctx)
	return b.Last, err
}

// Purge removes the records before keep. An error means that they may be there
// still; purging again does no harm.
func (l *Log) Purge(ctx context.Context, keep uint64) error {
	s, err := l.js.Stream(ctx, l.cfg.Name)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSequence(keep))
	}
	return l.fault(err)
}

// fault gives an error of the library one of the log's identities.
func (l *Log) fault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("log %s: %w", l.cfg.Name, ErrGone)
	}
	return fmt.Errorf("log %s: %w: %w", l.cfg.Name, ErrUnavailable, err)
}

// The size of one answer to a reader.
const (
	readBatch = 1024    // records
	readBytes = 4 << 20 // bytes, at most one record more
)

const (
	// readPatience is how long a reader waits for the next record of a batch.
	readPatience = 500 * time.Millisecond
	// askPatience is how long it waits for the first one: then it asks again, and
	// another replica answers. One that is stopped would hold it up.
	askPatience = 100 * time.Millisecond
	readTries   = 4
)

var errSilent = errors.New("no replica answered in time")

// Read calls f with the records from a number on, up to the last one that the
// replica which answers has, and returns the number after it. From 0 means
// from the first there is. The data belongs to f; its error ends the reading.
//
// Any replica answers, so what it reads is a prefix of the log and all of it is
// committed, but it need not be the end: whoever must know appends.
// ErrTruncated: from was purged. ErrDamaged: a record is missing.
func (l *Log) Read(ctx context.Context, from uint64, f func(seq uint64, data []byte) error) (next uint64, err error) {
	next = from
	for range readTries {
		if next, err = l.read(ctx, next, f); !errors.Is(err, errSilent) {
			break
		}
	}
	return next, err
}

// read is Read until a replica is silent.
func (l *Log) read(ctx context.Context, next uint64, f func(seq uint64, data []byte) error) (uint64, error) {
	inbox := l.c.nc.NewInbox()
	sub, err := l.c.nc.SubscribeSync(inbox)
	if err != nil {
		return next, l.fault(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return next, l.fault(err)
	}
	for {
		at := max(next, 1)
		req := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"max_bytes":%d}`, at, readBatch, readBytes)
		if err := l.c.nc.PublishRequest("$JS.API.DIRECT.GET."+l.cfg.Name, inbox, req); err != nil {
			return next, l.fault(err)
		}
		more, err := l.batch(ctx, sub, &next, f)
		if err != nil || !more {
			return next, err
		}
	}
}

// batch takes the answer to one request; more tells that the log goes on.
func (l *Log) batch(ctx context.Context, sub *nats.Subscription, next *uint64, f func(uint64, []byte) error) (more bool, err error) {
	for patience := askPatience; ; patience = readPatience {
		wait, cancel := context.WithTimeout(ctx, patience)
		m, err := sub.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return false, cause
			}
			if patience == askPatience && errors.Is(err, context.DeadlineExceeded) {
				err = errors.Join(errSilent, err)
			}
			return false, l.fault(err)
		}
		if len(m.Data) == 0 {
			switch status := m.Header.Get("Status"); status {
			case "204":
				return m.Header.Get("Nats-Num-Pending") != "0", nil
			case "404":
				return false, nil
			case "":
			default:
				return false, fmt.Errorf("log %s: %w: status %s %s", l.cfg.Name, ErrUnavailable, status, m.Header.Get("Description"))
			}
		}
		seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return false, fmt.Errorf("log %s: an answer without a sequence number: %w", l.cfg.Name, err)
		}
		if *next != 0 && seq != *next {
			return false, l.gap(ctx, *next, seq)
		}
		if err := f(seq, m.Data); err != nil {
			return false, err
		}
		*next = seq + 1
	}
}

// gap tells why a record is not there.
func (l *Log) gap(ctx context.Context, want, got uint64) error {
	b, err := l.Bounds(ctx)
	switch {
	case err != nil:
		return err
	case b.First > want:
		return fmt.Errorf("log %s: %w: record %d was asked for, the first is %d", l.cfg.Name, ErrTruncated, want, b.First)
	}
	return fmt.Errorf("log %s: %w: %d to %d", l.cfg.Name, ErrDamaged, want, got-1)
}
