package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"time"

	"github.com/distgear/distgear/bench/proc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
)

// etcdServer runs a server with default options: what it acknowledged it has synced.
func etcdServer(sp proc.Spec) (*proc.Role, error) {
	cfg := embed.NewConfig()
	cfg.Dir = sp.Dir
	cfg.LogLevel = "fatal" // it calls its own end an error
	client, err := freeURL()
	if err != nil {
		return nil, err
	}
	peer, err := freeURL()
	if err != nil {
		return nil, err
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		e.Close()
		return nil, errors.New("etcd is not ready after 30 s")
	}
	return &proc.Role{Ready: proc.Reply{URL: client.String()}, Answers: map[string]func(string) (proc.Reply, error){}, Stop: e.Close}, nil
}

// freeURL has a loopback port on which nobody listens now.
func freeURL() (url.URL, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return url.URL{}, err
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}, nil
}

// etcdCaller has one connection, and a session for each caller: a Mutex of a session is re-entrant for all of it.
func etcdCaller(sp proc.Spec) (*proc.Role, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{sp.URL}, DialTimeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return callerRole(sp, func(name string) (proc.Locker, error) {
		s, err := concurrency.NewSession(c)
		if err != nil {
			return proc.Locker{}, err
		}
		m := concurrency.NewMutex(s, "/bench/"+name)
		return proc.Locker{Lock: func() (uint64, error) { return 0, m.Lock(ctx) }, Unlock: func() error { return m.Unlock(ctx) }}, nil
	}, func() { c.Close() })
}
