// Command rivals is the sides of etcd and redsync (locks), and of pond, ants, asynq and River (tasks): a program of its own, so that what it imports is not in the
// memory of the other sides. It also hosts the servers: etcd in its process, real redis-server and PostgreSQL as its children. Package bench starts it.
package main

import (
	"fmt"
	"os"

	"github.com/distgear/distgear/bench/proc"
)

func main() { os.Exit(proc.Run(newRole)) }

func newRole(sp proc.Spec) (*proc.Role, error) {
	switch sp.Side + " " + sp.Role {
	case "etcd hub":
		return etcdServer(sp)
	case "etcd caller", "etcd worker":
		return etcdCaller(sp)
	case "redsync hub":
		return redisServer(sp)
	case "redsync caller", "redsync worker":
		return redisCaller(sp)
	case "asynq hub", "asynq-memory hub":
		return redisServer(sp)
	case "asynq caller", "asynq-memory caller":
		return asynqCaller(sp)
	case "river hub", "dbos hub":
		return postgresServer(sp)
	case "river caller":
		return riverCaller(sp)
	case "pond caller":
		return pondCaller(sp)
	case "ants caller":
		return antsCaller(sp)
	}
	return nil, fmt.Errorf("no role %s of %s", sp.Role, sp.Side)
}

// callerRole answers what is asked of a rival's locks; locker makes one caller's way to the lock of that name.
func callerRole(sp proc.Spec, locker func(name string) (proc.Locker, error), stop func()) (*proc.Role, error) {
	run := func(string) (proc.Reply, error) {
		return proc.Contend(sp, func(int) (proc.Locker, error) { return locker("contended") })
	}
	if sp.Row == "shared-lock" {
		run = func(string) (proc.Reply, error) {
			l, err := locker("uncontended")
			if err != nil {
				return proc.Reply{}, err
			}
			return proc.Paced(sp, func(int) error {
				if _, err := l.Lock(); err != nil {
					return err
				}
				return l.Unlock()
			})
		}
	}
	return &proc.Role{Answers: map[string]func(string) (proc.Reply, error){"run": run}, Stop: stop}, nil
}
