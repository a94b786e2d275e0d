package executor_test

import (
	"context"
	"errors"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) { geartest.Main(m, nil) }

var errOdd = errors.New("odd")

// double is a pure action.
var double = &distgear.Action[int, int]{Name: "double", Idempotent: true, Do: func(_ context.Context, n int) (int, error) {
	if n < 0 {
		return 0, errOdd
	}
	return 2 * n, nil
}}

func alone(t testing.TB) *distgear.Node {
	t.Helper()
	n, err := distgear.Join(context.Background(), distgear.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Leave(context.Background()) })
	return n
}

func BenchmarkOne(b *testing.B) {
	n := alone(b)
	ex := executor.New(n, "bench")
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		f, err := executor.Submit(ctx, ex, double, 1)
		if err != nil {
			b.Fatal(err)
		}
		if v, err := f.Wait(ctx); v != 2 || err != nil {
			b.Fatal(v, err)
		}
	}
}

func BenchmarkMany(b *testing.B) {
	n := alone(b)
	ex := executor.New(n, "bench")
	ctx := context.Background()
	const window = 10_000
	fs := make([]*executor.Future[int], window)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		k := i % window
		if fs[k] != nil {
			if v, err := fs[k].Wait(ctx); v != 2 || err != nil {
				b.Fatal(v, err)
			}
		}
		f, err := executor.Submit(ctx, ex, double, 1)
		if err != nil {
			b.Fatal(err)
		}
		fs[k] = f
		i++
	}
}

func BenchmarkForget(b *testing.B) {
	n := alone(b)
	ex := executor.New(n, "bench")
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := executor.Submit(ctx, ex, double, 1); err != nil {
			b.Fatal(err)
		}
	}
	_ = ex.Await(ctx)
}

func BenchmarkCall(b *testing.B) {
	n := alone(b)
	_ = n.Handle(double)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if v, err := double.Call(ctx, n, distgear.Any(), 1); v != 2 || err != nil {
			b.Fatal(v, err)
		}
	}
}
