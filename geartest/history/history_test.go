package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
)

// patient is a test that is told of failures and does not fail.
type patient struct {
	testing.TB
	said []string
}

func (p *patient) Helper() {}
func (p *patient) Errorf(format string, args ...any) {
	p.said = append(p.said, fmt.Sprintf(format, args...))
}

// at makes a history of operations whose times are known.
func at[In, Out any](ops ...*Op[In, Out]) *History[In, Out] { return &History[In, Out]{ops: ops} }

// object is one that is used by one at a time: what it answers, or false: it would have to wait.
type object[In, Out any] func(client int, in In) (Out, bool)

// play lets six clients use an object at random: each operation has its effect at one moment, is asked for some time before and answered some time later. Some
// answers are lost, if any may be.
func play[In, Out any](r *rand.Rand, n int, lose float64, ask func(r *rand.Rand, client int) In, o object[In, Out]) *History[In, Out] {
	h := New[In, Out]()
	var free [6]time.Duration
	for i := range n {
		now := time.Duration(i+1) * 10
		c := r.IntN(len(free))
		if free[c] >= now {
			continue
		}
		op := &Op[In, Out]{Client: c, In: ask(r, c), Call: max(free[c]+1, now-time.Duration(r.IntN(60))), Return: now + time.Duration(r.IntN(60))}
		free[c] = op.Return
		lost := r.Float64() < lose
		if !lost || r.IntN(2) == 0 {
			var done bool
			if op.Out, done = o(c, op.In); !done {
				continue
			}
		}
		if lost {
			var none Out
			op.Unknown, op.Out = true, none
		}
		h.ops = append(h.ops, op)
	}
	return h
}

// judge plays a good object and broken ones: the good one is never refused, each broken one is by some histories: it is not broken all the time.
func judge[S, In, Out any](t *testing.T, m Model[S, In, Out], lose float64, ask func(r *rand.Rand, client int) In, build func(broken string) object[In, Out], broken ...string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	const plays = 30
	for _, b := range append([]string{""}, broken...) {
		refused := 0
		for seed := range uint64(plays) {
			p := &patient{TB: t}
			r := rand.New(rand.NewPCG(seed, 1))
			if !Check(p, m, play(r, 120, lose, ask, build(b))) {
				refused++
				if b == "" {
					t.Errorf("seed %d: a good history was refused: %s", seed, p.said[0])
					break
				}
			}
		}
		t.Logf("%q: %d of %d refused", b, refused, plays)
		if b != "" && refused < plays/10 {
			t.Errorf("an object that %s was refused in %d of %d histories", b, refused, plays)
		}
	}
}

// rarely is true once in a while.
func rarely() func() bool {
	n := 0
	return func() bool { n++; return n%9 == 0 }
}

func TestLockModel_RefusesBrokenLocks(t *testing.T) {
	var holds map[int]LockVerb
	ask := func(r *rand.Rand, c int) LockVerb {
		switch holds[c] {
		case Lock:
			return []LockVerb{Unlock, Unlock, Downgrade}[r.IntN(3)]
		case RLock:
			return RUnlock
		default:
			return []LockVerb{Lock, RLock}[r.IntN(2)]
		}
	}
	judge(t, LockModel(), 0, ask, func(broken string) object[LockVerb, Grant] {
		token, now := uint64(0), rarely()
		holds = map[int]LockVerb{}
		count := func(v LockVerb) (n int) {
			for _, h := range holds {
				if h == v {
					n++
				}
			}
			return n
		}
		return func(c int, in LockVerb) (Grant, bool) {
			switch in {
			case Lock:
				if w, r := count(Lock), count(RLock); w+r > 0 && (broken != "lets two writers in" || r > 0 || !now()) && (broken != "lets a writer in to readers" || w > 0 || !now()) {
					return Grant{}, true
				}
			case RLock:
				if count(Lock) > 0 && (broken != "lets a reader in to a writer" || !now()) {
					return Grant{}, true
				}
			case Downgrade:
				holds[c] = RLock
				return Grant{OK: true}, true
			case Unlock, RUnlock:
				delete(holds, c)
				return Grant{OK: true}, true
			}
			token++
			if broken == "gives an old token" && now() {
				token -= min(token, 2)
			}
			holds[c] = in
			return Grant{true, max(1, token)}, true
		}
	}, "lets two writers in", "lets a writer in to readers", "lets a reader in to a writer", "gives an old token")
}

