package deps

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	module = "github.com/distgear/distgear"
	root   = "../.."
)

// A file is one parsed Go file of the tree.
type file struct {
	path      string // slash-separated, from the root of the repository
	lines     int
	test      bool
	generated bool
	ast       *ast.File
	src       []byte
}

// imports lists what f imports; a package of our own without the module's path ("." is the root).
func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser checked it
		}
		paths = append(paths, ours(p))
	}
	return paths
}

// ours shortens an import path of this module to its folder.
func ours(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// std reports whether an import path as imports gives it is the standard library's, given the folders of the tree.
func std(p string, t *tree) bool {
	first, _, _ := strings.Cut(p, "/")
	return p != "." && !strings.Contains(first, ".") && t.packages[p] == nil
}

// A tree is every Go package of the repository, bench included, by folder.
type tree struct {
	fset     *token.FileSet
	packages map[string][]*file
	errs     []error
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// readTree parses the repository once for all tests.
var readTree = sync.OnceValue(func() *tree {
	t := &tree{fset: token.NewFileSet(), packages: map[string][]*file{}}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if base == "testdata" || base == "vendor" || name != root && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		parsed, err := parser.ParseFile(t.fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.errs = append(t.errs, err)
			return nil
		}
		t.packages[path.Dir(rel)] = append(t.packages[path.Dir(rel)], &file{
			path: rel, lines: bytes.Count(src, []byte("\n")), test: strings.HasSuffix(base, "_test.go"),
			generated: generated.Match(src), ast: parsed, src: src,
		})
		return nil
	})
	if err != nil {
		t.errs = append(t.errs, err)
	}
	return t
})

// load is readTree for a test: what could not be read fails it.
func load(t *testing.T) *tree {
	t.Helper()
	tr := readTree()
	for _, err := range tr.errs {
		t.Error(err)
	}
	if len(tr.packages) == 0 {
		t.Fatal("no Go file found: is this the repository?")
	}
	return tr
}

// each calls f for every file, test files included.
func (t *tree) each(f func(pkg string, file *file)) {
	for pkg, files := range t.packages {
		for _, file := range files {
			f(pkg, file)
		}
	}
}
