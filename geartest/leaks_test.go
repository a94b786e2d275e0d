package geartest

import (
	"strings"
	"testing"
)

func TestLeaks(t *testing.T) {
	end := make(chan struct{})
	got := failing(t, func(t testing.TB) {
		Leaks(t)
		go func() { <-end }()
	})
	close(end)
	if !strings.Contains(got, "goroutines left") || !strings.Contains(got, "TestLeaks") {
		t.Errorf("the test with a leak says %q", got)
	}
	if got := failing(t, func(t testing.TB) {
		Leaks(t)
		done := make(chan struct{})
		t.Cleanup(func() { <-done }) // later than the test's end, and still in time
		go func() { close(done) }()
	}); got != "" {
		t.Errorf("the test without a leak says %q", got)
	}
}
