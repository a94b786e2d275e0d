package executor_test

import (
	"context"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
)

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
