package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/distgear/distgear/bench/proc"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// redisServer runs a real redis-server on a loopback port, as a child of this process: in memory, but for asynq's first side, where it syncs each write.
func redisServer(sp proc.Spec) (*proc.Role, error) {
	u, err := freeURL()
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	appendOnly := "no"
	if sp.Side == "asynq" {
		appendOnly = "yes"
	}
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", u.Port(), "--save", "", "--appendonly", appendOnly, "--appendfsync", "always", "--dir", sp.Dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: is it installed? (apt-get install redis-server)", err)
	}
	stop := func() {
		cmd.Process.Kill() // it keeps nothing
		cmd.Wait()
	}
	c := redis.NewClient(&redis.Options{Addr: u.Host})
	defer c.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err = c.Ping(context.Background()).Err(); err == nil {
			break
		}
		if time.Now().After(end) {
			stop()
			return nil, fmt.Errorf("redis-server: %w\n%s", err, log.Bytes())
		}
	}
	return &proc.Role{Ready: proc.Reply{URL: u.Host}, Answers: map[string]func(string) (proc.Reply, error){}, Stop: stop}, nil
}

// redisCaller locks with redsync's default options. Where it gives up it tries again: that is the same wait.
func redisCaller(sp proc.Spec) (*proc.Role, error) {
	c := redis.NewClient(&redis.Options{Addr: sp.URL, PoolSize: max(sp.Callers, 10)})
	rs := redsync.New(goredis.NewPool(c))
	return callerRole(sp, func(name string) (proc.Locker, error) {
		m := rs.NewMutex(name)
		return proc.Locker{
			Lock: func() (uint64, error) {
				for {
					err := m.Lock()
					var taken *redsync.ErrTaken
					if errors.Is(err, redsync.ErrFailed) || errors.As(err, &taken) {
						continue
					}
					return 0, err
				}
			},
			Unlock: func() error {
				ok, err := m.Unlock()
				if err == nil && !ok {
					err = errors.New("the lock was not held any more")
				}
				return err
			},
		}, nil
	}, func() { c.Close() })
}
