package maps

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

type (
	out    = machine.Out[string]
	effect = machine.Effect[string]
)

type line struct {
	v    string
	rev  uint64
	at   int64
	kept []machine.Session
}

type watch struct {
	who    machine.Who
	key    string
	prefix bool
}

// model is the map in a Go map, and everything else looked for by walking.
type model struct {
	rev   uint64
	lines map[string]*line
	watch []watch
	told  out
}

func (m *model) change(s machine.Session, key string, kind uint64) {
	m.rev++
	l := m.lines[key]
	for _, k := range l.kept {
		if k != s {
			m.told.Add(effect{To: machine.Who{Session: k}, Code: machine.Changed, Num: m.rev, Aux: kind, Key: key})
		}
	}
	l.kept = slices.DeleteFunc(slices.Clone(l.kept), func(k machine.Session) bool { return k != s })
	e := effect{Code: machine.Changed, Num: m.rev, Aux: kind, Key: key}
	if kind == Stored {
		l.rev, e.Val = m.rev, l.v
	} else {
		delete(m.lines, key)
	}
	for _, prefix := range []bool{false, true} {
		for _, w := range m.watch {
			if w.prefix == prefix && (w.key == key || prefix && strings.HasPrefix(key, w.key)) {
				e.To = w.who
				m.told.Add(e)
			}
		}
	}
}

func (m *model) store(s machine.Session, key, v string, now, ttl int64) {
	if m.lines[key] == nil {
		m.lines[key] = &line{}
	}
	l := m.lines[key]
	l.v, l.at = v, 0
	if ttl > 0 {
		l.at = now + ttl
	}
	m.change(s, key, Stored)
}

// due is the key that expires next.
func (m *model) due() (key string, at int64) {
	for _, k := range slices.SortedFunc(maps.Keys(m.lines), func(a, b string) int { return cmp.Compare(m.lines[a].rev, m.lines[b].rev) }) {
		if l := m.lines[k]; l.at != 0 && (at == 0 || l.at < at) {
			key, at = k, l.at
		}
	}
	return key, at
}

func (m *model) everybody(tell func(machine.Who)) {
	var ss []machine.Session
	for _, l := range m.lines {
		ss = append(ss, l.kept...)
	}
	slices.Sort(ss)
	for _, s := range slices.Compact(ss) {
		tell(machine.Who{Session: s})
	}
	keyed := slices.DeleteFunc(slices.Clone(m.watch), func(w watch) bool { return w.prefix })
	slices.SortStableFunc(keyed, func(a, b watch) int { return cmp.Compare(a.key, b.key) })
	for _, w := range keyed {
		tell(w.who)
	}
	for _, w := range m.watch {
		if w.prefix {
			tell(w.who)
		}
	}
}

func text(b []byte, s string) []byte { return append(b, s...) }

func parse(b []byte) (string, error) {
	if len(b) > 0 && b[0] == '!' {
		return "", errors.New("not a value")
	}
	return string(b), nil
}

// pages reads all, page by page.
func pages(t *testing.T, x *Map[string], most int) map[string]effect {
	t.Helper()
	all := map[string]effect{}
	for cursor := uint64(0); ; {
		var o out
		x.Range(&o, machine.Who{Session: 9, Req: 9}, cursor, most)
		for i, e := range o.Effects {
			if e.Code != machine.OK || e.Aux != uint64(len(o.Effects)-1-i) || len(o.Effects) > most+1 {
				t.Fatalf("page from %d: %v", cursor, o.Effects)
			}
			if e.Aux > 0 {
				if _, twice := all[e.Key]; twice {
					t.Fatalf("%q is in two pages", e.Key)
				}
				all[e.Key] = e
			}
		}
		if cursor = o.Effects[len(o.Effects)-1].Num; cursor == 0 {
			return all
		}
	}
}

// TestMap_RandomHistories compares with the model, step by step, over histories by seed.
func TestMap_RandomHistories(t *testing.T) {
	for seed := range uint64(100) {
		history(t, seed)
	}
}

