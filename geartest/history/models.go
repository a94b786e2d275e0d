package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// LockVerb is what is asked of a lock.
type LockVerb string

// The verbs of locks. What a TryLock is refused for a model cannot know: it may be refused at any time.
const (
	Lock      LockVerb = "lock"
	Unlock    LockVerb = "unlock" // Unknown if it was lost: free at any time from then on
	RLock     LockVerb = "rlock"
	RUnlock   LockVerb = "runlock"
	Downgrade LockVerb = "downgrade"
)

// Grant is what a lock answers.
type Grant struct {
	OK    bool   // it is held
	Token uint64 // zero: the lock gives none, or it was not noted
}

// Locked is the state of LockModel.
type Locked struct {
	writer  int    // client+1; zero: nobody
	readers uint64 // a bit for each client
	wrote   uint64 // the highest token of a writer
	highest uint64 // of anybody
}

// LockModel is a mutex, or a read/write mutex: a writer is alone; its token is higher than all before it, a reader's higher than each writer's before it.
// Clients are 0 … 63 and hold at most one grant each: one whose Unlock is Unknown goes on as another client.
func LockModel() Model[Locked, LockVerb, Grant] {
	return Model[Locked, LockVerb, Grant]{Step: func(s Locked, op Op[LockVerb, Grant]) (Locked, bool) {
		me := uint64(1) << (op.Client & 63)
		token := op.Out.Token
		switch op.In {
		case Lock, RLock:
			if op.Unknown || !op.Out.OK {
				return s, true // whoever had it then, had it for nothing
			}
			write := op.In == Lock
			if s.writer != 0 || write && s.readers != 0 || token != 0 && (token <= s.wrote || write && token <= s.highest) {
				return s, false
			}
			s.highest = max(s.highest, token)
			if write {
				s.writer, s.wrote = op.Client+1, s.highest
			} else {
				s.readers |= me
			}
			return s, true
		case Unlock, Downgrade:
			if s.writer != op.Client+1 {
				return s, op.Unknown
			}
			s.writer = 0
			if op.In == Downgrade {
				s.readers |= me
			}
			return s, true
		case RUnlock:
			if s.readers&me == 0 {
				return s, op.Unknown
			}
			s.readers &^= me
			return s, true
		}
		return s, false
	}}
}

// PermitsIn is what is asked of a semaphore: to take K permits, or with Release to give them back (Unknown if they were lost).
type PermitsIn struct {
	K       int
	Release bool
}

// SemaphoreModel is a semaphore of that size. It answers an acquire with true, or at any time with false.
func SemaphoreModel(size int) Model[int, PermitsIn, bool] {
	return Model[int, PermitsIn, bool]{Step: func(used int, op Op[PermitsIn, bool]) (int, bool) {
		switch {
		case op.In.Release:
			return max(0, used-op.In.K), used >= op.In.K || op.Unknown
		case op.Unknown || !op.Out:
			return used, true
		}
		return used + op.In.K, used+op.In.K <= size
	}}
}

// RegisterVerb is what is asked of a register.
type RegisterVerb string

// The verbs of registers.
const (
	Load          RegisterVerb = "load"
	Store         RegisterVerb = "store"
	Add           RegisterVerb = "add"
	CompareAndSet RegisterVerb = "compare and set" // A is what it must be, B what it becomes
	Delete        RegisterVerb = "delete"          // of a map's entry: OK if there was one
	LoadOrStore   RegisterVerb = "load or store"   // of a map's entry: OK if there was one
)

// RegisterIn is what is asked of a register, or of one key of a map.
type RegisterIn struct {
	Key  string // of a map
	Verb RegisterVerb
	A, B int64
}

// Value is what a register answers.
type Value struct {
	V  int64 // of Load, and the sum of Add
	OK bool  // of CompareAndSet: it was done; of a map's entry: there is one
}

// RegisterModel is a counter, or a register with compare and set, that begins at zero.
func RegisterModel() Model[int64, RegisterIn, Value] {
	return Model[int64, RegisterIn, Value]{Step: func(v int64, op Op[RegisterIn, Value]) (int64, bool) {
		switch op.In.Verb {
		case Load:
			return v, op.Unknown || op.Out.V == v
		case Store:
			return op.In.A, true
		case Add:
			v += op.In.A
			return v, op.Unknown || op.Out.V == v
		case CompareAndSet:
			done := v == op.In.A
			if done {
				v = op.In.B
			}
			return v, op.Unknown || op.Out.OK == done
		case Delete, LoadOrStore:
		}
		return v, false
	}}
}

