// Command nats is what gear is, on plain nats.go and nats-server.
//
//	nats hub          embeds a server on a loopback port and answers itself
//	nats worker URL   connects to the server at URL and answers itself
package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

func main() {
	start := time.Now()
	var url string
	switch os.Args[1] {
	case "hub":
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
		check(err)
		s.Start()
		if !s.ReadyForConnections(10 * time.Second) {
			check(fmt.Errorf("the server is not ready"))
		}
		url = s.ClientURL()
	case "worker":
		url = os.Args[2]
	}
	nc, err := nats.Connect(url)
	check(err)
	_, err = nc.Subscribe("hello."+fmt.Sprint(os.Getpid()), func(m *nats.Msg) { m.Respond(append([]byte("hello "), m.Data...)) })
	check(err)
	m, err := nc.Request("hello."+fmt.Sprint(os.Getpid()), []byte("gear"), 10*time.Second)
	check(err)
	if string(m.Data) != "hello gear" {
		check(fmt.Errorf("answered %q", m.Data))
	}
	fmt.Printf("{\"URL\": %q, \"Values\": {\"main\": %d}}\n", url, time.Since(start).Nanoseconds())
	io.Copy(io.Discard, os.Stdin)
}

func check(err error) {
	if err != nil {
		fmt.Printf("{\"Err\": %q}\n", err.Error())
		os.Exit(1)
	}
}
