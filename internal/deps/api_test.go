package deps

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/printer"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite api.txt instead of comparing")

// maxShort is how many lines `go doc -short` of the root may have.
const maxShort = 30

// TestAPI compares api.txt with what the public packages export, so that a change of it is a line in the diff.
func TestAPI(t *testing.T) {
	got := surface(load(t))
	name := filepath.Join(root, "api.txt")
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	have, listed := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for _, l := range have {
		if !slices.Contains(listed, l) {
			t.Errorf("exported, not in api.txt: %s", l)
		}
	}
	for _, l := range listed {
		if !slices.Contains(have, l) {
			t.Errorf("in api.txt, not exported: %s", l)
		}
	}
	t.Error("api.txt is not what the code exports; if that is meant: make api")
}

// TestRootIsShort holds the root package to a page of `go doc -short`.
func TestRootIsShort(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "doc", "-short", module).CombinedOutput()
	if err != nil {
		t.Fatalf("go doc: %v\n%s", err, out)
	}
	if n := bytes.Count(out, []byte("\n")); n > maxShort {
		t.Errorf("go doc -short has %d lines, more than %d:\n%s", n, maxShort, out)
	}
}

// public reports whether users may import a package.
func public(pkg string) bool {
	first, rest, _ := strings.Cut(pkg, "/")
	return !own(pkg) && !slices.Contains([]string{"internal", "cmd", "examples"}, first) && !strings.HasPrefix(rest, "internal")
}

// surface lists one exported thing a line, as Go's own api files do.
func surface(tr *tree) string {
	var out strings.Builder
	out.WriteString("# What users can name. Written by make api, compared by internal/deps.\n")
	for _, pkg := range slices.Sorted(maps.Keys(tr.packages)) {
		if !public(pkg) {
			continue
		}
		var files []*ast.File
		for _, f := range tr.packages[pkg] {
			if !f.test {
				files = append(files, f.ast)
			}
		}
		if len(files) == 0 {
			continue
		}
		importPath := module
		if pkg != "." {
			importPath += "/" + pkg
		}
		d, err := doc.NewFromFiles(tr.fset, files, importPath, doc.PreserveAST)
		if err != nil {
			panic(err) // the files have been parsed
		}
		var lines []string
		add := func(format string, args ...any) {
			lines = append(lines, "pkg "+d.Name+", "+fmt.Sprintf(format, args...))
		}
		values(tr, add, d.Consts)
		values(tr, add, d.Vars)
		funcs(tr, add, d.Funcs)
		for _, typ := range d.Types {
			values(tr, add, typ.Consts)
			values(tr, add, typ.Vars)
			funcs(tr, add, typ.Funcs)
			funcs(tr, add, typ.Methods)
			for _, spec := range typ.Decl.Specs {
				typeLines(tr, add, spec.(*ast.TypeSpec))
			}
		}
		slices.Sort(lines)
		for _, l := range slices.Compact(lines) {
			out.WriteString(l + "\n")
		}
	}
	return out.String()
}

func values(tr *tree, add func(string, ...any), vs []*doc.Value) {
	for _, v := range vs {
		var typ ast.Expr // of a const without its own: the one above it, in an iota block
		for _, s := range v.Decl.Specs {
			spec := s.(*ast.ValueSpec)
			if spec.Type != nil || len(spec.Values) > 0 {
				typ = spec.Type
			}
			for i, name := range spec.Names {
				if !name.IsExported() {
					continue
				}
				line := v.Decl.Tok.String() + " " + name.Name
				if typ != nil {
					line += " " + oneLine(tr, typ)
				}
				if v.Decl.Tok == token.CONST && i < len(spec.Values) {
					line += " = " + oneLine(tr, spec.Values[i])
				}
				add("%s", line)
			}
		}
	}
}

func funcs(tr *tree, add func(string, ...any), fs []*doc.Func) {
	for _, f := range fs {
		decl := *f.Decl
		decl.Body, decl.Doc = nil, nil
		add("%s", oneLine(tr, &decl))
	}
}

func typeLines(tr *tree, add func(string, ...any), spec *ast.TypeSpec) {
	if !spec.Name.IsExported() {
		return
	}
	name := spec.Name.Name
	if spec.TypeParams != nil {
		var ps []string
		for _, f := range spec.TypeParams.List {
			for _, n := range f.Names {
				ps = append(ps, n.Name+" "+oneLine(tr, f.Type))
			}
		}
		name += "[" + strings.Join(ps, ", ") + "]"
	}
	if spec.Assign.IsValid() {
		name += " ="
	}
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		add("type %s struct", name)
		fields(tr, typ.Fields, func(l string) { add("type %s struct, %s", name, l) })
	case *ast.InterfaceType:
		add("type %s interface", name)
		fields(tr, typ.Methods, func(l string) { add("type %s interface, %s", name, l) })
	default:
		add("type %s %s", name, oneLine(tr, spec.Type))
	}
}

// fields lists exported fields with their types and tags, or methods, or what is embedded.
func fields(tr *tree, list *ast.FieldList, add func(string)) {
	for _, f := range list.List {
		typ := oneLine(tr, f.Type)
		if f.Tag != nil {
			typ += " " + f.Tag.Value
		}
		if len(f.Names) == 0 && ast.IsExported(strings.TrimLeft(typ[strings.LastIndex(typ, ".")+1:], "*~")) {
			add("embedded " + typ)
		}
		for _, n := range f.Names {
			if n.IsExported() {
				add(n.Name + " " + typ)
			}
		}
	}
}

func oneLine(tr *tree, n ast.Node) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, tr.fset, n); err != nil {
		panic(err) // a buffer takes everything
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