// MapModel is a map whose keys have nothing to do with each other, which begins empty. It is a set if there are only LoadOrStore, Delete and Load. With
// CompareAndSet A is the value that must be there.
func MapModel() Model[Value, RegisterIn, Value] {
	return Model[Value, RegisterIn, Value]{
		Key: func(in RegisterIn) string { return in.Key },
		Step: func(was Value, op Op[RegisterIn, Value]) (now Value, ok bool) {
			now = was
			said := was // what must be answered
			switch op.In.Verb {
			case Load:
			case Store:
				now, said = Value{op.In.A, true}, Value{}
			case Add:
				now = Value{was.V + op.In.A, true}
				said = now
			case LoadOrStore:
				if !was.OK {
					now = Value{op.In.A, true}
					said = Value{op.In.A, false}
				}
			case Delete:
				now, said = Value{}, Value{OK: was.OK}
			case CompareAndSet:
				said = Value{OK: was.OK && was.V == op.In.A}
				if said.OK {
					now = Value{op.In.B, true}
				}
			default:
				return was, false
			}
			return now, op.Unknown || op.Out == said
		},
	}
}

// QueueVerb is what is asked of a queue.
type QueueVerb string

// The verbs of queues.
const (
	Put      QueueVerb = "put"      // OK: it is in
	Take     QueueVerb = "take"     // not OK: there was nothing to take
	Peek     QueueVerb = "peek"     // not OK: there was nothing to see
	Len      QueueVerb = "len"      // V
	Transfer QueueVerb = "transfer" // from the first queue to the second; otherwise like Take
)

// QueueIn is what is asked of a queue.
type QueueIn struct {
	Verb   QueueVerb
	Second bool  // of two queues, the one that Transfer moves to
	V      int64 // of Put
}

// Queues is the state of QueueModel: what is in each, the first in front.
type Queues [2][]int64

// QueueModel is a queue, or two, first in, first out, of that capacity each; zero means no bound.
func QueueModel(capacity int) Model[Queues, QueueIn, Value] {
	full := func(q []int64) bool { return capacity > 0 && len(q) >= capacity }
	return Model[Queues, QueueIn, Value]{
		Equal: func(a, b Queues) bool { return slices.Equal(a[0], b[0]) && slices.Equal(a[1], b[1]) },
		Step: func(s Queues, op Op[QueueIn, Value]) (Queues, bool) {
			i := 0
			if op.In.Second {
				i = 1
			}
			q := s[i]
			empty := len(q) == 0
			switch op.In.Verb {
			case Put:
				if op.Unknown && full(q) || !op.Unknown && !op.Out.OK {
					return s, op.Unknown || full(q)
				}
				s[i] = append(q[:len(q):len(q)], op.In.V)
				return s, !full(q)
			case Take, Transfer:
				to := op.In.Verb == Transfer
				if op.Unknown && (empty || to && full(s[1])) || !op.Unknown && !op.Out.OK {
					return s, op.Unknown || empty || to && full(s[1])
				}
				if empty || !op.Unknown && op.Out.V != q[0] {
					return s, false
				}
				s[i] = q[1:]
				if to {
					if full(s[1]) {
						return s, false
					}
					s[1] = append(s[1][:len(s[1]):len(s[1])], q[0])
				}
				return s, true
			case Peek:
				return s, op.Unknown || op.Out.OK == !empty && (empty || op.Out.V == q[0])
			case Len:
				return s, op.Unknown || op.Out.V == int64(len(q))
			}
			return s, false
		},
	}
}

// TotalModel is a queue of which only the total is looked at, with values that are put once each, drained at the end: nothing that was put is lost, nothing
// comes out twice, or without having been put. An unknown Take may have taken one item; so as many may be missing. It has no order, and no bound on length.
func TotalModel() Model[struct{}, QueueIn, Value] {
	return Model[struct{}, QueueIn, Value]{Audit: func(ops []Op[QueueIn, Value]) error {
		put, taken, mayMiss := map[int64]bool{}, map[int64]int{}, 0 // put: whether it is certain
		for _, op := range ops {
			switch {
			case op.In.Verb == Put && (op.Unknown || op.Out.OK):
				put[op.In.V] = !op.Unknown
			case op.In.Verb == Take && op.Unknown:
				mayMiss++
			case op.In.Verb == Take && op.Out.OK:
				taken[op.Out.V]++
			}
		}
		var faults []string
		for _, v := range slices.Sorted(maps.Keys(taken)) {
			if _, ok := put[v]; !ok {
				faults = append(faults, fmt.Sprintf("%d came out and was never put", v))
			}
			if taken[v] > 1 {
				faults = append(faults, fmt.Sprintf("%d came out %d times", v, taken[v]))
			}
		}
		var missing []int64
		for v, certain := range put {
			if certain && taken[v] == 0 {
				missing = append(missing, v)
			}
		}
		slices.Sort(missing)
		if len(missing) > mayMiss {
			faults = append(faults, fmt.Sprintf("%v were put and did not come out, when %d takes are unknown", missing, mayMiss))
		}
		return faulty(faults)
	}}
}

