package assign

import "github.com/distgear/distgear/internal/machine/words"

// bucket counts what was taken of what a rate allows. The zero value is full.
type bucket struct {
	used int64 // in words.PerToken parts of an attempt
	at   int64 // ms
}

// burst is how many attempts may start at once.
func burst(rate int64, wanted int) int64 {
	if wanted > 0 {
		return int64(wanted)
	}
	return min(max(rate/10_000, 1), words.MaxBurst)
}

// fill lets time pass.
func (b *bucket) fill(now, rate int64) {
	if d := now - b.at; d > 0 {
		if d >= b.used/rate+1 {
			b.used = 0
		} else {
			b.used -= d * rate
		}
		b.at = now
	}
}

// wait is how long, in ms, until there is a token.
func (b *bucket) wait(now, rate, burst int64) int64 {
	if rate == 0 {
		return 0
	}
	b.fill(now, rate)
	if need := b.used + words.PerToken - burst*words.PerToken; need > 0 {
		return (need + rate - 1) / rate
	}
	return 0
}

func (b *bucket) take(now, rate int64) {
	if rate != 0 {
		b.fill(now, rate)
		b.used += words.PerToken
	}
}

// full is when the bucket is full, if nothing is taken.
func (b *bucket) full(now, rate int64) int64 {
	if rate == 0 {
		return now
	}
	b.fill(now, rate)
	return now + (b.used+rate-1)/rate
}

type keyTimer struct {
	when int64
	name string
}

func (keyTimer) At(int) {}

func (a keyTimer) Before(b keyTimer) bool {
	return a.when < b.when || a.when == b.when && a.name < b.name
}

// keyDue says that a key has something to do at a time.
func (m *Machine[T]) keyDue(k *key[T], when int64) {
	if k.due != when {
		k.due = when
		m.keyDues.Push(keyTimer{when, k.name})
	}
}
