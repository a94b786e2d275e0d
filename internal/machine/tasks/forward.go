package tasks

import "github.com/distgear/distgear/internal/machine/words"

// For callers that do not say words yet.
type (
	Grant   = words.Grant
	End     = words.End
	Advance = words.Advance
	Ask     = words.Ask
)

// AppendSpec is words.AppendSpec.
func AppendSpec(b []byte, s, before *Spec, val []byte) []byte {
	return words.AppendSpec(b, s, before, val)
}

// ParseSpecs is words.ParseSpecs.
func ParseSpecs(b []byte, f func(s *Spec, val []byte)) error { return words.ParseSpecs(b, f) }

// AppendGrant is words.AppendGrant.
func AppendGrant(b []byte, g *Grant) []byte { return words.AppendGrant(b, g) }

// ParseGrant is words.ParseGrant.
func ParseGrant(number uint64, b []byte) (g Grant, err error) { return words.ParseGrant(number, b) }

// AppendReport is words.AppendReport.
func AppendReport(b []byte, r *Report[[]byte]) []byte { return words.AppendReport(b, r) }

// ParseReports is words.ParseReports.
func ParseReports(b []byte, f func(p *Report[[]byte])) error { return words.ParseReports(b, f) }

// AppendLease is words.AppendLease.
func AppendLease(b []byte, l Lease) []byte { return words.AppendLease(b, l) }

// ParseLeases is words.ParseLeases.
func ParseLeases(b []byte) ([]Lease, error) { return words.ParseLeases(b) }

// AppendProgress is words.AppendProgress.
func AppendProgress(b []byte, l Lease, done, total int64) []byte {
	return words.AppendProgress(b, l, done, total)
}

// ParseProgress is words.ParseProgress.
func ParseProgress(b []byte, f func(l Lease, done, total int64)) error {
	return words.ParseProgress(b, f)
}

// AppendEnd is words.AppendEnd.
func AppendEnd(b []byte, e *End) []byte { return words.AppendEnd(b, e) }

// ParseEnd is words.ParseEnd.
func ParseEnd(b []byte) (e End, err error) { return words.ParseEnd(b) }

// AppendAdvance is words.AppendAdvance.
func AppendAdvance(b []byte, a *Advance) []byte { return words.AppendAdvance(b, a) }

// ParseAdvance is words.ParseAdvance.
func ParseAdvance(b []byte) (a Advance, err error) { return words.ParseAdvance(b) }

// Number is words.Number.
func Number(err error) uint64 { return words.Number(err) }

// Error is words.Error.
func Error(number uint64) error { return words.Error(number) }

// AppendRefusal is words.AppendRefusal.
func AppendRefusal(b []byte, id string, why error) []byte { return words.AppendRefusal(b, id, why) }

// ParseRefusal is words.ParseRefusal.
func ParseRefusal(b []byte) (id string, why error, err error) { return words.ParseRefusal(b) }

// AppendOffer is words.AppendOffer.
func AppendOffer(b []byte, o *Offer) []byte { return words.AppendOffer(b, o) }

// ParseOffer is words.ParseOffer.
func ParseOffer(b []byte) (Offer, error) { return words.ParseOffer(b) }

// AppendLimits is words.AppendLimits.
func AppendLimits(b []byte, l *Limits) []byte { return words.AppendLimits(b, l) }

// ParseLimits is words.ParseLimits.
func ParseLimits(b []byte) (Limits, error) { return words.ParseLimits(b) }

// AppendSchedule is words.AppendSchedule.
func AppendSchedule(b []byte, s *Schedule[[]byte]) []byte { return words.AppendSchedule(b, s) }

// ParseSchedule is words.ParseSchedule.
func ParseSchedule(name string, b []byte) (s Schedule[[]byte], err error) {
	return words.ParseSchedule(name, b)
}

// AppendAsk is words.AppendAsk.
func AppendAsk(b []byte, a *Ask) []byte { return words.AppendAsk(b, a) }

// ParseAsk is words.ParseAsk.
func ParseAsk(b []byte) (a Ask, err error) { return words.ParseAsk(b) }
