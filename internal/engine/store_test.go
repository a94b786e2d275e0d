package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What processes that were killed have left is dropped, and nothing that a process has, or is
// about to have.
func TestDropLeft(t *testing.T) {
	in := t.TempDir()
	old := time.Now().Add(-2 * leftFor)
	dir := func(name string, locked bool, since time.Time) string {
		d := filepath.Join(in, name)
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if locked {
			f, err := lockDir(d)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
		}
		if err := os.Chtimes(d, since, since); err != nil {
			t.Fatal(err)
		}
		return d
	}
	left := dir(tempName+"1", false, old)
	kept := []string{dir(tempName+"2", true, old), dir(tempName+"3", false, time.Now()), dir("another", false, old)}
	mine := dir(tempName+"4", false, old)
	dropLeft(mine)
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what was left is there: %v", err)
	}
	for _, d := range append(kept, mine) {
		if _, err := os.Stat(d); err != nil {
			t.Error(err)
		}
	}
}
