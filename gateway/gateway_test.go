package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/distgear/distgear/cluster"
)

func TestToken(t *testing.T) {
	h := serve(&fake{onRaise: echo}, Config{Token: "secret"})
	for _, c := range []struct {
		header string
		ok     bool
	}{
		{"", false}, {"Bearer", false}, {"Bearer ", false}, {"Bearer secre", false}, {"Bearer secrets", false}, {"Bearer Secret", false},
		{"Basic secret", false}, {"secret", false}, {"Bearer secret", true}, {"bearer secret", true}, {"BEARER  secret", true},
	} {
		for _, target := range []string{"GET /healthz", "GET /v1/openapi.json", "POST /", "POST /v1/events/e", "GET /nowhere", "DELETE /v1/runs"} {
			method, path, _ := strings.Cut(target, " ")
			a := do(t, h, method, path, "", "Authorization: "+c.header, "Host: gear.example.com", "Origin: https://elsewhere.example")
			if c.ok == (a.status == http.StatusUnauthorized) {
				t.Errorf("%s with %q: %d", target, c.header, a.status)
			}
			if !c.ok {
				a.problem(t, 401, "unauthorized", "never ran")
				if a.header.Get("WWW-Authenticate") == "" {
					t.Error("no WWW-Authenticate")
				}
			}
		}
	}
}

// TestBrowser: pages of other sites reach nothing on a gateway without a token.
func TestBrowser(t *testing.T) {
	raised := 0
	h := serve(&fake{onRaise: func(e string, in json.RawMessage, o raiseOptions) (pending, error) {
		raised++
		return echo(e, in, o)
	}}, Config{})
	for host, ok := range map[string]bool{
		"localhost": true, "localhost:8422": true, "LOCALHOST.": true, "gear.localhost:1": true, "127.0.0.1:8422": true, "127.1.2.3": true,
		"[::1]:8422": true, "[::1]": true, "[::ffff:127.0.0.1]:1": true,
		"": false, "evil.example": false, "localhost.evil.example": false, "127.0.0.1.evil.example:8422": false, "notlocalhost": false,
		"10.0.0.1": false, "0.0.0.0:8422": false, "[::]": false, "192.168.1.1:8422": false,
	} {
		if a := do(t, h, "GET", "/healthz", "", "Host: "+host); ok != (a.status == 200) {
			t.Errorf("Host %q: %d", host, a.status)
		} else if !ok {
			a.problem(t, 403, "forbidden", "never ran")
		}
	}
	for _, c := range []struct {
		head []string
		ok   bool
	}{
		{nil, true}, // no browser
		{[]string{"Sec-Fetch-Site: same-origin", "Origin: http://localhost:8422"}, true},
		{[]string{"Sec-Fetch-Site: none"}, true},
		{[]string{"Origin: http://localhost:8422"}, true},
		{[]string{"Sec-Fetch-Site: cross-site"}, false},
		{[]string{"Sec-Fetch-Site: same-site"}, false},
		{[]string{"Origin: https://evil.example"}, false},
		{[]string{"Origin: null"}, false},
		{[]string{"Origin: http://localhost:3000"}, false},
	} {
		for _, path := range []string{"/", "/v1/events/e", "/v1/runs/r/cancel", "/v1/runs/r/undo/s"} {
			before := raised
			a := do(t, h, "POST", path, `{"event":"e","how":"retry"}`, append(c.head, "Content-Type: text/plain")...)
			if c.ok == (a.status == 403) || !c.ok && raised != before {
				t.Errorf("%s with %q: %d", path, c.head, a.status)
			}
		}
	}
}

// TestLoopbackOnly: mounted into a public server, a gateway without a token answers nobody.
func TestLoopbackOnly(t *testing.T) {
	for local, ok := range map[string]bool{"127.0.0.1": true, "::1": true, "10.0.0.1": false, "::": false} {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey,
			net.Addr(&net.TCPAddr{IP: net.ParseIP(local), Port: 80})), "GET", "/healthz", nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		serve(&fake{}, Config{}).ServeHTTP(w, r)
		if ok != (w.Code == 200) {
			t.Errorf("%s: %d", local, w.Code)
		}
	}
}

