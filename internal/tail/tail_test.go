package tail

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/distgear/distgear/record"
)

// TestNews: each entry is told once, also when the run has ended and what is kept
// of it is less, and has other times.
func TestNews(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	sent := record.Entry{At: at(2), What: record.Sent, Step: "a", Attempt: 1, Node: "w"}
	ok := record.Entry{At: at(3), What: record.Reported, Step: "a", Attempt: 1, Node: "w"}
	signal := record.Entry{At: at(4), What: record.Signalled, Name: "go"}
	var tail Tail
	for i, c := range []struct{ es, news []record.Entry }{
		{[]record.Entry{{What: record.Accepted}, {At: at(1), What: record.Owned, Node: "m"}, sent}, []record.Entry{{What: record.Accepted}, {At: at(1), What: record.Owned, Node: "m"}, sent}},
		{[]record.Entry{{What: record.Accepted}, sent, ok, signal, signal}, []record.Entry{ok, signal, signal}},
		{[]record.Entry{{What: record.Accepted}, sent, ok, signal, signal, signal}, []record.Entry{signal}},
		{[]record.Entry{{At: at(7), What: record.Accepted}, {At: at(9), What: record.Sent, Step: "a", Attempt: 1}, ok, {What: record.Finished}}, []record.Entry{{What: record.Finished}}},
	} {
		got, _ := json.Marshal(tail.News(c.es))
		if want, _ := json.Marshal(c.news); string(got) != string(want) {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
}
