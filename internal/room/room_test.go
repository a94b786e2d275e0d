package room_test

import (
	"slices"
	"testing"

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
