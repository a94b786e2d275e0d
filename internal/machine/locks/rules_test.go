package locks

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/transcript"
)

// told plays a script and returns what it told, without the operations.
func told(t *testing.T, script string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(transcript.Play(t, strings.ReplaceAll(script, "; ", "\n")+"\n", begin)) {
		if s, ok := strings.CutPrefix(line, "\t"); ok {
			b.WriteString(strings.TrimSuffix(s, "\n") + "; ")
		}
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// TestLock holds the rules one by one; testdata tells the stories.
func TestLock(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"L1_TokensGrowWithEveryGrant", "want a write; release a; want b read; want c read",
			"a (1): granted 101 write; b (3): granted 102 read; c (4): granted 103 read"},
		{"L4_ReadersDoNotPassAWriter", "want a read; want b write; want c read; release a; release b",
			"a (1): granted 101 read; a: recall 101; b (2): granted 102 write contended; c (3): granted 103 read"},
		{"L4_ReadersJoinReaders", "want a read; want b read", "a (1): granted 101 read; b (2): granted 102 read"},
		{"L4_WantAgainIsBehindTheOthers", "want a write; want b write; release a write; release b",
			"a (1): granted 101 write; a: recall 101; b (2): granted 102 write contended; a (3): granted 103 write"},
		{"L4_AWriterThatLeavesLetsReadersJoin", "want a read; want b write; want c read; abandon b",
			"a (1): granted 101 read; a: recall 101; b (2): refused; c (3): granted 102 read"},
		{"L7_AnOldTokenChangesNothing", "want a write; want b write; release a token=100; release b token=101; release a",
			"a (1): granted 101 write; a: recall 101; a (3): stale 100; b (4): stale 101; b (2): granted 102 write"},
		{"L8_DowngradeLetsReadersIn", "want a write; want b read; downgrade a",
			"a (1): granted 101 write; a: recall 101; b (2): granted 102 read"},
		{"L8_UpgradeIsRefused", "want a read; want a write", "a (1): granted 101 read; a (2): refused"},
		{"L9_NotifiedKeepsItsPlaceInTheQueue", "want a write; wait a cond=1 ticket=1; release a; want b write; notify b cond=1; want c write; release b",
			"a (1): granted 101 write; b (4): granted 102 write; a: wake 1 on 1; b: recall 102; a: granted 103 write contended"},
		{"L9_NotificationOfADeadWaiterGoesOn",
			"want a write; wait a cond=1 ticket=1; release a; want b write; wait b cond=1 ticket=1; release b; want c write; notify c cond=1; release c; expire a",
			"a (1): granted 101 write; b (4): granted 102 write; c (7): granted 103 write; a: wake 1 on 1; c: recall 103; a: granted 104 write; b: wake 1 on 1; b: granted 105 write"},
		{"L9_NotificationThatWasUsedDoesNot",
			"want a write; wait a cond=1 ticket=1; wait a cond=1 ticket=2; notify a cond=1; resume a ticket=1; expire a",
			"a (1): granted 101 write; a: wake 1 on 1"},
		{"L9_TimeoutAfterNotifySaysSo", "want a write; wait a cond=1 ticket=1; notify a cond=1; cancelwait a ticket=1; expire a",
			"a (1): granted 101 write; a: wake 1 on 1; a (4): stale 1"},
		{"L11_TryRecallsAnIdleHolder_H10", "want a write; want b write try; release a",
			"a (1): granted 101 write; a: recall 101 try; b (2): granted 102 write"},
		{"L11_TryIsRefusedByABusyHolder", "want a write; want b write try; busy a; want b write try",
			"a (1): granted 101 write; a: recall 101 try; b (2): refused; a: recall 101 try"},
		{"L11_TryDoesNotPassThoseWhoWait", "want a read; want b write; want c read try",
			"a (1): granted 101 read; a: recall 101; c (3): refused"},
		{"H11_AWantCrossesAGrant", "want a write; want a write; want a read", "a (1): granted 101 write"},
		{"H11_AnAbandonCrossesAGrant", "want a write; abandon a", "a (1): granted 101 write"},
		{"H11_AnAbandonCrossesANotification", "want a write; wait a cond=1 ticket=1; release a; want b write; want a write; notify b cond=1; abandon a; release b",
			"a (1): granted 101 write; b (4): granted 102 write; b: recall 102; a: wake 1 on 1; a (5): granted 103 write"},
		{"D7_TheGrantSaysThatOthersWait", "want a write; want b write; want c write; release a; release b",
			"a (1): granted 101 write; a: recall 101; b (2): granted 102 write contended; c (3): granted 103 write"},
		{"D7_RecallOncePerGrant", "want a write; want b write; want c write; want d read", "a (1): granted 101 write; a: recall 101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, c.script); got != c.want {
				t.Errorf("%s\ntold %s\nwant %s", c.script, got, c.want)
			}
		})
	}
}

