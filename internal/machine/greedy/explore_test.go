package greedy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var everything = flag.Bool("everything", false, "explore the large families of worlds whole: eleven million states, three minutes or more")

// explorer walks every state that a world can reach once.
type explorer struct {
	seen map[string]bool // true while the state is on the path
	path []event
	ends int
}

func (x *explorer) walk(w *world) error {
	k := w.key()
	if on, ok := x.seen[k]; ok {
		if on { // programs end: what comes round has made no progress
			return fmt.Errorf("after %v:\nmessages go round for ever", x.path)
		}
		return nil
	}
	x.seen[k] = true
	es := w.events()
	for _, e := range es {
		c := w
		if len(es) > 1 || done(es) {
			c = w.clone()
		}
		x.path = append(x.path, e)
		if err := c.do(e); err != nil {
			return fmt.Errorf("after %v:\n%w", x.path, err)
		}
		if err := x.walk(c); err != nil {
			return err
		}
		x.path = x.path[:len(x.path)-1]
	}
	if done(es) {
		x.ends++
		if err := w.settled(); err != nil {
			return fmt.Errorf("after %v:\n%w", x.path, err)
		}
	}
	x.seen[k] = false
	return nil
}

// done reports that nothing must happen any more: what is left are faults and
// choices.
func done(es []event) bool {
	for _, e := range es {
		switch e.kind {
		case "step", "up", "down", "expire", "back":
			return false
		}
	}
	return true
}

func (c *config) name() string {
	var b strings.Builder
	for i, ps := range c.programs {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strings.Join(ps, "|"))
	}
	fmt.Fprintf(&b, " turn%d kills%d gives%d gones%d", c.turn, c.kills, c.gives, c.gones)
	return b.String()
}

func explore(t *testing.T, configs []config) {
	for i := range configs {
		c := &configs[i]
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			x := explorer{seen: make(map[string]bool)}
			began := time.Now()
			if err := x.walk(newWorld(c)); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states, %d ends, %v", len(x.seen), x.ends, time.Since(began).Round(time.Millisecond))
		})
	}
}

// TestProtocol_L1_L4_EveryInterleaving: writers and readers of three nodes.
func TestProtocol_L1_L4_EveryInterleaving(t *testing.T) {
	explore(t, []config{
		{programs: [][]string{{"wuwu"}, {"wuwu"}}},
		{programs: [][]string{{"wu"}, {"wu"}, {"wu"}}},
		{programs: [][]string{{"wu"}, {"ru"}, {"ru"}}},
		{programs: [][]string{{"ru", "wu"}, {"ru", "wu"}}},
		{programs: [][]string{{"ru", "wu"}, {"ru", "wu"}}, turn: 2},
		{programs: [][]string{{"wu", "wu"}, {"wu", "wu"}}, turn: 2},
		{programs: [][]string{{"wdu", "ru"}, {"wu"}, {"ru"}}},
		{programs: [][]string{{"wu*"}, {"wu*"}, {"wu"}}},
		{programs: [][]string{{"wu*", "ru"}, {"ru*"}}, gives: 1},
		{programs: [][]string{{"wu"}, {"ru"}, {"wu"}}, kills: 1},
		{programs: [][]string{{"wu"}, {"wu"}}, gones: 1, gives: 1},
	})
}

// TestProtocol_L11_TriesEveryInterleaving: tries beside other wants.
func TestProtocol_L11_TriesEveryInterleaving(t *testing.T) {
	explore(t, []config{
		{programs: [][]string{{"tu"}, {"tu"}, {"tu"}}},
		{programs: [][]string{{"wu"}, {"tu"}, {"wu"}}},
		{programs: [][]string{{"ru"}, {"tu"}, {"qu"}}},
		{programs: [][]string{{"wutu"}, {"tuwu"}}, gives: 1},
		{programs: [][]string{{"tu*", "wu*"}, {"wu"}}},
		{programs: [][]string{{"wu"}, {"tu"}, {"ru"}}, kills: 1},
		{programs: [][]string{{"tu"}, {"tuwu"}}, gones: 1},
		{programs: [][]string{{"wcu", "tu"}, {"wpu"}}},
	})
}

// TestProtocol_L9_ConditionsEveryInterleaving: no notification is lost.
func TestProtocol_L9_ConditionsEveryInterleaving(t *testing.T) {
	explore(t, []config{
		{programs: [][]string{{"wcu"}, {"wpu"}}},
		{programs: [][]string{{"wcu", "wpu"}}},
		{programs: [][]string{{"wcu"}, {"wcu"}, {"wau"}}},
		{programs: [][]string{{"wcu"}, {"wcu"}, {"wpuwpu"}}},
		{programs: [][]string{{"wcu", "wcu"}, {"wpuwpu"}}},
		{programs: [][]string{{"wcu", "wpu"}, {"wcu", "wpu"}}},
		{programs: [][]string{{"wcu*"}, {"wcu"}, {"wpu"}}},
		{programs: [][]string{{"wcu*", "wcu"}, {"wpu"}}, gives: 1},
		{programs: [][]string{{"wcu", "ru"}, {"wpu"}}},
		{programs: [][]string{{"wcu", "ru*"}, {"wpdu"}}},
		{programs: [][]string{{"wcu"}, {"wcu"}, {"wpu"}}, kills: 1},
		{programs: [][]string{{"wcu*"}, {"wpu"}}, kills: 1, gives: 1},
		{programs: [][]string{{"wcu"}, {"wpu"}}, gones: 1},
	})
}

