package proc

import (
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func page(t *testing.T) (path string, p *Page) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "page")
	if err := NewPage(path); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPage(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, p
}

func TestPageNoticesWhatIsWrong(t *testing.T) {
	_, p := page(t)
	p.Enter(1, 1, 10)
	p.Leave(1)
	p.Enter(2, 2, 11)
	p.Leave(2)
	if grants, handoffs, violations := p.Counts(); grants != 2 || handoffs != 1 || violations != 0 {
		t.Fatalf("%d grants, %d hand-offs, %d violations", grants, handoffs, violations)
	}
	p.Enter(1, 1, 12)
	p.Enter(2, 2, 13) // while another is inside
	if _, _, violations := p.Counts(); violations != 1 {
		t.Errorf("two inside at once: %d violations", violations)
	}
	p.Leave(1)
	p.Enter(3, 1, 13) // a token for the second time
	if _, _, violations := p.Counts(); violations != 2 {
		t.Errorf("a token that did not grow: %d violations", violations)
	}
}

func TestContendCountsWhatThePageCounts(t *testing.T) {
	path, p := page(t)
	var mu sync.Mutex
	token := uint64(0)
	r, err := Contend(Spec{Callers: 4, Warm: time.Millisecond, Window: 20 * time.Millisecond, Page: path}, func(int) (Locker, error) {
		return Locker{
			Lock:   func() (uint64, error) { mu.Lock(); token++; return token, nil },
			Unlock: func() error { mu.Unlock(); return nil },
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if grants, _, violations := p.Counts(); grants != r.Calls || violations != 0 {
		t.Errorf("%d grants of %d, %d violations", grants, r.Calls, violations)
	}
	if _, err := Quantile(0.99, r); err != nil {
		t.Error(err)
	}
}

func TestQuantile(t *testing.T) {
	r := Reply{Values: map[string]float64{"grants": 7}}
	if _, err := Quantile(0.5, r); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Error(err)
	}
	for range 99 {
		r.Values["wait"+strconv.Itoa(bucket(time.Millisecond))]++
	}
	r.Values["wait"+strconv.Itoa(bucket(time.Second))]++
	for q, want := range map[float64]time.Duration{0.5: time.Millisecond, 0.98: time.Millisecond, 1: time.Second} {
		got, err := Quantile(q, r)
		if err != nil || got < want*97/100 || got > want*103/100 {
			t.Errorf("quantile %v: %v, %v; not about %v", q, got, err, want)
		}
	}
}
