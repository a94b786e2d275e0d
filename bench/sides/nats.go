package sides

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// natsServer starts a nats-server with default options on a loopback port of the system's choice.
func natsServer() (*server.Server, error) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, fmt.Errorf("nats-server is not ready after 10 s")
	}
	return s, nil
}

// natsMember starts one of three nats-servers that are a JetStream cluster: its name, places and folder are said, all else is the default.
func natsMember(sp spec) (*server.Server, error) {
	listen, err := net.ResolveTCPAddr("tcp", sp.Listen)
	if err != nil {
		return nil, err
	}
	route, err := net.ResolveTCPAddr("tcp", sp.Route)
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName: sp.Name, Host: listen.IP.String(), Port: listen.Port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: sp.Dir,
		Cluster: server.ClusterOpts{Name: "foreign", Host: route.IP.String(), Port: route.Port},
	}
	for _, p := range sp.Peers {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: p})
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, fmt.Errorf("nats-server %s is not ready after 10 s", sp.Name)
	}
	return s, nil
}

// natsConnect connects with nats.go's defaults.
func natsConnect(address string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(address, opts...)
}

func natsRole(sp spec) (*role, error) {
	rl := &role{Answers: map[string]func(string) (reply, error){}}
	at := sp.URL
	if sp.Role == "hub" && len(sp.Peers) > 0 {
		s, err := natsMember(sp)
		if err != nil {
			return nil, err
		}
		rl.Ready.URL, rl.Stop = s.ClientURL(), s.Shutdown
		return rl, nil
	}
	if sp.Role == "hub" || sp.Host {
		s, err := natsServer()
		if err != nil {
			return nil, err
		}
		at = s.ClientURL()
		rl.Ready.URL = at
		if sp.Role == "hub" {
			rl.Stop = s.Shutdown
			return rl, nil
		}
	}
	if sp.Row == "one-way" || sp.Row == "same-node" {
		return rl, natsSolo(sp, rl)
	}
	nc, err := natsConnect(at)
	if err != nil {
		return nil, err
	}
	rl.Stop = nc.Close
	switch sp.Role {
	case "worker":
		return rl, natsWorker(sp, nc, rl)
	case "caller":
		return rl, natsCaller(sp, nc, rl)
	}
	return nil, fmt.Errorf("no role %q", sp.Role)
}

// natsWorker answers as a program written on nats.go would: in the subscription's callback, or in a goroutine where it has to wait.
func natsWorker(sp spec, nc *nats.Conn, rl *role) error {
	var runs atomic.Uint64
	subs := map[string]nats.MsgHandler{
		"bench.ping": func(m *nats.Msg) { m.Respond(nil) },
		"bench.echo": func(m *nats.Msg) {
			runs.Add(1)
			m.Respond(m.Data)
		},
		"bench.step": func(m *nats.Msg) {
			runs.Add(1)
			v, err := getInt(m.Data)
			if err != nil {
				return // the caller's timeout tells
			}
			m.Respond(putInt(nil, v+1))
		},
		"bench.event": func(m *nats.Msg) {
			runs.Add(1)
			go func() {
				r, err := nc.Request("bench.gate", m.Data, time.Hour)
				if err != nil {
					return
				}
				m.Respond(r.Data)
			}()
		},
	}
	for subject, f := range subs {
		s, err := nc.Subscribe(subject, f)
		if err != nil {
			return err
		}
		if err := s.SetPendingLimits(-1, -1); err != nil {
			return err
		}
	}
	rl.Answers["count"] = func(string) (reply, error) { return reply{Runs: runs.Load()}, nil }
	rl.Answers["rss"] = rssAnswer(sp)
	return nc.Flush()
}

const natsTimeout = 30 * time.Second

func natsCaller(sp spec, nc *nats.Conn, rl *role) error {
	rl.Answers["contact"] = func(string) (r reply, err error) {
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			if _, err = nc.Request("bench.ping", nil, time.Second); err == nil {
				return r, nil
			}
		}
		return r, err
	}
	echo := func(payload func(caller, i int) []byte) work {
		return func(caller int) func(int) error {
			var in [ring][]byte
			for i := range in {
				in[i] = payload(caller, i)
			}
			return func(k int) error {
				m, err := nc.Request("bench.echo", in[k%ring], natsTimeout)
				if err != nil {
					return err
				}
				if !bytes.Equal(m.Data, in[k%ring]) {
					return errMixed(caller, k)
				}
				return nil
			}
		}
	}
	text := func(caller, i int) []byte { return []byte(ringOf(caller)[i]) }
	step := func(x int64) (int64, error) {
		m, err := nc.Request("bench.step", putInt(nil, x), natsTimeout)
		if err != nil {
			return 0, err
		}
		return getInt(m.Data)
	}
	switch sp.Row {
	case "call":
		rl.Answers["run"] = func(string) (reply, error) { return latency(sp, echo(text)) }
	case "commands-string":
		rl.Answers["run"] = func(string) (reply, error) { return throughput(sp, echo(text)) }
	case "commands-struct":
		rl.Answers["run"] = func(string) (reply, error) { return throughput(sp, echo(orderBytes)) }
	case "plan":
		rl.Answers["run"] = func(string) (reply, error) { return throughput(sp, plansByHand(step)) }
	case "memory":
		g := newGate()
		_, err := nc.Subscribe("bench.gate", func(m *nats.Msg) {
			go func() {
				g.wait(context.Background())
				m.Respond(m.Data)
			}()
		})
		if err != nil {
			return err
		}
		raise := func(x int64) func() (int64, error) {
			return inBackground(func() (int64, error) {
				m, err := nc.Request("bench.event", putInt(nil, x), time.Hour)
				if err != nil {
					return 0, err
				}
				return getInt(m.Data)
			})
		}
		memoryAnswers(sp, rl, g, raise)
		return nc.Flush()
	default:
		return fmt.Errorf("nats has no row %q", sp.Row)
	}
	return nil
}

// natsSolo is the two rows within one process.
func natsSolo(sp spec, rl *role) error {
	s, err := natsServer()
	if err != nil {
		return err
	}
	opts := []nats.Option{}
	if sp.Row == "same-node" {
		opts = append(opts, nats.InProcessServer(s)) // 15 µs rather than 71: the better of nats.go's two ways within a process
	}
	a, err := natsConnect(s.ClientURL(), opts...)
	if err != nil {
		return err
	}
	b, err := natsConnect(s.ClientURL(), opts...)
	if err != nil {
		return err
	}
	rl.Stop = func() { a.Close(); b.Close(); s.Shutdown() }
	if sp.Row == "one-way" {
		var f flow
		sub, err := b.Subscribe("bench.tick", func(m *nats.Msg) {
			if v, err := getInt(m.Data); err == nil {
				f.take(v)
			}
		})
		if err != nil {
			return err
		}
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return err
		}
		rl.Answers["run"] = func(string) (reply, error) {
			buf := make([]byte, 0, 8)
			return oneWay(sp, &f, func(v int64) error { return a.Publish("bench.tick", putInt(buf, v)) }, a.Flush)
		}
		return b.Flush()
	}
	if _, err := b.Subscribe("bench.echo", func(m *nats.Msg) { m.Respond(m.Data) }); err != nil {
		return err
	}
	rl.Answers["run"] = func(string) (reply, error) {
		in := []byte(ringOf(0)[0])
		return local(sp, func(k int) error {
			m, err := a.Request("bench.echo", in, natsTimeout)
			if err == nil && !bytes.Equal(m.Data, in) {
				err = errMixed(0, k)
			}
			return err
		})
	}
	return b.Flush()
}
