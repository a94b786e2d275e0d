package executor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/work"
)

// TaskOption is an option of a task: ID, Delay, Priority, Key, Deadline, Labels,
// Retain or Batch; for Map: Ahead, Ordered, Bar; and for Every: Missed.
type TaskOption interface{ set(*options) }

type (
	// ID names a task; without one it cannot be found, and is forgotten at its end. A
	// task that is submitted again under an ID that is known is the same task, whatever
	// its input: the future ends as that does. It is distgear.ErrConflict if the action
	// is another one. At most 200 bytes, without blanks.
	ID string
	// Delay is how long a task waits before it may start.
	Delay time.Duration
	// Priority says who is first: tasks with a higher one start first. -128 to 127; the default is 0.
	Priority int
	// Key is whose task it is: keys take turns, and have limits (Config). At most 200 bytes.
	Key string
	// Deadline says when it is too late: a task that has not started by then never does, and ends with
	// distgear.ErrQueueTimeout.
	Deadline time.Time
	// Labels are what the worker's node must have, each "key=value".
	Labels []string
	// Retain is how long the result of a task with an ID is kept, instead of the
	// executor's Retain.
	Retain time.Duration
	// Batch is the name of what the task is a part of; see AwaitBatch. At most 200 bytes.
	Batch string
	// Ahead is how many tasks of a Map may be submitted and not yielded; zero
	// means 1000.
	Ahead int
	// Ordered says that a Map yields its results in the order of the inputs.
	Ordered bool
)

// options are what the options of a task say.
type options struct {
	spec    work.Spec
	id      string
	ahead   int
	ordered bool
	bar     *Bar
	bulk    bool // Ahead, Ordered or Bar was given
	missed  Missed
	repeats bool // Missed was given
	faults  []error
}

func (o *options) fault(bad bool, format string, args ...any) bool {
	if bad {
		o.faults = append(o.faults, fmt.Errorf(format, args...))
	}
	return bad
}

// maxText bounds IDs, keys and batches, in bytes.
const maxText = 200

func (d ID) set(o *options) {
	s := string(d)
	o.fault(s == "" || len(s) > maxText || strings.ContainsAny(s, " \t\r\n"), "ID %.20q: 1 to %d bytes, without blanks", s, maxText)
	o.id = s
}

func (d Delay) set(o *options) {
	o.fault(d < 0, "Delay %v is negative", time.Duration(d))
	o.spec.NotBefore = up(time.Duration(d))
}

func (p Priority) set(o *options) {
	o.fault(p < -128 || p > 127, "Priority %d: want -128 to 127", int(p))
	o.spec.Priority = int8(p)
}

func (k Key) set(o *options) {
	o.fault(len(k) > maxText, "Key: at most %d bytes", maxText)
	o.spec.Key = string(k)
}

func (d Deadline) set(o *options) {
	left := time.Until(time.Time(d))
	o.fault(left <= 0, "Deadline %v is past", time.Time(d))
	o.spec.Deadline = up(left)
}

func (l Labels) set(o *options) {
	ls := slices.Sorted(slices.Values(l))
	for _, s := range ls {
		k, _, ok := strings.Cut(s, "=")
		o.fault(!ok || k == "" || strings.ContainsAny(s, "\n"), "label %q: want key=value", s)
	}
	o.spec.Labels = strings.Join(slices.Compact(ls), "\n")
}

func (d Retain) set(o *options) {
	o.fault(d < 0, "Retain %v is negative", time.Duration(d))
	o.spec.Retain = up(time.Duration(d))
}

func (b Batch) set(o *options) {
	o.fault(len(b) > maxText, "Batch: at most %d bytes", maxText)
	o.spec.Batch = string(b)
}

func (n Ahead) set(o *options) {
	o.fault(n < 0, "Ahead %d is negative", int(n))
	o.ahead, o.bulk = int(n), true
}

func (b Ordered) set(o *options) { o.ordered, o.bulk = bool(b), true }

// up is a time in ms, and not zero unless d is.
func up(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// read reads the options for tasks whose spec is, without, base.
func read(base *work.Spec, opts []TaskOption, bulk bool) (*options, error) {
	o := &options{spec: *base}
	for _, opt := range opts {
		if !o.fault(opt == nil, "an option is nil") {
			opt.set(o)
		}
	}
	o.fault(o.bulk && !bulk, "Ahead, Ordered and Bar are for Map")
	o.fault(bulk && o.id != "", "an ID is for one task")
	o.fault(o.repeats, "Missed is for Every")
	if len(o.faults) > 0 {
		return nil, fmt.Errorf("%w: task of %s: %w", distgear.ErrInvalid, base.Kind, errors.Join(o.faults...))
	}
	return o, nil
}