// family explores the worlds of a list of programs, as far as time allows
// where not everything is asked for.
func family(t *testing.T, programs []string, size int, world func(p []string) *config) {
	t.Parallel()
	pick := make([]int, size)
	states, worlds := 0, 0
	for {
		ps := make([]string, size)
		for i, n := range pick {
			ps[i] = programs[n]
		}
		if c := world(ps); c != nil {
			x := explorer{seen: make(map[string]bool)}
			if err := x.walk(newWorld(c)); err != nil {
				t.Fatalf("%s: %v", c.name(), err)
			}
			states += len(x.seen)
			worlds++
		}
		i := 0
		for i < size && pick[i] == len(programs)-1 {
			pick[i] = 0
			i++
		}
		if i == size {
			break
		}
		pick[i]++
	}
	t.Logf("%d worlds, %d states", worlds, states)
}

// TestProtocol_Triples puts every three of a set of programs on three nodes,
// with a session that may end at every point.
func TestProtocol_Triples(t *testing.T) {
	programs := []string{"ru*", "tu", "wcu", "wpu"}
	switch {
	case *everything:
		programs = []string{"wu*", "ru", "tu", "qu", "wdu", "wcu*", "wpu"}
	case raceEnabled:
		programs = []string{"tu", "wcu", "wpu"}
	}
	family(t, programs, 3, func(p []string) *config {
		if !slices.IsSorted(p) {
			return nil // nodes are alike
		}
		return &config{programs: [][]string{{p[0]}, {p[1]}, {p[2]}}, kills: 1, gives: 1}
	})
}

// TestProtocol_PairsOfPairs puts two goroutines on each of two nodes.
func TestProtocol_PairsOfPairs(t *testing.T) {
	programs := []string{"ru", "wcu", "wpu"}
	switch {
	case *everything:
		programs = []string{"wu*", "ru", "tu", "wcu*", "wpu"}
	case raceEnabled:
		programs = []string{"wcu", "wpu"}
	}
	family(t, programs, 4, func(p []string) *config {
		if slices.Compare(p[:2], p[2:]) > 0 {
			return nil
		}
		return &config{programs: [][]string{p[:2], p[2:]}, kills: 1, turn: 2}
	})
}

// TestProtocol_SixGoroutines has two on each of three nodes.
func TestProtocol_SixGoroutines(t *testing.T) {
	configs := []config{
		{programs: [][]string{{"wu", "ru"}, {"wu", "ru"}, {"wu"}}},
		{programs: [][]string{{"wcu", "tu"}, {"wpu"}, {"wpu", "ru"}}},
	}
	if !raceEnabled {
		configs = append(configs,
			config{programs: [][]string{{"wu", "ru"}, {"wu", "ru"}, {"wu", "ru"}}},
			config{programs: [][]string{{"wu", "ru"}, {"ru", "wu"}, {"wdu", "qu"}}, turn: 2},
			config{programs: [][]string{{"wcu", "wpu"}, {"wcu", "ru"}, {"wpu", "tu"}}},
		)
	}
	if *everything {
		configs = append(configs,
			config{programs: [][]string{{"wu", "ru"}, {"wu", "ru"}, {"wu", "ru"}}, kills: 1},
			config{programs: [][]string{{"wcu", "wpu"}, {"wcu", "ru"}, {"wpu", "tu"}}, kills: 1},
		)
	}
	explore(t, configs)
}

// TestProtocol_RandomWalks takes larger worlds at random.
func TestProtocol_RandomWalks(t *testing.T) {
	seed, walks := uint64(time.Now().UnixNano()), uint64(6000)
	if raceEnabled {
		walks = 600
	}
	for i := range walks {
		if path, err := walk(rand.New(rand.NewPCG(seed, i))); err != nil {
			t.Fatalf("seed %d, %d: %v\n%v", seed, i, err, path)
		}
	}
}

func walk(r *rand.Rand) (string, error) {
	c := &config{turn: uint8(r.IntN(4)), kills: r.IntN(3), gives: r.IntN(3), gones: r.IntN(5) / 4, back: r.IntN(2) == 0}
	blocks := []string{"wu", "wu", "ru", "ru", "tu", "qu", "wdu", "wcu", "wpu", "wpu", "wau", "wcpu"}
	for range 2 + r.IntN(4) {
		var ps []string
		for range 1 + r.IntN(3) {
			p := ""
			for range 1 + r.IntN(4) {
				p += blocks[r.IntN(len(blocks))]
			}
			if r.IntN(3) == 0 {
				p += "*"
			}
			ps = append(ps, p)
		}
		c.programs = append(c.programs, ps)
	}
	w := newWorld(c)
	var path []event
	for range 20000 {
		es := w.events()
		if done(es) {
			return c.name() + fmt.Sprint(path), w.settled()
		}
		e := es[r.IntN(len(es))]
		if e.kind == "kill" || e.kind == "gone" || e.kind == "expire" {
			if r.IntN(20) > 0 {
				continue
			}
		}
		if r.IntN(16) == 0 {
			w = w.clone() // a fail-over: the state goes through bytes, what is on the way is kept
		}
		path = append(path, e)
		if err := w.do(e); err != nil {
			return c.name() + fmt.Sprint(path), err
		}
	}
	return c.name() + fmt.Sprint(path), fmt.Errorf("does not end")
}
