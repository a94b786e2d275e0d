package sides

import (
	"testing"
	"time"
)

func TestPayloads(t *testing.T) {
	seen := map[string]bool{}
	for caller := range 3 {
		for i, s := range ringOf(caller) {
			o := string(orderBytes(caller, i))
			if len(s) != payloadSize || len(o) != payloadSize {
				t.Errorf("caller %d, %d: %d and %d bytes, not %d", caller, i, len(s), len(o), payloadSize)
			}
			if seen[s] || seen[o] {
				t.Errorf("caller %d, %d: a payload for the second time", caller, i)
			}
			seen[s], seen[o] = true, true
		}
	}
}

func TestPlanByHand(t *testing.T) {
	if v, err := planByHand(7, func(x int64) (int64, error) { return x + 1, nil }); err != nil || v != planResult(7) {
		t.Errorf("planByHand: %d, %v; planResult: %d", v, err, planResult(7))
	}
}

func TestOneWayNoticesWhatIsWrong(t *testing.T) {
	nothing := func() error { return nil }
	sp := spec{Count: 100}
	var right flow
	if _, err := oneWay(sp, &right, func(v int64) error { right.take(v); return nil }, nothing); err != nil {
		t.Error(err)
	}
	var twice flow // 7 came twice, 8 never: the number of arrivals alone would not tell
	_, err := oneWay(sp, &twice, func(v int64) error {
		if v == 8 {
			v = 7
		}
		twice.take(v)
		return nil
	}, nothing)
	if err == nil {
		t.Error("a duplicate in a lost number's place was not noticed")
	}
}

func TestWrongAnswerHasNoFigure(t *testing.T) {
	wrong := func(caller int) func(int) error {
		return func(k int) error {
			if k == 50 {
				return errMixed(caller, k)
			}
			return nil
		}
	}
	if _, err := latency(spec{Count: 100}, wrong); err == nil {
		t.Error("latency has a figure")
	}
	if _, err := throughput(spec{Callers: 4, Window: time.Millisecond}, wrong); err == nil {
		t.Error("throughput has a figure")
	}
}
