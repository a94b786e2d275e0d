package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/audit"
	"github.com/distgear/distgear/internal/scheduled"
	"github.com/distgear/distgear/internal/waitlist"
)

// DefaultAddr is where a gateway listens when it is not told.
const DefaultAddr = "127.0.0.1:8422"

// maxInput is how much JSON an input may be: its encoding has one byte more.
const maxInput = distgear.MaxPayload - 1

// Config of a gateway. The zero value is usable: no token, loopback only.
type Config struct {
	Token     string        // bearer token that every request must carry; empty means none, and then only loopback is answered
	MaxBody   int64         // bytes of a request's body; zero, or more, means as many as an input may have (distgear.MaxPayload)
	Read      time.Duration // to receive a request, header and body each; zero means 30 s
	Write     time.Duration // to send an answer, or one event of a stream; zero means 30 s
	Idle      time.Duration // that an unused connection is kept; zero means 2 min
	Heartbeat time.Duration // between comment lines of a silent stream; zero means 15 s
	Grace     time.Duration // that a stopping server waits for requests in flight; zero means 10 s
	Logger    *slog.Logger  // nil means slog.Default()
}

func (c Config) withDefaults() Config {
	if c.MaxBody <= 0 || c.MaxBody > maxInput {
		c.MaxBody = maxInput
	}
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{
		{&c.Read, 30 * time.Second}, {&c.Write, 30 * time.Second}, {&c.Idle, 2 * time.Minute},
		{&c.Heartbeat, 15 * time.Second}, {&c.Grace, 10 * time.Second},
	} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

//go:embed openapi.json
var openAPI []byte

// handler is the gateway: an http.Handler over a backend. Safe for concurrent use.
type handler struct {
	b     backend
	cfg   Config
	token [sha256.Size]byte
	mux   *http.ServeMux
	csrf  *http.CrossOriginProtection
	quit  <-chan struct{} // closed when streams are to end; nil: never
	wait  waitlist.List
}

func newHandler(b backend, cfg Config, quit <-chan struct{}) *handler {
	h := &handler{b: b, cfg: cfg.withDefaults(), mux: http.NewServeMux(), csrf: http.NewCrossOriginProtection(), quit: quit}
	h.token = sha256.Sum256([]byte(cfg.Token))
	for _, r := range h.routes() {
		h.mux.HandleFunc(r.method+" "+r.path, r.serve)
	}
	return h
}

type route struct {
	method, path string
	serve        http.HandlerFunc
}

// routes is what there is; openapi.json says the same, and a test compares.
func (h *handler) routes() []route {
	return []route{
		{"POST", "/{$}", h.legacy},
		{"POST", "/v1/events/{name}", h.raise},
		{"GET", "/v1/runs", h.listRuns},
		{"GET", "/v1/runs/{id}", h.findRun},
		{"GET", "/v1/runs/{id}/events", h.watchRun},
		{"POST", "/v1/runs/{id}/cancel", h.cancelRun},
		{"POST", "/v1/runs/{id}/undo/{step}", h.resolveUndo},
		{"GET", "/v1/runs/{id}/journal", h.journal},
		{"POST", "/v1/runs/{id}/signal", h.signalRun},
		{"POST", "/v1/runs/{id}/approve", h.approveRun},
		{"POST", "/v1/runs/{id}/adopt", h.adoptRun},
		{"POST", "/v1/runs/{id}/fork", h.forkRun},
		{"POST", "/v1/runs/{id}/terminate", h.terminateRun},
		{"GET", "/v1/lifecycle", h.watchLifecycle},
		{"GET", "/v1/members", h.listMembers},
		{"GET", "/v1/locks", h.lookAt(lookLocks)},
		{"GET", "/v1/objects", h.lookAt(lookObjects)},
		{"GET", "/v1/queues", h.lookAt(lookQueues)},
		{"GET", "/v1/sessions", h.lookAt(lookSessions)},
		{"GET", "/v1/doctor", h.lookAt(lookDoctor)},
		{"GET", "/v1/executors", h.lookAt(lookExecutors)},
		{"POST", "/v1/executors/{name}/pause", h.pauseExecutor},
		{"POST", "/v1/executors/{name}/resume", h.resumeExecutor},
		{"GET", "/v1/executors/{name}/tasks", h.listTasks},
		{"POST", "/v1/executors/{name}/tasks", h.submitTask},
		{"GET", "/v1/executors/{name}/tasks/{id}", h.findTask},
		{"POST", "/v1/executors/{name}/tasks/{id}/cancel", h.changeTask(verbCancel)},
		{"POST", "/v1/executors/{name}/tasks/{id}/retry", h.changeTask(verbRetry)},
		{"POST", "/v1/executors/{name}/tasks/{id}/park", h.changeTask(verbPark)},
		{"GET", "/v1/schedules", h.lookAt(lookSchedules)},
		{"GET", "/v1/schedules/{schedule}", h.findSchedule},
		{"POST", "/v1/schedules/{schedule}/pause", h.changeSchedule(scheduled.Pause)},
		{"POST", "/v1/schedules/{schedule}/resume", h.changeSchedule(scheduled.Resume)},
		{"POST", "/v1/schedules/{schedule}/run", h.changeSchedule(scheduled.Run)},
		{"DELETE", "/v1/schedules/{schedule}", h.changeSchedule(scheduled.Remove)},
		{"GET", "/v1/executors/{name}/schedules/{schedule}", h.findSchedule},
		{"POST", "/v1/executors/{name}/schedules/{schedule}/pause", h.changeSchedule(scheduled.Pause)},
		{"POST", "/v1/executors/{name}/schedules/{schedule}/resume", h.changeSchedule(scheduled.Resume)},
		{"POST", "/v1/executors/{name}/schedules/{schedule}/run", h.changeSchedule(scheduled.Run)},
		{"DELETE", "/v1/executors/{name}/schedules/{schedule}", h.changeSchedule(scheduled.Remove)},
		{"GET", "/v1/openapi.json", h.openAPI},
		{"GET", "/healthz", h.health},
	}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			h.fault(w, r, v)
		}
	}()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	// Deadlines are set request by request and not by http.Server: its ReadTimeout
	// would take a request that waits for its result for a lost client.
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // where deadlines are not supported the server in front has its own
	if r.ContentLength != 0 {
		_ = rc.SetReadDeadline(time.Now().Add(h.cfg.Read))
	}
	if p := h.guard(r); p != nil {
		h.problem(w, r, p)
		return
	}
	if who := r.Header.Get("Distgear-By"); who != "" {
		r = r.WithContext(audit.By(r.Context(), who))
	}
	if _, pattern := h.mux.Handler(r); pattern == "" {
		h.noRoute(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// guard says why a request is not to be answered, or nil.
func (h *handler) guard(r *http.Request) *problem {
	if h.cfg.Token != "" {
		// Needs no check of Host or Origin: a page of another site has no token to send.
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(strings.TrimSpace(token))) // equal lengths, so that comparing tells nothing of the token's
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], h.token[:]) != 1 {
			return refusal(http.StatusUnauthorized, "unauthorized", "this gateway needs Authorization: Bearer and its token")
		}
		return nil
	}
	// Without a token whoever reaches the port may do everything. Processes of
	// this machine do; pages in its browser must not, be it directly (Origin) or
	// under a name of their own that they made resolve to loopback (Host).
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		return refusal(http.StatusForbidden, "forbidden", "a gateway without a token answers on loopback only; give it one (Config.Token)")
	}
	if !loopbackHost(r.Host) {
		return refusal(http.StatusForbidden, "forbidden", fmt.Sprintf("a gateway without a token answers for localhost only, not for Host %q", r.Host))
	}
	if err := h.csrf.Check(r); err != nil {
		return refusal(http.StatusForbidden, "forbidden", err.Error())
	}
	return nil
}

