package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

// proxy routes the requests of one workspace to its workers in turn.
type proxy struct {
	addr     string
	srv      *http.Server
	backends atomic.Pointer[[]string]
	turn     atomic.Uint64
	done     chan struct{}
	out      *http.Transport
}

func startProxy(ctx context.Context, secret string, backends []string) (*proxy, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{addr: ln.Addr().String(), done: make(chan struct{}), out: &http.Transport{IdleConnTimeout: time.Minute}}
	p.backends.Store(&backends)
	rp := &httputil.ReverseProxy{Transport: p.out, Rewrite: func(r *httputil.ProxyRequest) {
		host := "" // no worker: the transport says so, as 502
		if bs := *p.backends.Load(); len(bs) > 0 {
			host = bs[(p.turn.Add(1)-1)%uint64(len(bs))]
		}
		r.SetURL(&url.URL{Scheme: "http", Host: host})
	}}
	p.srv = &http.Server{Handler: guarded(secret, rp), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(p.done)
		_ = p.srv.Serve(ln) // until stop
	}()
	return p, nil
}

func (p *proxy) stop() {
	_ = p.srv.Close() // connections are cut: what they asked for is going away
	<-p.done
	p.out.CloseIdleConnections()
}
