package frames_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/work/frames"
)

func FuzzOffers(f *testing.F) {
	f.Add(frames.AppendOffers(3, map[uint64]tasks.Offer{
		1: {Kinds: []string{"a", "b"}, Slots: 2, Prefetch: 40, Bytes: 1 << 20, Labels: map[string]string{"zone": "a", "gpu": ""}},
		7: {Kinds: []string{"c"}},
	}))
	f.Add(frames.AppendOffers(0, nil))
	f.Add([]byte{1, 1, 1, 0, 0, 0, 0, 0}) // a worker without actions would be one for all
	f.Fuzz(func(t *testing.T, b []byte) {
		version, offers, err := frames.ParseOffers(b)
		if err != nil {
			return
		}
		for _, o := range offers {
			if len(o.Kinds) == 0 || o.Slots < 0 || o.Prefetch < 0 || o.Bytes < 0 {
				t.Fatalf("%+v", o)
			}
		}
		again := frames.AppendOffers(version, offers)
		v, same, err := frames.ParseOffers(again)
		if err != nil || v != version || !reflect.DeepEqual(same, offers) {
			t.Fatalf("%v: %+v is %+v", err, offers, same)
		}
	})
}

func FuzzLease(f *testing.F) {
	f.Add(append(frames.AppendLease(nil, tasks.Lease{Number: 1 << 40, Epoch: 3}), "input"...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = frames.ParseTwo(b)
		l, rest, err := frames.ParseLease(b)
		if err != nil {
			return
		}
		again, left, err := frames.ParseLease(append(frames.AppendLease(nil, l), rest...))
		if err != nil || again != l || !bytes.Equal(left, rest) {
			t.Fatal(l, again, err)
		}
	})
}
