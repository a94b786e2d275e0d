package room_test

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/internal/room"
)

// TestRoom_Values: a value may be made of another, and what is listed is the values.
func TestRoom_Values(t *testing.T) {
	r := &room.Room{}
	b := r.Value("b", func() any {
		if all := r.Values(); len(all) > 0 {
			t.Error("listed before it is made", all)
		}
		return r.Value("a", func() any { return "of a" }).(string) + ", and b"
	})
	if again := r.Value("b", func() any { return "another" }); b != "of a, and b" || again != b {
		t.Error(b, again)
	}
	if all := r.Values(); len(all) != 2 || !slices.Contains(all, any("of a")) {
		t.Error(all)
	}
}

// TestShared: it is the same one while somebody holds it, and is forgotten then.
func TestShared(t *testing.T) {
	r := &room.Room{}
	made := 0
	get := func(key string) *[1 << 10]int {
		return room.Shared(r, key, func() *[1 << 10]int { made++; return new([1 << 10]int) })
	}
	a := get("a")
	a[0] = 7
	for i := range 1000 {
		get(string(rune(i + 'b')))
	}
	if get("a") != a || made != 1001 {
		t.Fatal(made)
	}
	geartest.Eventually(t, 10*time.Second, "the others are forgotten", func() bool {
		runtime.GC()
		return len(r.Values()) == 1
	})
	if get("a")[0] != 7 {
		t.Fatal("another one")
	}
	runtime.KeepAlive(a)
}