func TestSemaphoreModel_RefusesBrokenSemaphores(t *testing.T) {
	const size = 5
	var holds map[int]int
	ask := func(r *rand.Rand, c int) PermitsIn {
		if k := holds[c]; k > 0 {
			return PermitsIn{k, true}
		}
		return PermitsIn{1 + r.IntN(3), false}
	}
	judge(t, SemaphoreModel(size), 0, ask, func(broken string) object[PermitsIn, bool] {
		used, now := 0, rarely()
		holds = map[int]int{}
		return func(c int, in PermitsIn) (bool, bool) {
			if in.Release {
				used -= in.K
				delete(holds, c)
				if broken == "counts a release twice" && now() {
					used -= in.K
				}
				return true, true
			}
			if used+in.K > size && (broken != "gives one too many" || !now()) {
				return false, false
			}
			used += in.K
			holds[c] = in.K
			return true, true
		}
	}, "gives one too many", "counts a release twice")
}

// cell is a register, or an entry, that may be broken.
func cell(broken string, entry bool) object[RegisterIn, Value] {
	now := rarely()
	was := map[string]Value{}
	v := map[string]Value{}
	return func(_ int, in RegisterIn) (Value, bool) {
		e := v[in.Key]
		old := was[in.Key]
		set := func(to int64) { was[in.Key], v[in.Key] = e, Value{to, true} }
		switch in.Verb {
		case Load:
			if broken == "answers an old value" && now() {
				e = old
			}
			return Value{e.V, entry && e.OK}, true
		case Store:
			if broken != "loses a store" || !now() {
				set(in.A)
			}
			return Value{}, true
		case Add:
			if broken == "adds twice" && now() {
				e.V += in.A
			}
			if broken != "loses an add" || !now() {
				set(e.V + in.A)
			}
			return Value{e.V + in.A, entry}, true
		case CompareAndSet:
			ok := e.V == in.A && (!entry || e.OK)
			if ok || broken == "sets what is not equal" && now() {
				set(in.B)
				ok = true
			}
			return Value{OK: ok}, true
		case LoadOrStore:
			if e.OK && (broken != "stores over what is there" || !now()) {
				return e, true
			}
			set(in.A)
			return Value{V: in.A}, true
		case Delete:
			was[in.Key] = e
			if broken != "keeps what was deleted" || !now() {
				delete(v, in.Key)
			}
			return Value{OK: e.OK}, true
		}
		return Value{}, false
	}
}

func TestRegisterModel_RefusesBrokenRegisters(t *testing.T) {
	ask := func(r *rand.Rand, _ int) RegisterIn {
		return RegisterIn{Verb: []RegisterVerb{Load, Store, Add, CompareAndSet}[r.IntN(4)], A: r.Int64N(4), B: r.Int64N(4)}
	}
	judge(t, RegisterModel(), 0.03, ask, func(broken string) object[RegisterIn, Value] { return cell(broken, false) },
		"answers an old value", "loses a store", "loses an add", "adds twice", "sets what is not equal")
}

func TestMapModel_RefusesBrokenMaps(t *testing.T) {
	ask := func(r *rand.Rand, _ int) RegisterIn {
		verbs := []RegisterVerb{Load, Store, Add, CompareAndSet, Delete, LoadOrStore}
		return RegisterIn{string('a' + rune(r.IntN(2))), verbs[r.IntN(len(verbs))], r.Int64N(4), r.Int64N(4)}
	}
	judge(t, MapModel(), 0.03, ask, func(broken string) object[RegisterIn, Value] { return cell(broken, true) },
		"answers an old value", "loses a store", "sets what is not equal", "stores over what is there", "keeps what was deleted")
}

// A set is a map of which only the keys count.
func TestMapModel_RefusesBrokenSets(t *testing.T) {
	ask := func(r *rand.Rand, _ int) RegisterIn {
		return RegisterIn{Key: string('a' + rune(r.IntN(3))), Verb: []RegisterVerb{Load, Delete, LoadOrStore}[r.IntN(3)]}
	}
	judge(t, MapModel(), 0.03, ask, func(broken string) object[RegisterIn, Value] { return cell(broken, true) },
		"answers an old value", "stores over what is there", "keeps what was deleted")
}

