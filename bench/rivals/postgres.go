package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/distgear/distgear/bench/proc"
	"github.com/jackc/pgx/v5"
)

// postgresServer runs a real PostgreSQL with its defaults (fsync and synchronous_commit on) in a new folder, on a loopback port, as a child of this process.
func postgresServer(sp proc.Spec) (*proc.Role, error) {
	bin, err := proc.Postgres()
	if err != nil {
		return nil, err
	}
	u, err := freeURL()
	if err != nil {
		return nil, err
	}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() == 0 { // which PostgreSQL refuses
		if attr.Credential, err = postgresUser(sp.Dir); err != nil {
			return nil, err
		}
	}
	var log bytes.Buffer
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = sp.Dir, &log, &log, attr
		return cmd
	}
	data := filepath.Join(sp.Dir, "data")
	if err := command("initdb", "--no-sync", "--auth=trust", "--username=bench", "--encoding=UTF8", "--pgdata="+data).Run(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, log.Bytes())
	}
	cmd := command("postgres", "-D", data, "-p", u.Port(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() {
		cmd.Process.Signal(syscall.SIGQUIT) // nobody reads what it keeps
		cmd.Wait()
	}
	url := "postgres://bench@" + u.Host + "/postgres?sslmode=disable"
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := pgx.Connect(context.Background(), url)
		if err == nil {
			c.Close(context.Background())
			break
		}
		if time.Now().After(end) {
			stop()
			return nil, fmt.Errorf("PostgreSQL: %w\n%s", err, log.Bytes())
		}
	}
	return &proc.Role{Ready: proc.Reply{URL: url}, Answers: map[string]func(string) (proc.Reply, error){}, Stop: stop}, nil
}

// postgresUser is the user that Debian's package makes, to whom the folder is given.
func postgresUser(dir string) (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // it has to pass through the trial's folder
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}
