package deps

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

const (
	maxFile    = 600  // lines of a file, tests included
	maxPackage = 2500 // lines of a package without its tests
	maxMain    = 40   // lines of a func main
)

func TestSizes(t *testing.T) {
	tr := load(t)
	total := map[string]int{}
	tr.each(func(pkg string, f *file) {
		if f.generated {
			return
		}
		if f.lines > maxFile {
			t.Errorf("%s: %d lines, more than %d: find the second idea in it", f.path, f.lines, maxFile)
		}
		if !f.test {
			total[pkg] += f.lines
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "main" && f.ast.Name.Name == "main" {
				if n := tr.fset.Position(fn.End()).Line - tr.fset.Position(fn.Pos()).Line; n > maxMain {
					t.Errorf("%s: main has %d lines, more than %d", f.path, n, maxMain)
				}
			}
		}
	})
	for pkg, n := range total {
		if n > maxPackage {
			t.Errorf("%s: %d lines without tests, more than %d", pkg, n, maxPackage)
		}
	}
}

func TestPackageComments(t *testing.T) {
	for pkg, files := range load(t).packages {
		var code, documented bool
		for _, f := range files {
			code = code || !f.test
			documented = documented || !f.test && f.ast.Doc != nil && len(strings.Fields(f.ast.Doc.Text())) > 2
		}
		if code && !documented {
			t.Errorf("%s: no package comment", pkg)
		}
	}
}

// TestPackageNames refuses names that say nothing.
func TestPackageNames(t *testing.T) {
	for pkg, files := range load(t).packages {
		for _, f := range files {
			name := strings.TrimSuffix(f.ast.Name.Name, "_test")
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "types", "misc", "base", "shared_types"}, name) {
				t.Errorf("%s: package %s says nothing about what is in it", pkg, name)
			}
		}
	}
}

// TestNoSleepNoSkip: tests wait on a signal, and run everywhere. A sleep inside synctest.Test costs no time and is how it tells time, so it may stay.
func TestNoSleepNoSkip(t *testing.T) {
	tr := load(t)
	tr.each(func(_ string, f *file) {
		if !f.test {
			return
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch {
			case x.Name == "synctest" && sel.Sel.Name == "Test":
				return false
			case x.Name == "time" && sel.Sel.Name == "Sleep":
				t.Errorf("%s: time.Sleep in a test: wait for what you wait for (geartest.Eventually, a channel, synctest)", tr.fset.Position(n.Pos()))
			case slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name):
				t.Errorf("%s: a test that skips itself says nothing: use a build tag, or another way where this one is missing", tr.fset.Position(n.Pos()))
			}
			return true
		})
	})
}
