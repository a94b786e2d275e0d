// Package engine is everything that is NATS: a server inside the process, and
// a connection to one. Nothing else imports NATS.
//
//	s, err := engine.StartServer(engine.ServerConfig{Listen: "127.0.0.1:4222"})
//	c, err := engine.Dial(ctx, engine.ConnConfig{URLs: s.URL()})
//	stop, err := c.Subscribe("a.b", func(data []byte) { … })
//	err = c.Publish("a.b", data)
//
// # Guarantees
//
// Messages of one Conn on one subject arrive in order or not at all. A Conn
// reconnects for ever by itself.
//
// # Failures
//
// A publish is at most once: while the connection is down it fails, and what
// was written just before it broke may be lost without an error. Whoever
// needs more asks (package link).
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// maxServerPayload is the largest message of an embedded server, in bytes: an
// undo carries an input and a result.
const maxServerPayload = 4 << 20

// ServerConfig says how to run a NATS server in this process.
type ServerConfig struct {
	Listen string       // host:port, port 0 chooses one; empty listens nowhere
	Token  string       // what connections must present; empty means nothing
	Logger *slog.Logger // nil means slog.Default()

	Tier     Tier     // where logs are kept; zero keeps none, and costs nothing
	Dir      string   // of the logs, this server's alone; needed by File and Sync
	MaxStore int64    // bytes of all logs on disk; zero: three quarters of what is free
	Cluster  *Cluster // nil: a server of its own
	OnTwin   func()   // called when another server of the cluster has this one's name, maybe often; must not block
}

// Server is a NATS server in this process.
type Server struct {
	s     *server.Server
	token string
	tier  Tier
	lock  *os.File // of the store directory; nil without
	temp  string   // directory to remove; empty: none
	said  *logger
	again *server.JetStreamConfig // see Revive
}

// StartServer starts a server and waits until it accepts connections.
// Without a Token it refuses to listen on anything but loopback.
func StartServer(cfg ServerConfig) (*Server, error) {
	opts := &server.Options{
		ServerName:            "distgear-" + strconv.FormatInt(time.Now().UnixNano(), 36),
		NoSigs:                true,
		NoLog:                 true,
		DontListen:            cfg.Listen == "",
		NoSystemAccount:       true,
		DisableShortFirstPing: true,
		MaxPayload:            maxServerPayload,
		MaxPending:            256 << 20, // bytes queued for one connection; the links' credits keep it far below
		WriteDeadline:         10 * time.Second,
		PingInterval:          5 * time.Second,
		MaxPingsOut:           2,
		Authorization:         cfg.Token,
	}
	if cfg.Listen != "" {
		host, port, err := splitAddr(cfg.Listen)
		if err != nil {
			return nil, err
		}
		if cfg.Token == "" && !Loopback(host) {
			return nil, fmt.Errorf("refusing to serve on %s without a token: set Token (DISTGEAR_TOKEN) here and on every node, or serve on 127.0.0.1", cfg.Listen)
		}
		opts.Host, opts.Port = host, port
		if port == 0 {
			opts.Port = server.RANDOM_PORT
		}
	}
	self := &Server{token: cfg.Token}
	if err := self.withStore(opts, &cfg); err != nil {
		self.release()
		return nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		self.release()
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	self.s = s
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	l := newLogger(cfg.Logger.With("room", "nats"), cfg.OnTwin)
	self.said = l
	s.SetLoggerV2(l, false, false, false)
	s.Start()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if s.ReadyForConnections(time.Millisecond) {
			self.again = s.JetStreamConfig()
			return self, nil
		}
		select {
		case err = <-l.fatal:
		default:
			if time.Now().Before(deadline) {
				continue
			}
			err = errors.New("not ready after 10s")
		}
		break
	}
	self.Close()
	return nil, fmt.Errorf("NATS server on %q: %w", cfg.Listen, err)
}

// URL is where other processes connect; empty when the server listens nowhere.
func (s *Server) URL() string {
	if a, ok := s.s.Addr().(*net.TCPAddr); ok {
		host := a.IP.String()
		if a.IP.IsUnspecified() {
			host = "127.0.0.1"
		}
		return "nats://" + net.JoinHostPort(host, strconv.Itoa(a.Port))
	}
	return ""
}

// Close stops the server and waits until it has stopped.
func (s *Server) Close() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
	s.release()
}

// Loopback tells whether a host name or address stays on this machine.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func splitAddr(addr string) (host string, port int, err error) {
	h, p, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("address %q: want host:port, such as 127.0.0.1:4222 or :4222", addr)
	}
	if h == "" {
		h = "0.0.0.0"
	}
	return h, port, nil
}

// Until a server answers, the log says that it is tried: after this, then so often.
const (
	waitingAfter = time.Second
	waitingAgain = 10 * time.Second
)

// ConnConfig says where to connect.
type ConnConfig struct {
	URLs   string       // comma separated nats:// addresses
	Server *Server      // connect inside the process instead; wins over URLs
	Token  string       // ignored with Server
	Name   string       // shown by NATS tools
	OnUp   func()       // called after each reconnection; must not block
	OnDown func(error)  // called when the connection breaks; must not block
	Logger *slog.Logger // nil means slog.Default()
}

