package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrNoObject is the answer when nothing is stored under a name.
var ErrNoObject = errors.New("no such object is stored")

// MaxObject is how large a stored object may be, in bytes.
const MaxObject = 64 << 20

// Objects is a store for what is too large for messages, beside a log: as safe
// as that, with as many replicas. It is made when something is put into it
// first. It is safe for concurrent use.
type Objects struct {
	c   *Conn
	log string

	mu sync.Mutex
	js jetstream.JetStream   // nil before the first use
	os jetstream.ObjectStore // nil: not looked for yet
	n  int                   // of its replicas
}

// Objects returns the store beside the log with that name. It does no I/O.
func (c *Conn) Objects(log string) *Objects { return &Objects{c: c, log: log} }

// ObjectInfo tells of a stored object.
type ObjectInfo struct {
	Name string
	Size uint64
	At   time.Time // when it was put, by the server's clock
}

// Put stores data under a name, instead of what is there. Nil means that it is
// as safe as a record of the log. While the servers do not answer it tries
// again until ctx ends.
func (o *Objects) Put(ctx context.Context, name string, data []byte) error {
	if len(data) > MaxObject {
		return fmt.Errorf("an object of %d bytes: at most %d are stored", len(data), MaxObject)
	}
	return o.try(ctx, "put", name, true, func(ctx context.Context, s jetstream.ObjectStore) error {
		_, err := s.Put(ctx, jetstream.ObjectMeta{Name: name}, &patient{*bytes.NewReader(data), ctx, o.c.nc})
		return err
	})
}

// patient waits for the server before it says that all was read. The client starts a
// goroutine when the first part is sent, which would never end if it came to run only
// after the whole was stored (nats.go 1.55).
type patient struct {
	bytes.Reader

	ctx context.Context //nolint:containedctx // of one Put
	c   *nats.Conn
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	if p.Len() == 0 {
		for range 3 {
			if p.c.FlushWithContext(p.ctx) != nil {
				break // Put says what is wrong, if it matters
			}
		}
	}
	return p.Reader.Read(b)
}

// missing is how long an object may not be seen yet at a replica that is asked,
// after it was stored.
const missing = time.Second

// Get reads what is stored under a name: ErrNoObject when that is nothing. While
// the servers do not answer it tries again until ctx ends.
func (o *Objects) Get(ctx context.Context, name string) (data []byte, err error) {
	began := time.Now()
	err = o.try(ctx, "get", name, false, func(ctx context.Context, s jetstream.ObjectStore) error {
		data, err = s.GetBytes(ctx, name)
		if errors.Is(err, jetstream.ErrObjectNotFound) && o.replicas() > 1 && time.Since(began) < missing {
			err = errLate
		}
		return err
	})
	return data, err
}

var errLate = errors.New("not seen yet")

// Delete removes what is stored under a name, if there is anything.
func (o *Objects) Delete(ctx context.Context, name string) error {
	err := o.try(ctx, "delete", name, false, func(ctx context.Context, s jetstream.ObjectStore) error {
		return s.Delete(ctx, name)
	})
	if errors.Is(err, ErrNoObject) {
		return nil
	}
	if err != nil {
		return err
	}
	// What tells that it was deleted would stay for ever.
	stream, err := o.js.Stream(ctx, streamOf(o.log))
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject("$O."+o.log+".M."+base64.URLEncoding.EncodeToString([]byte(name))))
	}
	return o.fault("delete", name, err)
}

func streamOf(log string) string { return "OBJ_" + log }

// listPatience is how long nothing may come of a list: if what would be the last of
// it is deleted meanwhile, nothing says that it was.
const listPatience = time.Second

// List tells what is stored; nothing, if the store was not made yet.
func (o *Objects) List(ctx context.Context) (all []ObjectInfo, err error) {
	err = o.try(ctx, "list", "", false, func(ctx context.Context, s jetstream.ObjectStore) error {
		w, err := s.Watch(ctx, jetstream.IgnoreDeletes())
		if err != nil {
			return err
		}
		defer func() { _ = w.Stop() }() // nothing is kept of it
		all = all[:0]
		stuck := time.NewTimer(listPatience)
		defer stuck.Stop()
		for {
			select {
			case i := <-w.Updates():
				if i == nil { // that was all
					return nil
				}
				all = append(all, ObjectInfo{i.Name, i.Size, i.ModTime})
				stuck.Reset(listPatience)
			case <-stuck.C:
				return errLate
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	if errors.Is(err, ErrNoObject) {
		return nil, nil
	}
	return all, err
}

// objectPatience is how long one attempt may take: the largest object on a slow
// road.
const objectPatience = 30 * time.Second

// try runs f on the store, again while the servers do not answer.
func (o *Objects) try(ctx context.Context, what, name string, fresh bool, f func(context.Context, jetstream.ObjectStore) error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		s, err := o.store(ctx, fresh)
		if err == nil {
			once, cancel := context.WithTimeout(ctx, objectPatience)
			err = f(once, s)
			cancel()
		}
		if err == nil || final(err) {
			return o.fault(what, name, err)
		}
		o.forget(s)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return o.fault(what, name, errors.Join(context.Cause(ctx), err))
		}
	}
}

// final tells that trying again is useless.
func final(err error) bool {
	if errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return true
	}
	return refused(err) && !errors.Is(err, jetstream.ErrStreamNotFound)
}

// fault says an error in the words of this package.
func (o *Objects) fault(what, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrObjectNotFound), errors.Is(err, jetstream.ErrBucketNotFound):
		err = ErrNoObject
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		err = fmt.Errorf("%w: the NATS server has no JetStream", ErrUnavailable)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if name == "" {
		return fmt.Errorf("objects of %s: %s: %w", o.log, what, err)
	}
	return fmt.Errorf("object %s of %s: %s: %w", name, o.log, what, err)
}

// store looks the store up, and makes it if that is wanted.
func (o *Objects) store(ctx context.Context, fresh bool) (jetstream.ObjectStore, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.os != nil {
		return o.os, nil
	}
	var err error
	if o.js == nil {
		if o.js, err = jetstream.New(o.c.nc, jetstream.WithDefaultTimeout(2*time.Second)); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s, err := o.js.ObjectStore(ctx, o.log)
	if errors.Is(err, jetstream.ErrBucketNotFound) && fresh {
		var log jetstream.Stream
		if log, err = o.js.Stream(ctx, o.log); err != nil {
			return nil, err
		}
		has := log.CachedInfo().Config
		s, err = o.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: o.log, Description: "what is too large for the log " + o.log, Storage: has.Storage, Replicas: has.Replicas,
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // somebody else made it meanwhile
			s, err = o.js.ObjectStore(ctx, o.log)
		}
	}
	if err != nil {
		return nil, err
	}
	st, err := s.Status(ctx)
	if err != nil {
		return nil, err
	}
	o.os, o.n = s, st.Replicas()
	return s, nil
}

func (o *Objects) replicas() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n
}

// forget has the store looked up again: it may have been kept in the memory of a
// server that ended.
func (o *Objects) forget(s jetstream.ObjectStore) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.os == s {
		o.os = nil
	}
}
