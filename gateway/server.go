package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/distgear/distgear"
)

// Server is a gateway that listens. Listen makes it; the zero value is not usable.
// Its methods may be called from any goroutine.
type Server struct {
	cfg  Config
	ln   net.Listener
	http http.Server
	quit func()                  // first: streams end
	hard context.CancelCauseFunc // then: waits for results end

	mu      sync.Mutex // guards what follows
	started bool
	closed  bool
	active  sync.WaitGroup // added to while not closed
}

// Serve listens on addr (empty means DefaultAddr) and serves n until ctx ends,
// then stops gracefully and returns nil. Use Listen to learn the address.
func Serve(ctx context.Context, n *distgear.Node, addr string, cfg Config) error {
	s, err := Listen(n, addr, cfg)
	if err != nil {
		return err
	}
	return s.Serve(ctx)
}

// Listen binds addr, "host:port" (empty means DefaultAddr, port 0 means any).
// An address that others than this machine can reach needs a token. Follow it
// by Server.Serve, or Server.Close to give the address back.
func Listen(n *distgear.Node, addr string, cfg Config) (*Server, error) {
	return listen(node{n}, addr, cfg)
}

func listen(b backend, addr string, cfg Config) (*Server, error) {
	addr = cmp.Or(addr, DefaultAddr)
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if cfg.Token == "" && !a.IP.IsLoopback() { // a.IP is nil for all addresses
		return nil, fmt.Errorf("gateway: refusing to listen on %s without a token: whoever reaches it could raise events; set Config.Token (DISTGEAR_TOKEN of distgear hub), or listen on loopback (%s)", addr, DefaultAddr)
	}
	ln, err := net.ListenTCP("tcp", a) // a, not addr: the name may resolve to something else by now
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return newServer(b, ln, cfg), nil
}

func newServer(b backend, ln net.Listener, cfg Config) *Server {
	quit := make(chan struct{})
	base, hard := context.WithCancelCause(context.Background())
	s := &Server{cfg: cfg.withDefaults(), ln: ln, quit: sync.OnceFunc(func() { close(quit) }), hard: hard}
	s.http = http.Server{
		Handler:           s.counted(newHandler(b, s.cfg, quit)),
		ReadHeaderTimeout: s.cfg.Read,
		IdleTimeout:       s.cfg.Idle,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
	}
	return s
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// URL is where clients of this machine find the server; with an address for
// all interfaces it names the unspecified one.
func (s *Server) URL() string { return "http://" + s.ln.Addr().String() }

// Serve answers requests until ctx ends or Close is called, and returns nil
// then, or the reason why it could not go on. It may be called once.
//
// When ctx ends it takes no more connections, ends streams, and waits up to
// Config.Grace for the requests in flight; an event still waited for then is
// answered as accepted (202) and runs on. Nothing of the server is left when
// Serve has returned.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	again, closed := s.started, s.closed
	s.started = true
	s.mu.Unlock()
	if again {
		return errors.New("gateway: Serve was called before")
	}
	if closed {
		return nil
	}
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.ln) }()
	var err error
	select {
	case err = <-served: // Close was called, or the listener broke
		_ = s.Close()
	case <-ctx.Done():
		s.drain()
		_ = s.Close()
		err = <-served
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("gateway: %w", err)
}

// drain is the soft part of stopping.
func (s *Server) drain() {
	s.quit()
	soft, cancel := context.WithTimeout(context.Background(), s.cfg.Grace)
	err := s.http.Shutdown(soft)
	cancel()
	if err == nil {
		return
	}
	s.hard(errStopping) // who waits for a result is told where to find it
	soft, cancel = context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.http.Shutdown(soft) // what did not end is cut by Close
}

// Close stops at once: connections are cut, runs go on. It returns when no
// request is served any more, and may be called at any time, also again.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.quit()
	s.hard(errStopping)
	_ = s.http.Close()
	_ = s.ln.Close() // of which http knows nothing before Serve
	s.active.Wait()
	return nil
}

// counted is next, and counts the requests it serves.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		s.active.Add(1)
		s.mu.Unlock()
		defer s.active.Done()
		next.ServeHTTP(w, r)
	})
}
