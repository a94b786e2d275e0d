package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
)

// pipeSlots is how many appends a pipe may have in flight.
const pipeSlots = 64

// Pipe appends to a log, with many appends under way at a time. Its callbacks
// cost no goroutine each: all come from one, which belongs to the connection.
//
// An append whose callback does not come is unknown, as is one that failed.
// Then the pipe is closed, the log read, and another pipe opened: answers to
// the first cannot be taken for those of the second.
type Pipe struct {
	l      *Log
	prefix string // of the subjects of answers, with the final dot
	sub    *nats.Subscription

	mu     sync.Mutex
	done   [pipeSlots]func(seq uint64, err error)
	free   []int
	closed bool
}

// Pipe opens a pipe.
func (l *Log) Pipe() (*Pipe, error) {
	p := &Pipe{l: l, prefix: l.c.nc.NewInbox() + "."}
	for i := range p.done {
		p.free = append(p.free, i)
	}
	var err error
	if p.sub, err = l.c.nc.Subscribe(p.prefix+"*", p.answer); err != nil {
		return nil, l.fault(err)
	}
	if err := p.sub.SetPendingLimits(-1, -1); err != nil {
		return nil, l.fault(err)
	}
	return p, nil
}

// Append sends a record that shall follow the record last, and returns. The
// data may be used again when it has returned. Then done is called at most once,
// from one goroutine: with the record's number, or an error. It must not block
// or call the pipe. Append itself fails, and then done is not called, when the
// connection is down or 64 appends wait for an answer.
func (p *Pipe) Append(last uint64, data []byte, done func(seq uint64, err error)) error {
	p.mu.Lock()
	if p.closed || len(p.free) == 0 {
		p.mu.Unlock()
		return fmt.Errorf("log %s: %w: the pipe is closed or full", p.l.cfg.Name, ErrUnavailable)
	}
	slot := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.done[slot] = done
	p.mu.Unlock()
	err := p.l.c.nc.PublishMsg(&nats.Msg{
		Subject: p.l.cfg.Subject,
		Reply:   p.prefix + strconv.Itoa(slot),
		Header:  nats.Header{"Nats-Expected-Last-Sequence": []string{strconv.FormatUint(last, 10)}},
		Data:    data,
	})
	if err != nil {
		p.take(slot)
		return p.l.fault(err)
	}
	return nil
}

// take ends the wait of a slot.
func (p *Pipe) take(slot int) func(uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := p.done[slot]
	if done != nil {
		p.done[slot] = nil
		p.free = append(p.free, slot)
	}
	if p.closed {
		return nil
	}
	return done
}

func (p *Pipe) answer(m *nats.Msg) {
	slot, err := strconv.Atoi(m.Subject[len(p.prefix):])
	if err != nil || slot < 0 || slot >= pipeSlots {
		return // nobody of ours wrote that
	}
	if done := p.take(slot); done != nil {
		done(p.l.parseAck(m))
	}
}

// storageCodes are the answers of a stream that cannot store: resources, store
// failed, limits.
var storageCodes = []int{10023, 10047, 10077, 10028, 10054, 10122}

func (l *Log) parseAck(m *nats.Msg) (uint64, error) {
	if len(m.Data) == 0 {
		return 0, fmt.Errorf("log %s: %w: status %s", l.cfg.Name, ErrUnavailable, m.Header.Get("Status"))
	}
	if seq, ok := l.plainAck(m.Data); ok {
		return seq, nil
	}
	var ack struct {
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
		Error  *struct {
			Code        int    `json:"code"`
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return 0, fmt.Errorf("log %s: acknowledgement: %w", l.cfg.Name, errors.Join(ErrUnavailable, err))
	}
	if ack.Error != nil {
		id := ErrUnavailable
		switch {
		case ack.Error.ErrCode == 10071 || ack.Error.ErrCode == 10164:
			id = ErrConflict
		case slices.Contains(storageCodes, ack.Error.ErrCode):
			id = ErrStorage
		}
		return 0, fmt.Errorf("log %s: %w: %s (%d)", l.cfg.Name, id, ack.Error.Description, ack.Error.ErrCode)
	}
	if ack.Stream != l.cfg.Name || ack.Seq == 0 {
		return 0, fmt.Errorf("log %s: %w: acknowledged by stream %q", l.cfg.Name, ErrUnavailable, ack.Stream)
	}
	return ack.Seq, nil
}

// plainAck reads the acknowledgement as servers write it when all is well:
// {"stream":NAME,"seq":NUMBER} and maybe more behind a comma.
func (l *Log) plainAck(data []byte) (seq uint64, ok bool) {
	rest, ok := bytes.CutPrefix(data, l.ackHead)
	if !ok {
		return 0, false
	}
	i := 0
	for ; i < len(rest) && i < 19 && '0' <= rest[i] && rest[i] <= '9'; i++ {
		seq = seq*10 + uint64(rest[i]-'0')
	}
	if i == 0 || i == len(rest) || rest[i] != '}' && rest[i] != ',' {
		return 0, false
	}
	return seq, seq != 0 && !bytes.Contains(rest, []byte(`"error"`))
}

// Close ends the pipe: no callback begins after it has returned.
func (p *Pipe) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.sub.Unsubscribe() // fails only when the connection is closed
}