// LatchIn is what is asked of a latch: to count an id (0 … 63) down, or, with Wait, to wait until it is open.
type LatchIn struct {
	ID   int
	Wait bool
}

// LatchModel is a latch that opens after that many different ids. Counting down answers how many are missing.
func LatchModel(count int) Model[uint64, LatchIn, int] {
	return Model[uint64, LatchIn, int]{Step: func(seen uint64, op Op[LatchIn, int]) (uint64, bool) {
		missing := func() int {
			n := count
			for b := seen; b != 0; b &= b - 1 {
				n--
			}
			return max(0, n)
		}
		if op.In.Wait {
			return seen, op.Unknown || missing() == 0
		}
		seen |= 1 << (op.In.ID & 63)
		return seen, op.Unknown || op.Out == missing()
	}}
}

// Arrival is what a barrier answers to one that came: the generation, and its place in it.
type Arrival struct {
	Generation uint64
	Index      int
}

// BarrierModel is a cyclic barrier: to each generation come so many parties, with indexes 0, 1, …, and none is let go before the last has come; the
// generations of one client grow. Arrivals at a barrier that broke are not recorded, or Never.
func BarrierModel(parties int) Model[struct{}, struct{}, Arrival] {
	return Model[struct{}, struct{}, Arrival]{Audit: func(ops []Op[struct{}, Arrival]) error {
		var faults []string
		generations, last, unknown := map[uint64][]Op[struct{}, Arrival]{}, map[int]uint64{}, 0
		for _, op := range ops {
			if op.Unknown {
				unknown++
				continue
			}
			g := op.Out.Generation
			generations[g] = append(generations[g], op)
			if l, ok := last[op.Client]; ok && g <= l {
				faults = append(faults, fmt.Sprintf("client %d was in generation %d after %d", op.Client, g, l))
			}
			last[op.Client] = g
		}
		for _, g := range slices.Sorted(maps.Keys(generations)) {
			came := generations[g]
			indexes := map[int]bool{}
			for _, op := range came {
				indexes[op.Out.Index] = op.Out.Index >= 0 && op.Out.Index < parties
				for _, other := range came {
					if op.Return < other.Call {
						faults = append(faults, fmt.Sprintf("generation %d: client %d was let go before client %d came", g, op.Client, other.Client))
					}
				}
			}
			unknown -= parties - len(came)
			if len(came) > parties || len(indexes) != len(came) || slices.Contains(slices.Collect(maps.Values(indexes)), false) {
				faults = append(faults, fmt.Sprintf("generation %d of %d parties: %d came, with %d different indexes", g, parties, len(came), len(indexes)))
			}
		}
		if unknown < 0 {
			faults = append(faults, fmt.Sprintf("%d parties are missing in all generations together", -unknown))
		}
		return faulty(faults)
	}}
}

// UniqueModel is what gives out numbers: none twice, and one that was asked for after another had been given is higher.
func UniqueModel() Model[struct{}, struct{}, uint64] {
	return Model[struct{}, struct{}, uint64]{Audit: func(ops []Op[struct{}, uint64]) error {
		ops = slices.DeleteFunc(slices.Clone(ops), func(op Op[struct{}, uint64]) bool { return op.Unknown })
		slices.SortFunc(ops, func(a, b Op[struct{}, uint64]) int { return cmp.Compare(a.Out, b.Out) })
		var faults []string
		var latest Op[struct{}, uint64] // of the lower numbers, the one asked for last
		for i, op := range ops {
			if i > 0 && ops[i-1].Out == op.Out {
				faults = append(faults, fmt.Sprintf("%d was given to client %d and to client %d", op.Out, ops[i-1].Client, op.Client))
			}
			if op.Return < latest.Call {
				faults = append(faults, fmt.Sprintf("%d was given before %d was asked for", op.Out, latest.Out))
			}
			if op.Call > latest.Call {
				latest = op
			}
		}
		return faulty(faults)
	}}
}

func faulty(faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	const enough = 10
	if len(faults) > enough {
		faults = append(faults[:enough], fmt.Sprintf("and %d more", len(faults)-enough))
	}
	return fmt.Errorf("%s", strings.Join(faults, "; "))
}
