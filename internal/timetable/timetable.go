// Package timetable reads when something is due again and again.
//
//	t, err := timetable.Parse("TZ=Europe/Vienna 30 9 * * mon-fri")
//	next := t.Next(time.Now())
//
// # Guarantees
//
// Times follow the clock of the zone: what is due at a certain hour is due once when that
// comes twice.
//
// # Failures
//
// A text that cannot be read, or is never due, is an error that says what is wanted.
package timetable

import (
	"fmt"
	"strings"
	"time"

	"github.com/netresearch/go-cron"
)

// Table is when a schedule is due. It is safe for concurrent use.
type Table struct {
	next  cron.Schedule
	in    *time.Location
	fixed bool // at certain hours: not twice when the clock is put back
}

// maxText is how long the text of a timetable may be, in bytes.
const maxText = 256

// Parse reads a cron text of five fields (minute, hour, day of the month,
// month, day of the week), or @hourly, @daily, @weekly, @monthly, @yearly, or
// @every and a duration of whole seconds. TZ= and the name of a time zone in front
// says where; otherwise it is UTC. When both days are given one of them is enough,
// as cron has it.
func Parse(text string) (*Table, error) {
	bad := func(why any) error {
		return fmt.Errorf("the schedule %.100q cannot be read: %v: want five fields such as \"30 9 * * mon-fri\", @daily or \"@every 10m\", with \"TZ=Europe/Vienna \" in front for a time zone", text, why)
	}
	if len(text) > maxText {
		return nil, bad(fmt.Sprintf("it has %d bytes, not at most %d", len(text), maxText))
	}
	fields, in := strings.Fields(text), time.UTC
	if len(fields) > 0 {
		if _, zone, ok := strings.Cut(fields[0], "TZ="); ok && (fields[0] == "TZ="+zone || fields[0] == "CRON_TZ="+zone) {
			var err error
			if in, err = time.LoadLocation(zone); err != nil || zone == "" || zone == "Local" { // each node has another one
				return nil, bad(fmt.Sprintf("there is no time zone %q here", zone))
			}
			fields = fields[1:]
		}
	}
	p, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)
	if err != nil {
		return nil, bad(err)
	}
	s, err := p.Parse(strings.Join(fields, " "))
	if err != nil {
		return nil, bad(err)
	}
	t := &Table{next: s, in: in}
	t.fixed = len(fields) == 5 && !strings.HasPrefix(fields[1], "*") || len(fields) == 1 && fields[0] != "@hourly"
	if t.Next(time.Now()).IsZero() {
		return nil, bad("that day never comes")
	}
	return t, nil
}

// Next is when it is due first after a time; zero: never. What is due in an hour
// that is left out when the clock is put forward is due an hour later.
func (t *Table) Next(after time.Time) time.Time {
	for n := after.In(t.in); ; {
		n = t.next.Next(n)
		if n.IsZero() || !t.fixed || !again(n) {
			return n
		}
	}
}

// again tells whether the clock showed the same an hour or so ago.
func again(t time.Time) bool {
	began, _ := t.ZoneBounds()
	if began.IsZero() {
		return false
	}
	_, was := began.Add(-1).Zone()
	_, is := t.Zone()
	return was > is && t.Sub(began) < time.Duration(was-is)*time.Second
}