func TestNoRoute(t *testing.T) {
	h := serve(&fake{}, Config{})
	for _, target := range []string{"/v1", "/v1/", "/v2/runs", "/v1/events/", "/v1/events/a/b", "/v1/runs/r/undo/", "/index.html", "//v1/nothing", "/v1/../x"} {
		do(t, h, "POST", target, "").problem(t, 404, "not-found", "never ran")
	}
	for target, allow := range map[string]string{
		"DELETE /v1/runs": "GET, HEAD", "GET /v1/events/e": "POST", "PUT /v1/runs/r": "GET, HEAD", "GET /v1/runs/r/cancel": "POST", "GET /": "POST",
		"OPTIONS /v1/members": "GET, HEAD", "NONSENSE /healthz": "GET, HEAD",
	} {
		method, path, _ := strings.Cut(target, " ")
		a := do(t, h, method, path, "")
		a.problem(t, 405, "method-not-allowed", "never ran")
		if a.header.Get("Allow") != allow {
			t.Errorf("%s: Allow %q, want %q", target, a.header.Get("Allow"), allow)
		}
	}
	if a := do(t, h, "HEAD", "/v1/runs/r", "", "Accept: text/event-stream"); a.status != 404 {
		t.Errorf("HEAD: %d", a.status)
	}
}

func TestHealth(t *testing.T) {
	if m := do(t, serve(&fake{}, Config{}), "GET", "/healthz", "").json(t); m["status"] != "ok" || m["node"] != "node-1" {
		t.Error(m)
	}
	gone := make(chan struct{})
	close(gone)
	a := do(t, serve(&fake{gone: gone, why: errors.New("its session was lost")}, Config{}), "GET", "/healthz", "")
	if m := a.problem(t, 503, "unavailable", "never ran"); m["node"] != "node-1" || !strings.Contains(m["detail"].(string), "session was lost") {
		t.Error(m)
	}
}

func TestMembers(t *testing.T) {
	h := serve(&fake{onMembers: members(node1, cluster.Member{Name: "node-2", State: cluster.Lost, Since: t0})}, Config{})
	list := do(t, h, "GET", "/v1/members", "").json(t)["members"].([]any)
	if len(list) != 2 || list[0].(object)["name"] != "node-1" || list[1].(object)["name"] != "node-2" {
		t.Error(list)
	}
	if a := do(t, serve(&fake{}, Config{}), "GET", "/v1/members", ""); a.body != `{"members":[]}`+"\n" {
		t.Error(a.body)
	}
	do(t, h, "GET", "/v1/members?state=alive", "").problem(t, 400, "bad-request", "never ran")
}

func TestOpenAPIServed(t *testing.T) {
	a := do(t, serve(&fake{}, Config{}), "GET", "/v1/openapi.json", "")
	if a.status != 200 || a.json(t)["openapi"] != "3.1.0" {
		t.Error(a)
	}
	if b := do(t, serve(&fake{}, Config{}), "GET", "/v1/openapi.json", ""); a.body != b.body {
		t.Error("another one the second time")
	}
}

// TestPanic: a fault of ours is answered and logged, not left to be guessed.
func TestPanic(t *testing.T) {
	var log strings.Builder
	h := serve(&fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) { panic("boo") }},
		Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	do(t, h, "POST", "/v1/events/e", "").problem(t, 500, "fault", "unknown")
	if m := do(t, h, "POST", "/", `{"event":"e"}`); m.status != 200 || m.json(t)["status"] != "fail" {
		t.Error(m)
	}
	if strings.Count(log.String(), "panic=boo") != 2 || !strings.Contains(log.String(), "gateway_test.go") {
		t.Error(log.String())
	}
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("recovered %v", err)
		}
	}()
	h.b = &fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) { panic(http.ErrAbortHandler) }}
	do(t, h, "POST", "/v1/events/e", "")
}
