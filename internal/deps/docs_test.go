package deps

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// named matches the tests that a sentence of docs/guarantees.md names: `TestX`, `TestX/sub`, in backticks.
var named = regexp.MustCompile("`((?:Test|Fuzz|Example)[A-Za-z0-9_]*)(/[^`]*)?`")

// TestGuarantees: each promise (a list item or a row of a table) names the tests that hold it, and those tests exist.
func TestGuarantees(t *testing.T) {
	tests := map[string]*file{}
	load(t).each(func(_ string, f *file) {
		if !f.test {
			return
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)[A-Za-z0-9_]*)\(`).FindAllSubmatch(f.src, -1) {
			tests[string(m[1])] = f
		}
	})
	text, err := os.ReadFile(filepath.Join(root, "docs", "guarantees.md"))
	if err != nil {
		t.Fatal(err)
	}
	ps := promises(string(text))
	if len(ps) == 0 {
		t.Error("docs/guarantees.md promises nothing")
	}
	for _, p := range ps {
		names := named.FindAllStringSubmatch(p, -1)
		if len(names) == 0 {
			t.Errorf("no test is named in: %s", p)
		}
		for _, n := range names {
			f := tests[n[1]]
			if f == nil {
				t.Errorf("there is no test %s, named in: %s", n[1], p)
				continue
			}
			// The name of a sub-test is a string somewhere in the file of its test, with spaces where `go test` prints _.
			if sub := strings.TrimPrefix(n[2], "/"); sub != "" && !strings.Contains(strings.ReplaceAll(string(f.src), " ", "_"), strings.ReplaceAll(sub, " ", "_")) {
				t.Errorf("%s has no sub-test %q (looked for in %s), named in: %s", n[1], sub, f.path, p)
			}
		}
	}
}

// promises are the list items (with the lines that continue them) and the table rows of a text, each on one line. A table's head is no promise.
func promises(text string) []string {
	var ps []string
	lines := strings.Split(text, "\n")
	open := false // the line before belongs to a list item
	for i, l := range lines {
		trimmed := strings.TrimSpace(l)
		rule := func(i int) bool {
			return i < len(lines) && strings.HasPrefix(lines[i], "|") && strings.Trim(lines[i], "|-: ") == ""
		}
		switch {
		case strings.HasPrefix(trimmed, "- "):
			ps, open = append(ps, trimmed), true
		case strings.HasPrefix(l, "|"):
			open = false
			if !rule(i) && !rule(i+1) {
				ps = append(ps, trimmed)
			}
		case open && trimmed != "" && strings.HasPrefix(l, " "):
			ps[len(ps)-1] += " " + trimmed
		default:
			open = false
		}
	}
	return ps
}

func TestPromises(t *testing.T) {
	got := promises("# Head\nWords.\n- one\n  goes on\n- two\n\n  not two\n| a | b |\n|---|:--|\n| three | `TestX` |\nend\n")
	if want := []string{"- one goes on", "- two", "| three | `TestX` |"}; !slices.Equal(got, want) {
		t.Errorf("promises = %q, want %q", got, want)
	}
}

// TestDependencies: each direct dependency is a row of docs/adr/dependencies.md, with its reason, and no row has outlived its dependency.
func TestDependencies(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "adr", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|(.*)$").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2]
	}
	required := map[string]bool{}
	for _, r := range mod.Require {
		required[r.Path] = true
		if !r.Indirect && len(strings.Fields(rows[r.Path])) < 4 {
			t.Errorf("docs/adr/dependencies.md does not say why we need %s", r.Path)
		}
	}
	for path := range rows {
		if !required[path] {
			t.Errorf("docs/adr/dependencies.md names %s, which go.mod does not require", path)
		}
	}
}
