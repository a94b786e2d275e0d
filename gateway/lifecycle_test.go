package gateway

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/distgear/distgear"
)

// What becomes of durable runs is told as a stream, of those events that are asked for.
func TestLifecycleStream(t *testing.T) {
	on := func(_ context.Context, _ *distgear.Run, in string) (string, error) { return in, nil }
	order := &distgear.Event[string, string]{Name: "order", Durable: true, On: on}
	other := &distgear.Event[string, string]{Name: "other", Durable: true, On: on}
	url, _ := running(t, node{joined(t, order, other)}, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/v1/lifecycle?event=order", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(res)
	}
	for _, path := range []string{"other?id=b", "order?id=a"} {
		if a := ask(t, "POST", url+"/v1/events/"+path, `"in"`); a.status != 200 {
			t.Fatal(a)
		}
	}
	var told []string
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			told = append(told, data)
			if strings.Contains(data, `"finished"`) {
				break
			}
		}
	}
	if len(told) != 3 {
		t.Fatalf("%q", told)
	}
	for i, want := range []string{`"what":"accepted"`, `"what":"owned"`, `"what":"finished","outcome":"ok"`} {
		if !strings.Contains(told[i], want) || !strings.Contains(told[i], `"id":"a","event":"order"`) {
			t.Errorf("%s, want %s", told[i], want)
		}
	}
	ask(t, "GET", url+"/v1/lifecycle?evnt=order", "").problem(t, 400, "bad-request", "never ran")
}
