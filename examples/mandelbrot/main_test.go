package main

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{"mandelbrot": func(context.Context, []string) error { main(); return nil }})
}

// TestPlacements runs the program as one process, as one that hosts the hub, and as four: what it prints and the file are the same.
func TestPlacements(t *testing.T) {
	dir := t.TempDir()
	var files []string // one for each time
	said := geartest.Same(t, geartest.Program{
		Role: "mandelbrot", Processes: 4, Leads: 1,
		Args: func(i, _ int) []string {
			if i > 0 {
				return []string{"-work"}
			}
			files = append(files, filepath.Join(dir, fmt.Sprintf("%d.png", len(files))))
			return []string{"-width", "300", "-tile", "32", "-o", files[len(files)-1]}
		},
		Keep: func(line string) bool { return len(line) > 0 && line[0] != 'w' }, // not "works as …"
	})
	if want := "300 x 200 points, 15138 of them in the set\n"; said != want {
		t.Errorf("it printed %q, want %q", said, want)
	}
	if len(files) != 3 {
		t.Fatalf("it ran %d times, want 3", len(files))
	}
	alone, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files[1:] {
		if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, alone) {
			t.Errorf("%s is another picture than by one process: %v", file, err)
		}
	}
	picture, err := png.Decode(bytes.NewReader(alone))
	if err != nil {
		t.Fatal(err)
	}
	if b := picture.Bounds(); b.Dx() != 300 || b.Dy() != 200 {
		t.Errorf("the picture is %v", b)
	}
	if in, out := picture.At(225, 100), picture.At(299, 0); in == out { // 0, and 0.74-i
		t.Errorf("a point in the set and one outside of it are both %v", in)
	}
}