// line is two queues, maybe broken.
func line(broken string, capacity int) object[QueueIn, Value] {
	now := rarely()
	var s Queues
	return func(_ int, in QueueIn) (Value, bool) {
		i := 0
		if in.Second {
			i = 1
		}
		q := &s[i]
		switch in.Verb {
		case Put:
			if len(*q) >= capacity && (broken != "takes more than there is room for" || !now()) {
				return Value{}, true
			}
			if broken != "loses an item" || !now() {
				*q = append(*q, in.V)
			}
			if broken == "doubles an item" && now() {
				*q = append(*q, in.V)
			}
			return Value{OK: true}, true
		case Len:
			return Value{V: int64(len(*q))}, true
		case Take, Peek, Transfer:
		}
		if len(*q) == 0 || in.Verb == Transfer && len(s[1]) >= capacity {
			return Value{}, true
		}
		k := 0
		if broken == "is last in, first out" && now() {
			k = len(*q) - 1
		}
		v := (*q)[k]
		if in.Verb == Peek {
			return Value{v, true}, true
		}
		if broken == "makes items up" && now() {
			v = -1
		}
		*q = slices.Delete(slices.Clone(*q), k, k+1)
		if in.Verb == Transfer && (broken != "loses an item" || !now()) {
			s[1] = append(s[1], v)
		}
		return Value{v, true}, true
	}
}

func askQueue(r *rand.Rand, _ int) QueueIn {
	in := QueueIn{Verb: []QueueVerb{Put, Put, Put, Take, Take, Peek, Len, Transfer}[r.IntN(8)], V: r.Int64()}
	in.Second = in.Verb != Transfer && r.IntN(3) == 0
	return in
}

func TestQueueModel_RefusesBrokenQueues(t *testing.T) {
	judge(t, QueueModel(4), 0.02, askQueue, func(broken string) object[QueueIn, Value] { return line(broken, 4) },
		"takes more than there is room for", "loses an item", "doubles an item", "is last in, first out", "makes items up")
}

func TestTotalModel_RefusesBrokenQueues(t *testing.T) {
	asked := 0
	ask := func(r *rand.Rand, c int) QueueIn {
		in := askQueue(r, c)
		in.Second, in.Verb = false, []QueueVerb{Put, Put, Take, Peek}[r.IntN(4)]
		if asked++; asked > 30 { // drained at the end
			in.Verb = Take
		}
		return in
	}
	build := func(broken string) object[QueueIn, Value] { asked = 0; return line(broken, 1000) }
	judge(t, TotalModel(), 0, ask, build, "loses an item", "doubles an item", "makes items up")
}

func TestLatchModel_RefusesBrokenLatches(t *testing.T) {
	const count = 12
	ask := func(r *rand.Rand, _ int) LatchIn { return LatchIn{r.IntN(count), r.IntN(3) == 0} }
	judge(t, LatchModel(count), 0.03, ask, func(broken string) object[LatchIn, int] {
		seen, calls, now := map[int]bool{}, 0, rarely()
		return func(_ int, in LatchIn) (int, bool) {
			missing := func() int {
				if broken == "counts calls" {
					return max(0, count-calls)
				}
				return count - len(seen)
			}
			if in.Wait {
				return 0, missing() == 0 || broken == "opens too early" && missing() < 6
			}
			calls++
			if broken != "forgets an id" || !now() {
				seen[in.ID] = true
			}
			return missing(), true
		}
	}, "counts calls", "opens too early", "forgets an id")
}

func TestUniqueModel_RefusesBrokenNumbers(t *testing.T) {
	ask := func(*rand.Rand, int) struct{} { return struct{}{} }
	judge(t, UniqueModel(), 0.03, ask, func(broken string) object[struct{}, uint64] {
		n, now := uint64(0), rarely()
		return func(int, struct{}) (uint64, bool) {
			n++
			if broken == "gives one twice" && now() {
				n--
			}
			if broken == "goes back" && now() {
				return n * 1000, true
			}
			return n, true
		}
	}, "gives one twice", "goes back")
}

