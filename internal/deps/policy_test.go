package deps

import (
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A room is one line of the import policy.
type room struct {
	path string // folder; a final /... means each package below it
	pure bool   // no clock, no goroutine, no I/O: of the standard library only what pureStd lists, and nothing of ours that is not pure
	may  string // what else it may import: folders of ours ("." is the root, a final /... what is below), modules by path
}

const (
	nats   = "github.com/nats-io/nats-server/v2 github.com/nats-io/nats.go"
	screen = "charm.land/bubbletea/v2 charm.land/lipgloss/v2 github.com/charmbracelet/colorprofile github.com/charmbracelet/x/term github.com/charmbracelet/x/ansi"
)

// policy is docs/design.md's picture as a table, from the bottom up. Imports point down only. A package that is not here fails the test: add its line, and
// think about the arrow. Rooms of one level that users import (geartest, later executor, shared, space) do not import each other; gateway shows them.
var policy = []room{
	{path: "internal/wire", pure: true},
	{path: "internal/plan", pure: true},
	{path: "internal/journal", pure: true, may: "internal/wire"},
	{path: "internal/ring", pure: true},
	{path: "internal/machine", pure: true},
	{path: "internal/machine/transcript"}, // for tests
	{path: "internal/machine/...", pure: true, may: "internal/ring internal/machine internal/machine/..."},
	{path: "internal/codec", may: "github.com/segmentio/encoding"},
	{path: "internal/runner"},
	{path: "internal/engine", may: nats}, // the only one that knows NATS
	{path: "internal/ledger", may: "internal/engine"},
	{path: "internal/operation", pure: true, may: "internal/machine internal/machine/..."},
	{path: "internal/look", pure: true, may: "internal/machine internal/machine/..."},
	{path: "internal/shard/executors", pure: true, may: "internal/operation internal/look internal/machine internal/machine/..."},
	{path: "internal/shard", pure: true, may: "internal/shard/executors internal/operation internal/look internal/machine internal/machine/..."},
	{path: "internal/client", may: "internal/engine internal/shard internal/operation internal/look internal/machine internal/machine/..."},
	{path: "internal/link", may: "internal/wire internal/engine internal/runner internal/codec"},
	{path: "internal/fault", pure: true, may: "internal/wire"},
	{path: "internal/session", may: "internal/fault internal/wire internal/engine internal/link internal/runner internal/codec internal/machine/... github.com/shirou/gopsutil/v4"},
	{path: "internal/room", may: "internal/client internal/wire internal/link internal/runner internal/machine internal/machine/..."},
	{path: "hub", may: "internal/ledger internal/client internal/shard internal/operation internal/look internal/machine internal/wire internal/engine internal/link internal/runner internal/codec internal/session internal/machine/..."},
	{path: "cluster", pure: true},
	{path: "record", pure: true, may: "cluster"},
	{path: "internal/place", may: "cluster internal/fault internal/link internal/machine/..."},
	{path: "internal/served", may: "internal/fault internal/wire"},
	{path: "internal/payload", may: "cluster internal/codec internal/fault"},
	{path: "internal/settings", may: "internal/place go.yaml.in/yaml/v4"},
	{path: "internal/meter", may: "cluster github.com/shirou/gopsutil/v4"},
	{path: "internal/graph", may: "cluster internal/journal internal/place internal/plan internal/wire"},
	{path: "internal/runs", may: "cluster record internal/graph internal/fault internal/place internal/plan internal/journal internal/link internal/runner internal/codec internal/wire"},
	{path: "internal/naming", may: "internal/runs"},
	{path: "internal/memo", may: "cluster record internal/runs internal/journal internal/fault"},
	{path: "internal/outcome", may: "internal/fault internal/runner internal/wire"},
	{path: "internal/handled", may: "cluster record internal/runs internal/outcome internal/journal internal/fault internal/place internal/plan internal/link internal/runner internal/wire"},
	{path: "internal/timetable", may: "github.com/netresearch/go-cron"},
	{path: "audit", may: "record"},
	{path: "internal/events", may: "audit record internal/room internal/client internal/engine internal/operation internal/look internal/journal internal/fault internal/runner internal/wire internal/timetable internal/machine internal/machine/..."},
	{path: "internal/find", may: "audit cluster record internal/events internal/graph internal/handled internal/runs internal/journal internal/place internal/plan internal/wire internal/codec internal/fault internal/look internal/machine/..."},
	{path: ".", may: "internal/find internal/payload internal/served internal/client internal/room hub cluster record internal/runs internal/naming internal/memo internal/handled internal/events internal/journal internal/place internal/fault internal/settings internal/meter internal/wire internal/engine internal/link " +
		"internal/runner internal/codec internal/session internal/machine/... internal/plan"},
	{path: "internal/objects", may: ". internal/room internal/client internal/operation internal/machine internal/machine/..."},
	{path: "internal/collections", may: ". internal/objects internal/client internal/operation internal/codec internal/machine internal/machine/..."},
	{path: "internal/orders", may: "internal/room internal/fault internal/link internal/wire internal/client internal/look"},
	{path: "internal/work/frames", pure: true, may: "internal/machine internal/machine/..."},
	{path: "internal/work/values", may: "internal/room internal/fault internal/wire internal/engine"},
	{path: "internal/work", may: "internal/payload internal/work/values internal/ring internal/orders internal/work/frames internal/room internal/fault internal/link internal/runner internal/wire internal/engine internal/client internal/objects internal/look internal/machine internal/machine/..."},
	{path: "internal/work/stand", may: "internal/payload internal/work/values internal/work internal/work/frames internal/room internal/fault internal/link internal/wire internal/machine internal/machine/..."},
	{path: "internal/work/durable", may: ". cluster internal/timetable internal/work internal/work/values internal/room internal/fault internal/runner internal/wire internal/engine internal/client internal/operation internal/look internal/machine internal/machine/..."},
	{path: "shared", may: ". cluster internal/orders internal/objects internal/collections internal/client internal/operation internal/look internal/codec internal/machine internal/machine/..."},
	{path: "executor", may: ". cluster internal/orders github.com/charmbracelet/x/term internal/work internal/work/values internal/work/durable internal/work/stand internal/room internal/codec internal/fault internal/wire internal/machine internal/machine/..."},
	{path: "internal/waitlist", may: "record"},
	{path: "internal/tail", may: "cluster record"},
	{path: "schedule", may: ". record internal/room internal/events internal/look internal/codec"},
	{path: "lifecycle", may: ". cluster record shared internal/events internal/operation"},
	{path: "internal/scheduled", may: ". executor schedule"},
	{path: "gateway", may: ". audit cluster record shared executor schedule lifecycle internal/scheduled internal/tail internal/waitlist"},
	{path: "geartest", may: ". hub cluster go.uber.org/goleak"},
	{path: "geartest/replay", may: ". record internal/events internal/journal internal/machine/... internal/runner"},
	{path: "geartest/crash", may: ". cluster record internal/events internal/journal internal/memo internal/codec internal/machine/... internal/runner internal/wire"},
	{path: "geartest/history", may: ". github.com/anishathalye/porcupine"},
	{path: "internal/cli", may: ". cluster record shared executor schedule lifecycle gateway internal/scheduled internal/cli/... github.com/spf13/cobra " + screen},
	{path: "internal/cli/...", may: ". cluster record gateway internal/cli/... github.com/spf13/cobra " + screen},
	{path: "cmd/distgear", may: "internal/cli"},
	{path: "examples/...", may: ". schedule shared executor cluster record gateway examples/..."},
	{path: "internal/deps"},
}

// instruments is what test files may import besides what their room may: geartest, and what tests of the rooms above and beside are written with.
const instruments = "geartest geartest/history go.uber.org/goleak github.com/rogpeppe/go-internal github.com/anishathalye/porcupine internal/engine " + nats

// pureStd is the part of the standard library that pure packages are written with. time is for Duration and Time; what reads the clock is refused below.
var pureStd = strings.Fields("bytes cmp encoding/binary encoding/json errors fmt hash/fnv hash/maphash iter maps math math/bits math/rand/v2 " +
	"reflect slices sort strconv strings time unicode unicode/utf8")

// impure are functions of pureStd that look at the world.
var impure = map[string][]string{
	"time":         strings.Fields("Now Since Until After AfterFunc Tick NewTimer NewTicker Sleep Local LoadLocation"),
	"math/rand/v2": strings.Fields("Int IntN Int64 Int64N Int32 Int32N Uint32 Uint32N Uint64 Uint64N UintN N Float64 Float32 Perm Shuffle NormFloat64 ExpFloat64"),
	"fmt":          strings.Fields("Print Printf Println Scan Scanf Scanln"),
}

func (r room) holds(pkg string) bool { return covers(r.path, pkg) }

// covers reports whether an entry of the table means p: itself, what is below it if it ends in /..., or a package of that module.
func covers(entry, p string) bool {
	if below, ok := strings.CutSuffix(entry, "/..."); ok {
		return strings.HasPrefix(p, below+"/")
	}
	return entry == p || strings.Contains(strings.SplitN(entry, "/", 2)[0], ".") && entry != "." && strings.HasPrefix(p, entry+"/")
}

func allowed(list, p string) bool {
	return slices.ContainsFunc(strings.Fields(list), func(e string) bool { return covers(e, p) })
}

func roomOf(pkg string) (room, bool) {
	i := slices.IndexFunc(policy, func(r room) bool { return r.holds(pkg) })
	if i < 0 {
		return room{}, false
	}
	return policy[i], true
}

func TestImports(t *testing.T) {
	tr := load(t)
	tr.each(func(pkg string, f *file) {
		if own(pkg) {
			return
		}
		r, ok := roomOf(pkg)
		if !ok {
			t.Errorf("%s: package %s is not in the import policy (internal/deps/policy_test.go)", f.path, pkg)
			return
		}
		for _, imp := range f.imports() {
			switch {
			case imp == "C" || imp == "plugin":
				t.Errorf("%s imports %s", f.path, imp)
			case f.test && (imp == pkg || std(imp, tr) || allowed(r.may, imp) || allowed(instruments, imp)):
			case f.test && tr.packages[imp] != nil && above(imp, pkg):
				// An external test may look at its room through the rooms above it; Go itself refuses a cycle.
			case !f.test && r.pure && std(imp, tr) && !slices.Contains(pureStd, imp):
				t.Errorf("%s: a pure package imports %s", f.path, imp)
			case !f.test && std(imp, tr):
			case !f.test && allowed(r.may, imp) && (!r.pure || pureRoom(imp)):
			default:
				t.Errorf("%s: package %s may not import %s", f.path, pkg, imp)
			}
		}
		if r.pure && !f.test {
			checkPure(t, tr, f)
		}
	})
}

// own reports whether a folder belongs to a module of its own, which may import what it likes: bench holds rivals, tools the tools.
func own(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return first == "bench" || first == "tools"
}

func pureRoom(pkg string) bool { r, ok := roomOf(pkg); return ok && r.pure }

// above reports whether a comes later in the policy than b.
func above(a, b string) bool {
	index := func(p string) int { return slices.IndexFunc(policy, func(r room) bool { return r.holds(p) }) }
	return index(a) > index(b)
}

// checkPure refuses goroutines, channels and functions that look at the clock or at shared randomness.
func checkPure(t *testing.T, tr *tree, f *file) {
	t.Helper()
	names := map[string]string{} // name of the import in the file → path
	for _, spec := range f.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		name := p[strings.LastIndex(p, "/")+1:]
		if p == "math/rand/v2" {
			name = "rand"
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		at := func(what string) { t.Errorf("%s: a pure package uses %s", tr.fset.Position(n.Pos()), what) }
		switch n := n.(type) {
		case *ast.GoStmt:
			at("a goroutine")
		case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			at("channels")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(impure[names[x.Name]], n.Sel.Name) {
				at(x.Name + "." + n.Sel.Name)
			}
		}
		return true
	})
}

// TestPolicyTable checks the table itself: each arrow points to a line above it, or to a package of its own room.
func TestPolicyTable(t *testing.T) {
	seen := map[string]bool{}
	for i, r := range policy {
		if seen[r.path] {
			t.Errorf("%s is there twice", r.path)
		}
		seen[r.path] = true
		for _, e := range strings.Fields(r.may) {
			if strings.Contains(strings.SplitN(e, "/", 2)[0], ".") && e != "." {
				continue // a module
			}
			at := slices.IndexFunc(policy, func(q room) bool { return q.path == e })
			if at < 0 || at > i && e != r.path+"/..." {
				t.Errorf("%s may import %s, which is not below it", r.path, e)
			}
			if r.pure && (at < 0 || !policy[at].pure) {
				t.Errorf("%s is pure and may import %s, which is not", r.path, e)
			}
		}
	}
}
