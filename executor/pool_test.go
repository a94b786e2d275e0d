package executor_test

import (
	"context"
	"testing"

	"github.com/distgear/distgear/executor"
)

func TestSmoke(t *testing.T) {
	n := alone(t)
	ex := executor.New(n, "smoke")
	ctx := context.Background()
	f, err := executor.Submit(ctx, ex, double, 21)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := f.Wait(ctx); v != 42 || err != nil {
		t.Fatal(v, err)
	}
	fs, err := executor.InvokeAll(ctx, ex, double, 1, 2, 3, -1)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range fs {
		v, err := f.Wait(ctx)
		t.Log(i, v, err, f.ID())
	}
}