func history(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	x, m := New[string](seed), &model{rev: seed, lines: map[string]*line{}}
	var got out
	var watches []machine.Who
	var now int64
	keys := 1 + rng.IntN(12)
	for step := range 300 {
		got.Reset()
		m.told.Reset()
		who := machine.Who{Session: machine.Session(1 + rng.IntN(4)), Req: uint64(step + 1)}
		key := fmt.Sprintf("%c%d", 'a'+rng.IntN(2), rng.IntN(keys))
		v := fmt.Sprint("v", step)
		ttl := max(0, rng.Int64N(60)-40) - rng.Int64N(50)/49*60
		l := m.lines[key]
		var did string
		switch k := rng.IntN(100); {
		case k < 15:
			did = fmt.Sprintf("load %v %s", who, key)
			keep := rng.IntN(3) > 0
			x.Load(&got, who, key, keep)
			if l == nil {
				m.told.Tell(who, machine.Refused, 0)
				break
			}
			e := effect{To: who, Code: machine.OK, Num: l.rev, Val: l.v}
			if keep {
				e.Aux = 1
				if !slices.Contains(l.kept, who.Session) {
					l.kept = append(l.kept, who.Session)
				}
			}
			m.told.Add(e)
		case k < 60 && ttl < 0:
			did = "a negative time to live"
			x.Store(&got, who, key, v, now, ttl)
			x.LoadOrStore(&got, who, key, v, now, ttl)
			x.CompareAndSwap(&got, who, key, 0, v, now, ttl)
			x.Range(&got, who, 0, 0)
			for range 4 {
				m.told.Tell(who, machine.Invalid, 0)
			}
		case k < 35:
			did = fmt.Sprintf("store %v %s at %d for %d", who, key, now, ttl)
			x.Store(&got, who, key, v, now, ttl)
			e := effect{To: who, Code: machine.OK, Num: m.rev + 1}
			if l != nil {
				e.Aux = 1
			}
			m.told.Add(e)
			m.store(who.Session, key, v, now, ttl)
		case k < 40:
			did = fmt.Sprintf("load or store %v %s", who, key)
			x.LoadOrStore(&got, who, key, v, now, ttl)
			if l != nil {
				m.told.Add(effect{To: who, Code: machine.OK, Num: l.rev, Aux: 1, Val: l.v})
				break
			}
			m.told.Tell(who, machine.OK, m.rev+1)
			m.store(who.Session, key, v, now, ttl)
		case k < 60: // by revision
			rev := max(m.rev, 4) - rng.Uint64N(4)
			is := effect{To: who, Code: machine.Refused}
			if l != nil {
				is.Num, is.Val = l.rev, l.v
			}
			if rng.IntN(2) == 0 {
				rev = is.Num
			}
			did = fmt.Sprintf("change %v %s at %d", who, key, rev)
			swap := rng.IntN(2) == 0
			if swap {
				x.CompareAndSwap(&got, who, key, rev, v, now, ttl)
			} else {
				x.Delete(&got, who, key, rev)
			}
			switch {
			case is.Num != rev && (swap || rev != 0) || !swap && l == nil:
				m.told.Add(is)
			case swap:
				m.told.Tell(who, machine.OK, m.rev+1)
				m.store(who.Session, key, v, now, ttl)
			default:
				m.told.Tell(who, machine.OK, m.rev+1)
				m.change(who.Session, key, Deleted)
			}
		case k < 72:
			now += rng.Int64N(15)
			did = fmt.Sprintf("tick %d", now)
			x.Tick(&got, now)
			for {
				key, at := m.due()
				if at == 0 || at > now {
					break
				}
				m.change(0, key, Expired)
			}
		case k < 77:
			w := watch{who, key, rng.IntN(2) == 0}
			if w.prefix {
				w.key = key[:rng.IntN(len(key))]
			}
			did = fmt.Sprintf("watch %+v", w)
			x.Watch(&got, who, w.key, w.prefix)
			watches = append(watches, who)
			m.watch = append(m.watch, w)
			m.told.Tell(who, machine.OK, m.rev)
		case k < 82 && len(watches) > 0:
			who = watches[rng.IntN(len(watches))]
			did = fmt.Sprintf("unwatch %v", who)
			x.Unwatch(&got, who)
			n := len(m.watch)
			m.watch = slices.DeleteFunc(m.watch, func(w watch) bool { return w.who == who })
			code := machine.OK
			if len(m.watch) == n {
				code = machine.Stale
			}
			m.told.Tell(who, code, m.rev)
		case k < 86:
			did = fmt.Sprintf("drop %d %s", who.Session, key)
			x.Drop(who.Session, key)
			if l != nil {
				l.kept = slices.DeleteFunc(l.kept, func(s machine.Session) bool { return s == who.Session })
			}
		case k < 90:
			did = fmt.Sprintf("expire %d", who.Session)
			x.Expire(&got, who.Session)
			for _, l := range m.lines {
				l.kept = slices.DeleteFunc(l.kept, func(s machine.Session) bool { return s == who.Session })
			}
			m.watch = slices.DeleteFunc(m.watch, func(w watch) bool { return w.who.Session == who.Session })
		case k < 91:
			did = "destroy"
			x.Destroy(&got)
			m.everybody(func(to machine.Who) { m.told.Tell(to, machine.Gone, m.rev) })
			*m = model{rev: m.rev, lines: map[string]*line{}, told: m.told}
		case k < 93:
			did = fmt.Sprintf("clear %v", who)
			x.Clear(&got, who)
			n := uint64(len(m.lines))
			if n > 0 {
				m.rev++
			}
			m.told.Add(effect{To: who, Code: machine.OK, Num: m.rev, Aux: n})
			if n > 0 {
				m.everybody(func(to machine.Who) {
					if to != (machine.Who{Session: who.Session}) {
						m.told.Add(effect{To: to, Code: machine.Changed, Num: m.rev, Aux: Cleared})
					}
				})
				m.lines = map[string]*line{}
			}
		default:
			did = "restore"
			b := x.AppendBinary(nil, text)
			y := &Map[string]{}
			if err := y.Restore(b, parse); err != nil {
				t.Fatalf("seed %d step %d: %v: %+v", seed, step, err, x)
			}
			if again := y.AppendBinary(nil, text); !slices.Equal(again, b) {
				t.Fatalf("seed %d step %d: %q restored as %q", seed, step, b, again)
			}
			var was, is out
			x.Range(&was, who, 0, 100)
			y.Range(&is, who, 0, 100)
			if !slices.Equal(was.Effects, is.Effects) {
				t.Fatalf("seed %d step %d: a page of the restored map: %v, want %v", seed, step, is.Effects, was.Effects)
			}
			x = y
		}
		if !slices.Equal(got.Effects, m.told.Effects) {
			t.Fatalf("seed %d step %d, %s:\n got %v\nwant %v", seed, step, did, got.Effects, m.told.Effects)
		}
		compare(t, x, m, fmt.Sprintf("seed %d step %d, %s", seed, step, did), 1+rng.IntN(5))
	}
}

// compare compares the states.
func compare(t *testing.T, x *Map[string], m *model, where string, most int) {
	t.Helper()
	all := pages(t, x, most)
	kept, timed := 0, 0
	for key, l := range m.lines {
		kept += len(l.kept)
		if l.at != 0 {
			timed++
		}
		if e, ok := all[key]; !ok || e.Val != l.v || e.Num != l.rev {
			t.Fatalf("%s: %q is %+v in the map, want %+v", where, key, e, l)
		}
	}
	var o out
	x.Len(&o, machine.Who{})
	_, due := m.due()
	if len(all) != len(m.lines) || x.Entries() != len(m.lines) || o.Effects[0].Num != uint64(len(m.lines)) || x.Kept() != kept || x.timed != timed ||
		x.Watchers() != len(m.watch) || x.Due() != due || x.Revision() != m.rev || x.Idle() != (len(m.lines)+len(m.watch) == 0) {
		t.Fatalf("%s: %d entries in pages, %d kept, %d watchers, due %d, revision %d, idle %t; want %+v, %d kept, due %d", where, len(all), x.Kept(), x.Watchers(), x.Due(), x.Revision(), x.Idle(), m, kept, due)
	}
}
