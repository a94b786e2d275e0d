package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// TestLook_Documents: what there is comes in the documented shape, alone and of
// a cluster.
func TestLook_Documents(t *testing.T) {
	hub, _ := member(t, distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	for _, n := range []*distgear.Node{joined(t), hub} {
		s, err := shared.NewMutex(n, "a-lock").Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := shared.NewQueue[int](n, "a-queue", 5).Put(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		h := newHandler(node{n}, Config{}, nil)
		for path, want := range map[string]string{
			"/v1/locks":                  `{"locks":[{"name":"a-lock","kind":"mutex","holders":[{"node":"` + string(n.Name()) + `"`,
			"/v1/locks?prefix=b":         `{"locks":[],"cycles":[]}`,
			"/v1/objects?prefix=a-q":     `{"objects":[{"name":"a-queue","kind":"queue","size":5,"open":1,`,
			"/v1/queues?limit=1":         `{"queues":[{"name":"a-queue","length":1,"capacity":5,"takers":0,"putters":0}]}`,
			"/v1/sessions":               `{"sessions":[{"node":"` + string(n.Name()) + `"`,
			"/v1/doctor":                 `{"well":false,"findings":[{"code":`,
			"/v1/queues?prefix=a&limit=": "",
			"/v1/doctor?prefix=a":        "",
			"/v1/objects?limit=0":        "",
			"/v1/sessions?prefix=x":      "",
		} {
			a := do(t, h, "GET", path, "")
			if want == "" {
				a.problem(t, 400, "bad-request", "never ran")
			} else if a.status != 200 || !strings.HasPrefix(a.body, want) {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
		if n == hub { // the lock is an object too, at a hub
			if a := do(t, h, "GET", "/v1/objects?limit=1", ""); !strings.Contains(a.body, `"more":true`) {
				t.Error(a.body)
			}
		}
		if err := s.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

// TestLook_Failures: a hub that does not answer is no fault of the gateway's.
func TestLook_Failures(t *testing.T) {
	do(t, serve(&fake{}, Config{}), "GET", "/v1/locks", "").problem(t, 503, "unavailable", "never ran")
	do(t, serve(&fake{}, Config{Token: "t"}), "GET", "/v1/locks", "").problem(t, 401, "unauthorized", "never ran")
	do(t, serve(&fake{}, Config{}), "POST", "/v1/queues", "{}").problem(t, 405, "method-not-allowed", "never ran")
}

// TestLook_Stream: one event now, and one when it has changed; a hub that is away
// does not end it, another error does.
func TestLook_Stream(t *testing.T) {
	var looks atomic.Int64
	url, _ := running(t, &fake{gone: make(chan struct{}), onLook: func(what string, q lookQuery) (any, error) {
		switch n := looks.Add(1); {
		case what != lookQueues || q.prefix != "a":
			return nil, errors.New("another look")
		case n == 2: // for a while
			return nil, fmt.Errorf("%w: no hub answers", distgear.ErrNoNode)
		case n == 5:
			return nil, distgear.ErrLeft
		default:
			return queueList{Queues: []shared.QueueInfo{{Name: "a", Length: int(n / 2)}}}, nil // 0 - 1 2
		}
	}}, Config{Heartbeat: time.Hour})
	resp := get(t, "GET", url+"/v1/queues?prefix=a", "", "Accept: text/event-stream")
	defer resp.Body.Close()
	var got []string
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			got = append(got, text)
		}
	}
	if len(got) != 4 || !strings.Contains(got[0], `"length":0`) || !strings.Contains(got[1], `"length":1`) || !strings.Contains(got[3], "unavailable") {
		t.Errorf("%q", got)
	}
}