func (p *player) run(t testing.TB, script string) {
	t.Helper()
	for op := range strings.SplitSeq(script, "; ") {
		if err := p.do(strings.Fields(op)); err != nil {
			t.Fatal(op, err)
		}
	}
}

const busy = "want a write; wait a cond=1 ticket=1; wait a cond=2 ticket=2; release a; want b write; tick; notify b cond=1; want c read; want d write"

// TestSnapshot_RefusesMalformedBytes cuts and changes a state in every place.
func TestSnapshot_RefusesMalformedBytes(t *testing.T) {
	p := newPlayer(&bytes.Buffer{})
	p.run(t, busy)
	good := p.l.AppendBinary([]byte("before"))[6:]
	for i := range good {
		if _, err := Parse(good[:i]); err == nil {
			t.Errorf("the first %d bytes of %d are taken", i, len(good))
		}
		for v := range 256 {
			b := bytes.Clone(good)
			b[i] = byte(v)
			check(t, b)
		}
	}
	if _, err := Parse(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte too many is taken")
	}
}

// check holds that what Parse takes is a state, written as AppendBinary
// writes it.
func check(t *testing.T, b []byte) {
	l, err := Parse(b)
	if err != nil {
		return
	}
	if s := l.fault(); s != "" {
		t.Fatalf("%x: %s", b, s)
	}
	if again := l.AppendBinary(nil); !bytes.Equal(again, b) {
		t.Fatalf("%x becomes %x", b, again)
	}
}

func FuzzParse(f *testing.F) {
	p := newPlayer(&bytes.Buffer{})
	f.Add(p.l.AppendBinary(nil))
	p.run(f, busy)
	f.Add(p.l.AppendBinary(nil))
	p.run(f, "release b; want b read try")
	f.Add(p.l.AppendBinary(nil))
	f.Fuzz(check)
}

// TestLock_IdleLocksAreSmall measures locks that nodes hold greedily and
// nobody uses, with name and map entry.
func TestLock_IdleLocksAreSmall(t *testing.T) {
	const n, bar = 100_000, 300
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	all := map[string]*Lock{}
	var out Out
	token := uint64(0)
	at := At{Next: func() uint64 { token++; return token }}
	for i := range n {
		l := &Lock{}
		l.Want(&out, machine.Who{Session: 1, Req: 1}, at, Write, false)
		l.Want(&out, machine.Who{Session: 2, Req: 1}, at, Write, false)
		l.Release(&out, machine.Who{Session: 1, Req: 2}, at, token, 0)
		all[fmt.Sprintf("accounts/%012d", i)] = l
		out.Reset()
	}
	each := int(used()-before) / n
	runtime.KeepAlive(all)
	t.Logf("%d bytes each", each)
	if each > bar {
		t.Errorf("an idle lock has %d bytes, more than %d", each, bar)
	}
}
