// Command grpc is what gear is, on grpc-go: a server on a loopback port that calls itself once and then idles.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func hello(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := dec(in); err != nil {
		return nil, err
	}
	return wrapperspb.String("hello " + in.Value), nil
}

func main() {
	start := time.Now()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "small", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Hello", Handler: hello}}}, struct{}{})
	go s.Serve(l) // ends with the process
	cc, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	out := new(wrapperspb.StringValue)
	check(cc.Invoke(ctx, "/small/Hello", wrapperspb.String("gear"), out))
	cancel()
	if out.Value != "hello gear" {
		check(fmt.Errorf("answered %q", out.Value))
	}
	fmt.Printf("{\"Values\": {\"main\": %d}}\n", time.Since(start).Nanoseconds())
	io.Copy(io.Discard, os.Stdin)
}

func check(err error) {
	if err != nil {
		fmt.Printf("{\"Err\": %q}\n", err.Error())
		os.Exit(1)
	}
}