// Conn is a connection. It is safe for concurrent use.
type Conn struct {
	nc     *nats.Conn
	closed chan struct{}
}

// Dial connects. It tries until ctx ends when nobody answers, and says in the log
// that it does. It fails at once when the token is refused, or an address is none.
func Dial(ctx context.Context, cfg ConnConfig) (*Conn, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Conn{closed: make(chan struct{})}
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(50 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 100*time.Millisecond),
		nats.ReconnectBufSize(-1), // stale commands must not be sent later
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingEvery(cfg.URLs)),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(2 * time.Second),
		nats.SkipSubjectValidation(),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if cfg.OnDown != nil {
				cfg.OnDown(err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			if cfg.OnUp != nil {
				cfg.OnUp()
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			cfg.Logger.Warn("NATS connection", "err", err, "subject", subject)
		}),
	}
	urls := cfg.URLs
	if cfg.Server != nil {
		opts = append(opts, nats.InProcessServer(cfg.Server.s))
		cfg.Token = cfg.Server.token
		urls = nats.DefaultURL // not dialled
	}
	if cfg.Token != "" {
		opts = append(opts, nats.Token(cfg.Token))
	}
	if err := checkURLs(urls); err != nil {
		return nil, err
	}
	told := time.Now().Add(waitingAfter - waitingAgain)
	for {
		nc, err := nats.Connect(urls, opts...)
		if err == nil {
			c.nc = nc
			return c, nil
		}
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) {
			return nil, fmt.Errorf("NATS at %s refused the token: set Token (DISTGEAR_TOKEN) to the hub's", urls)
		}
		if !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout) && !isNetwork(err) {
			return nil, fmt.Errorf("connect to NATS at %s: %w", urls, err)
		}
		if time.Since(told) >= waitingAgain {
			told = time.Now()
			cfg.Logger.Warn("no NATS server answers: trying again until one does (is the hub running? start one with `distgear hub`)", "urls", urls, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no NATS server answered at %s (is the hub running? start one with `distgear hub`): %w", urls, errors.Join(context.Cause(ctx), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// pingEvery is how often a server is asked whether it is there; the third time
// without an answer to the first another one is tried. Where there are others that is
// worth more than patience with a slow road.
func pingEvery(urls string) time.Duration {
	if strings.Contains(urls, ",") {
		return 500 * time.Millisecond
	}
	return 2 * time.Second
}

// checkURLs finds what is no address of a NATS server: nobody would ever answer there.
func checkURLs(urls string) error {
	for s := range strings.SplitSeq(urls, ",") {
		scheme, _, has := strings.Cut(strings.TrimSpace(s), "://")
		_, err := url.Parse(strings.TrimSpace(s))
		switch {
		case !has: // host:port
		case err != nil:
			return fmt.Errorf("NATS address %q: %w", s, errors.Unwrap(err))
		case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, scheme):
			return fmt.Errorf("NATS address %q: want nats://host:port, as the hub says when it starts", s)
		}
	}
	return nil
}

func isNetwork(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// Publish sends data, which it copies. It fails at once while the connection
// is down, and then nothing was sent.
func (c *Conn) Publish(subject string, data []byte) error {
	return c.nc.Publish(subject, data)
}

// Settle returns when what was published has been written to the socket, or
// after a few turns of the scheduler. Whoever publishes in batches calls it
// before making up the next one: what piles up meanwhile travels together.
func (c *Conn) Settle() {
	for range maxTurns {
		if n, err := c.nc.Buffered(); err != nil || n == 0 { // it waits for a write that is under way
			return
		}
		runtime.Gosched()
	}
}

// Gather returns when no turn of the scheduler brings more of what size tells, or after a few: what is
// ready to be sent joins what is published next.
func (c *Conn) Gather(size func() int) {
	for turn, had := 0, -1; turn < maxTurns; turn++ {
		n := size()
		if n == had {
			return
		}
		had = n
		runtime.Gosched()
	}
}

// maxTurns is how many turns of the scheduler who publishes waits for at most.
const maxTurns = 4

// MaxPayload is the largest message the server takes, in bytes.
func (c *Conn) MaxPayload() int { return int(c.nc.MaxPayload()) }

// Up tells whether the connection stands now.
func (c *Conn) Up() bool { return c.nc.IsConnected() }

// Subscribe calls f with each message, one after the other, from one goroutine
// of the connection; f must not block. The data belongs to f. When it returns,
// the server knows of the subscription. The answer ends it.
func (c *Conn) Subscribe(subject string, f func(data []byte)) (stop func(), err error) {
	s, err := c.nc.Subscribe(subject, func(m *nats.Msg) { f(m.Data) })
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	// Bounded by the credits of the links, not here: what NATS drops is lost.
	if err := s.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	if err := c.nc.FlushTimeout(5 * time.Second); err != nil {
		_ = s.Unsubscribe() // fails only when the connection is closed
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return func() { _ = s.Unsubscribe() }, nil // fails only when the connection is closed
}

// Flush waits until the server has taken up what was published before.
func (c *Conn) Flush(ctx context.Context) error { return c.nc.FlushWithContext(ctx) }

// Close ends the connection and waits until its goroutines have seen it.
func (c *Conn) Close() {
	c.nc.Close()
	<-c.closed
}