// loopbackHost says whether a Host header names this machine's loopback.
func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761: both resolve to loopback and nothing else
		return true
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// noRoute answers what the mux has no handler for, in the words of the gateway.
func (h *handler) noRoute(w http.ResponseWriter, r *http.Request) {
	var rec statusOnly
	h.mux.ServeHTTP(&rec, r)
	if allow := rec.Header().Get("Allow"); rec.status == http.StatusMethodNotAllowed && allow != "" {
		w.Header().Set("Allow", allow)
		h.problem(w, r, refusal(http.StatusMethodNotAllowed, "method-not-allowed", r.Method+" is not among "+allow))
		return
	}
	h.problem(w, r, refusal(http.StatusNotFound, "not-found", "no such path; GET /v1/openapi.json lists those there are"))
}

// statusOnly is a ResponseWriter that keeps header and status.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// fault answers for a panic of ours, so that a client is not left to guess; it
// is logged with its stack. What began to be answered stays torn.
func (h *handler) fault(w http.ResponseWriter, r *http.Request, v any) {
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	h.cfg.Logger.ErrorContext(r.Context(), "gateway: panic", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	if r.Method == http.MethodPost && r.URL.Path == "/" {
		h.legacyFail(w, r, "the gateway has a fault; its log says more")
		return
	}
	h.problem(w, r, &problem{Status: http.StatusInternalServerError, slug: "fault", Detail: "the gateway has a fault; its log says more", Outcome: "unknown"})
}