func TestBarrierModel_RefusesBrokenBarriers(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	type op = Op[struct{}, Arrival]
	came := func(client int, call, ret time.Duration, g uint64, index int) *op {
		return &op{Client: client, Call: call, Return: ret, Out: Arrival{g, index}}
	}
	good := func() []*op {
		return []*op{
			came(0, 1, 10, 1, 0), came(1, 2, 9, 1, 1), came(2, 3, 8, 1, 2),
			came(0, 11, 20, 2, 2), came(2, 12, 19, 2, 0), {Client: 1, Call: 13, Unknown: true},
		}
	}
	p := &patient{TB: t}
	if !Check(p, BarrierModel(3), at(good()...)) {
		t.Errorf("a good history was refused: %v", p.said)
	}
	for what, breaks := range map[string]func(ops []*op) []*op{
		"lets one go before another came":      func(ops []*op) []*op { ops[2].Call = 9; ops[2].Return = 11; ops[1].Return = 8; return ops },
		"lets go too few":                      func(ops []*op) []*op { return ops[1:] },
		"lets go too many":                     func(ops []*op) []*op { return append(ops, came(3, 1, 10, 1, 3)) },
		"gives an index twice":                 func(ops []*op) []*op { ops[1].Out.Index = 0; return ops },
		"gives an index that is too high":      func(ops []*op) []*op { ops[2].Out.Index = 3; return ops },
		"lets one client into an old one":      func(ops []*op) []*op { ops[3].Out.Generation = 1; return ops },
		"has a generation of one, and is done": func(ops []*op) []*op { return append(ops, came(4, 30, 31, 7, 0)) },
	} {
		p := &patient{TB: t}
		if Check(p, BarrierModel(3), at(breaks(good())...)) {
			t.Errorf("a barrier that %s was not refused", what)
		}
	}
}

// A mutex whose holder was lost is free later; the client that lost it does not know when.
func TestLockModel_ALostUnlockFreesLater(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	type op = Op[LockVerb, Grant]
	ops := func(next time.Duration) *History[LockVerb, Grant] {
		return at(
			&op{Client: 0, In: Lock, Out: Grant{true, 1}, Call: 1, Return: 2},
			&op{Client: 0, In: Unlock, Unknown: true, Call: 10},
			&op{Client: 1, In: Lock, Out: Grant{true, 2}, Call: next, Return: next + 3},
		)
	}
	if p := (&patient{TB: t}); !Check(p, LockModel(), ops(20)) {
		t.Error(p.said)
	}
	if p := (&patient{TB: t}); Check(p, LockModel(), ops(3)) {
		t.Error("a second holder before the loss was not refused")
	}
}

func TestHistory_OutcomesAndPage(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	h := New[RegisterIn, Value]()
	add := RegisterIn{Verb: Add, A: 1}
	refused := errors.New("refused")
	for i, err := range []error{nil, distgear.ErrUnknown, context.DeadlineExceeded, refused} {
		if got := h.Do(i, add, func() (Value, error) { return Value{V: 1}, err }); !errors.Is(got, err) {
			t.Error(got)
		}
	}
	ops := h.Ops()
	if len(ops) != 3 || ops[0].Unknown || !ops[1].Unknown || !ops[2].Unknown {
		t.Fatalf("%+v", ops)
	}
	for v := range int64(4) { // none, one or both of the unknown ones were done
		g := at(append(slices.Clone(h.ops), &Op[RegisterIn, Value]{Client: 9, In: RegisterIn{Verb: Load}, Out: Value{V: v}, Call: time.Hour, Return: 2 * time.Hour})...)
		p := &patient{TB: t}
		if got, want := Check(p, RegisterModel(), g), v >= 1; got != want {
			t.Errorf("load of %d: %v, %v", v, got, p.said)
		}
		if len(p.said) == 0 {
			continue
		}
		_, rest, _ := strings.Cut(p.said[0], "history: ")
		page, _, _ := strings.Cut(rest, "\n")
		html, err := os.ReadFile(page)
		text, err2 := os.ReadFile(filepath.Join(filepath.Dir(page), "history.txt"))
		if err := cmp.Or(err, err2); err != nil || !strings.Contains(string(html), "<html") || strings.Count(string(text), "\n") != 4 || !strings.Contains(p.said[0], "!") {
			t.Errorf("%v; %s", err, p.said[0])
		}
	}
}

func TestCheck_KeysAreApart(t *testing.T) {
	h := New[RegisterIn, Value]()
	var stores []Pending[RegisterIn, Value]
	for i := range 200 { // all at once: hard if it were one part
		stores = append(stores, h.Begin(i, RegisterIn{Key: fmt.Sprint(i), Verb: Store, A: 1}))
		_ = h.Do(i, RegisterIn{Key: fmt.Sprint(i), Verb: Load}, func() (Value, error) { return Value{1, true}, nil })
	}
	for _, s := range stores {
		s.Done(Value{})
	}
	Check(t, MapModel(), h)
}
