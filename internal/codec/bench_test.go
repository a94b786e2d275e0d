package codec_test

import (
	"testing"

	"github.com/distgear/distgear/internal/codec"
)

// flatOrder is what bench/ sends.
type flatOrder struct {
	ID    uint64 `json:"id"`
	Name  string `json:"name"`
	Count int64  `json:"count"`
	Path  string `json:"path"`
}

func newSimple() flatOrder {
	return flatOrder{1e9 + 77, "blue gear", 104, "/srv/shelf/orders/2026/november/000001.log"}
}

func benchAppend[T any](b *testing.B, v T) {
	of, buf := codec.For[T](), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := of.Append(buf, v); err != nil {
			b.Fatal(err)
		}
	}
}

func benchDecode[T any](b *testing.B, v T) {
	of := codec.For[T]()
	data, err := of.Append(nil, v)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := of.New(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendStruct(b *testing.B) { benchAppend(b, newOrder()) }
func BenchmarkDecodeStruct(b *testing.B) { benchDecode(b, newOrder()) }
func BenchmarkAppendSimple(b *testing.B) { benchAppend(b, newSimple()) }
func BenchmarkDecodeSimple(b *testing.B) { benchDecode(b, newSimple()) }
func BenchmarkAppendString(b *testing.B) { benchAppend(b, "a string of thirty-two bytes ...") }
func BenchmarkDecodeString(b *testing.B) { benchDecode(b, "a string of thirty-two bytes ...") }
func BenchmarkAppendInt(b *testing.B)    { benchAppend(b, 1234567) }
func BenchmarkDecodeInt(b *testing.B)    { benchDecode(b, 1234567) }
func BenchmarkAppendFloat(b *testing.B)  { benchAppend(b, 1499.95) }
func BenchmarkDecodeFloat(b *testing.B)  { benchDecode(b, 1499.95) }
func BenchmarkAppendBytes(b *testing.B)  { benchAppend(b, make([]byte, 100)) }
func BenchmarkDecodeBytes(b *testing.B)  { benchDecode(b, make([]byte, 100)) }

// What a type that goes to encoding/json costs, here because of its array.
func BenchmarkAppendStdStruct(b *testing.B) {
	benchAppend(b, struct {
		order
		A [1]int
	}{order: newOrder()})
}

func BenchmarkDecodeStdStruct(b *testing.B) {
	benchDecode(b, struct {
		order
		A [1]int
	}{order: newOrder()})
}

// The look-up that Of saves.
func BenchmarkAppendIntWithoutOf(b *testing.B) {
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := codec.Append(buf, 1234567); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCopies(b *testing.B) {
	for b.Loop() {
		codec.Copies[order]()
	}
}

func BenchmarkOfCopies(b *testing.B) {
	of := codec.For[order]()
	for b.Loop() {
		of.Copies()
	}
}
