package main

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{
		"wordcount": func(context.Context, []string) error { main(); return nil },
		"measured": func(context.Context, []string) error {
			main()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Println("memory", m.Sys) // all that it ever took from the system
			return nil
		},
	})
}

// expected counts the words of a directory as simply as can be.
func expected(t *testing.T, dir string, top int) string {
	t.Helper()
	counts, words, files := map[string]int{}, 0, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		for w := range strings.FieldsFuncSeq(strings.ToLower(string(b)), func(r rune) bool { return !unicode.IsLetter(r) }) {
			counts[w]++
			words++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []counted
	for w, n := range counts {
		all = append(all, counted{w, n})
	}
	s := fmt.Sprintf("%d words, %d different ones, in %d files\n", words, len(all), files)
	for _, c := range most(all, top) {
		s += fmt.Sprintf("%7d %s\n", c.Count, c.Word)
	}
	return s
}

// TestPlacements counts the documentation and the source of this repository as one process, as one that hosts the hub, and as four: all print the same, and what
// a simple count says.
func TestPlacements(t *testing.T) {
	corpus := t.TempDir() // a copy: somebody may be writing
	for _, dir := range []string{"../../docs", "../../shared", "../../executor"} {
		if err := os.CopyFS(filepath.Join(corpus, filepath.Base(dir)), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	got := geartest.Same(t, geartest.Program{
		Role: "wordcount", Processes: 4, Leads: 1,
		Args: func(i, _ int) []string {
			if i > 0 {
				return []string{"-work"}
			}
			return []string{"-top", "100", corpus}
		},
		Keep: func(line string) bool { return !strings.HasPrefix(line, "works as ") },
	})
	if want := expected(t, corpus, 100); got != want {
		t.Errorf("it printed\n%s\nwant\n%s", got, want)
	}
}

// TestLarge counts a file that is larger than all the memory that the process ever has.
func TestLarge(t *testing.T) {
	const size, limit = 80 << 20, 64 << 20
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "large.txt"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	source, counts, words, written := rand.New(rand.NewPCG(1, 2)), make([]int, 1<<20), 0, 0
	for line := []byte(nil); written < size; written += len(line) {
		line = line[:0]
		for range 20 {
			// Some words are frequent, and most of a million are there.
			k := int(math.Exp2(20*math.Sqrt(source.Float64()))) - 1
			counts[k]++
			words++
			line = append(appendWord(line, k), ", "...)
		}
		line[len(line)-1] = '\n'
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	different, top := 0, 0
	for k, n := range counts {
		if n > 0 {
			different++
		}
		if n > counts[top] {
			top = k
		}
	}
	p := geartest.Start(t, geartest.Child{
		Role: "measured", Args: []string{"-top", "1", dir}, Dir: t.TempDir(), Env: []string{"GOMEMLIMIT=48MiB", "TMPDIR=" + t.TempDir()},
		Ready: fmt.Sprintf("%d words, %d different ones, in 1 files", words, different), Wait: 4 * time.Minute, // on a busy machine
	})
	if got, want := p.Line(""), fmt.Sprintf("%d %s", counts[top], appendWord(nil, top)); got != want {
		t.Errorf("the most frequent word is %q, want %q", got, want)
	}
	var memory int
	if _, err := fmt.Sscan(p.Line("memory"), &memory); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB of memory for %d MiB of text with %d different words", memory>>20, written>>20, different)
	if memory > limit {
		t.Errorf("it took %d MiB of memory, more than %d", memory>>20, limit>>20)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// appendWord writes a number with letters.
func appendWord(b []byte, k int) []byte {
	for ; ; k /= 20 {
		b = append(b, "bcdfghjklmnpqrstvwxz"[k%20], "aeiou"[k%5])
		if k < 20 {
			return b
		}
	}
}

// TestPieces cuts a text at each size: each field is in one piece.
func TestPieces(t *testing.T) {
	text := "  a bc\n\ndéf ghij\tk  lmnopqrst uv  "
	file := filepath.Join(t.TempDir(), "text")
	for _, text := range []string{text, strings.TrimSpace(text), "", " ", "x"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for size := 1; size <= len(text); size++ {
			var got []string
			for from := 0; from < len(text); from += size {
				in := piece{File: file, From: int64(from), To: int64(from + size)}
				if err := fields(in, func(f string) { got = append(got, f) }); err != nil {
					t.Fatal(err)
				}
			}
			if want := strings.Fields(text); strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("%q in pieces of %d: %q", text, size, got)
			}
		}
	}
	if err := os.WriteFile(file, make([]byte, 3<<20), 0o600); err != nil { // blanks only
		t.Fatal(err)
	}
	if err := fields(piece{File: file, To: 1}, func(string) { t.Error("a field of blanks") }); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 3<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fields(piece{File: file, To: 1}, func(string) {}); err == nil || !strings.Contains(err.Error(), "is it text?") {
		t.Errorf("a field of 3 MiB: %v", err)
	}
}
