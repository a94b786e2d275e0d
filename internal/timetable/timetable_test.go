package timetable

import (
	"strings"
	"testing"
	"time"
)

func TestTimetable(t *testing.T) {
	for _, c := range []struct{ text, after, want string }{
		{"30 9 * * mon-fri", "2026-01-02T09:30:00Z", "2026-01-05T09:30:00Z"}, // a Friday; 9:30 is over
		{"TZ=Europe/Vienna 30 9 * * *", "2026-01-02T00:00:00Z", "2026-01-02T08:30:00Z"},
		{"TZ=Europe/Vienna 30 9 * * *", "2026-07-02T00:00:00Z", "2026-07-02T07:30:00Z"},
		{"CRON_TZ=Asia/Tokyo @daily", "2026-07-02T00:00:00Z", "2026-07-02T15:00:00Z"},
		{"TZ=Europe/Vienna 30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"}, // 2:30 is left out: at 3:30
		{"TZ=Europe/Vienna 30 2 * * *", "2026-10-25T00:29:00Z", "2026-10-25T00:30:00Z"}, // there are two 2:30: the first
		{"TZ=Europe/Vienna 30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"TZ=Europe/Vienna */15 2 * * *", "2026-10-25T00:45:00Z", "2026-10-26T01:00:00Z"},
		{"TZ=Europe/Vienna 30 * * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"}, // each hour is each hour
		{"TZ=Europe/Vienna @hourly", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
		{"0 0 13 * fri", "2026-02-01T00:00:00Z", "2026-02-06T00:00:00Z"}, // one of the days is enough
		{"0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"},
	} {
		tab, err := Parse(c.text)
		if err != nil {
			t.Error(err)
			continue
		}
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := tab.Next(after).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s after %s: %s, want %s", c.text, c.after, got, c.want)
		}
	}
}

func TestTimetable_Bad(t *testing.T) {
	for _, text := range []string{
		"", " ", "TZ=", "TZ=0", "TZ=UTC", "TZ=Nowhere/Else 0 0 * * *", "CRON_TZ= * * * * *", "* * * *", "* * * * * *", "60 * * * *", "0 0 30 2 *", "@every", "@every 1",
		"@every -1s", "@every 1ms", "@reboot", "every day", "0 0 0 * *", "*/0 * * * *", strings.Repeat("1,", 200) + "1 * * * *", "\x00", "TZ=Local 0 0 * * *",
	} {
		if tab, err := Parse(text); err == nil {
			t.Errorf("%q is read: next at %v", text, tab.Next(time.Now()))
		} else if !strings.Contains(err.Error(), "cannot be read") || !strings.Contains(err.Error(), "want five fields") {
			t.Error(err)
		}
	}
}

// FuzzTimetable: no text panics, and what is read goes on.
func FuzzTimetable(f *testing.F) {
	for _, s := range []string{"30 9 * * mon-fri", "TZ=Europe/Vienna 30 2 * * *", "@every 1s", "TZ=0", "* * * * *", "0 0 29 2 *", "@daily", "TZ= @daily"} {
		f.Add(s, int64(1_700_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		tab, err := Parse(text)
		if err != nil {
			return
		}
		after := time.Unix(at%4_000_000_000, 0)
		if n := tab.Next(after); !n.IsZero() && !n.After(after) {
			t.Fatalf("%q after %v is %v", text, after, n)
		}
	})
}
