// Package transcript runs the transcripts in machines' tests: files of operations, a
// line each, and behind each what came of it, indented.
//
//	transcript.Run(t, *rewrite, func(out *bytes.Buffer) transcript.Operation {
//		p := &player{out: out}
//		return p.do
//	})
//
// Empty lines, and those that begin with #, are for people.
package transcript

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Operation does that of a line, and prints what comes of it, a tab before each
// line.
type Operation func(words []string) error

// few is fewer files than any machine has: the rest was not found.
const few = 5

// Run runs testdata/*.txt, a sub-test each, with a machine of its own: begin makes
// it, given where to print. With rewrite the files are written anew.
func Run(t *testing.T, rewrite bool, begin func(out *bytes.Buffer) Operation) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < few {
		t.Fatalf("only %d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			switch got := Play(t, string(data), begin); {
			case rewrite:
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			case got != string(data):
				t.Errorf("%s differs (run with -rewrite and read the difference):\n%s", file, got)
			}
		})
	}
}

// Play runs one transcript, and returns it with what came of it now.
func Play(t testing.TB, script string, begin func(out *bytes.Buffer) Operation) string {
	t.Helper()
	out := &bytes.Buffer{}
	do, operations := begin(out), 0
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "\t") {
			continue
		}
		fmt.Fprintln(out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		operations++
		if err := do(strings.Fields(line)); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	if operations == 0 {
		t.Fatal("a transcript without operations")
	}
	return out.String()
}
