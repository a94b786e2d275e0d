package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/gateway"
)

var greet = &distgear.Event[string, string]{Name: "greet",
	On: func(_ context.Context, _ *distgear.Run, name string) (string, error) { return "hello " + name, nil }}

// In a server of one's own.
func ExampleNew() {
	ctx := context.Background()
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		panic(err)
	}
	defer n.Leave(ctx)
	if err := n.Handle(greet); err != nil {
		panic(err)
	}

	mux := http.NewServeMux()
	mux.Handle("/", gateway.New(n, gateway.Config{Token: "secret"}))
	server := httptest.NewServer(mux)
	defer server.Close()

	post := func(token string) {
		r, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/v1/events/greet", strings.NewReader(`"world"`))
		if err != nil {
			panic(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := server.Client().Do(r)
		if err != nil {
			panic(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			panic(err)
		}
		fmt.Print(resp.StatusCode, " ", string(body))
	}
	post("secret")
	post("guess")
	// Output:
	// 200 "hello world"
	// 401 {"type":"https://pkg.go.dev/github.com/distgear/distgear/gateway#unauthorized","title":"A bearer token is needed","status":401,"detail":"this gateway needs Authorization: Bearer and its token","outcome":"never ran"}
}

// A gateway of its own address, here any free port.
func ExampleListen() {
	n, err := distgear.Join(context.Background(), distgear.Config{})
	if err != nil {
		panic(err)
	}
	defer n.Leave(context.Background())
	if err := n.Handle(greet); err != nil {
		panic(err)
	}

	s, err := gateway.Listen(n, "localhost:0", gateway.Config{})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- s.Serve(ctx) }()

	resp, err := http.Post(s.URL(), "application/json", strings.NewReader(`{"event": "greet", "parameters": "world"}`))
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Print(resp.StatusCode, " ", string(body))

	stop()
	fmt.Println(err, <-served)

	_, err = gateway.Listen(n, ":0", gateway.Config{}) // for the world, and without a token
	fmt.Println(err)
	// Output:
	// 200 {"status":"success","result":"hello world"}
	// <nil> <nil>
	// gateway: refusing to listen on :0 without a token: whoever reaches it could raise events; set Config.Token (DISTGEAR_TOKEN of distgear hub), or listen on loopback (127.0.0.1:8422)
}
