package sides

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// unary is a method of a service written by hand, as protoc-gen-go-grpc would write it, with protobuf messages on both sides.
func unary[In any, PIn interface {
	*In
	proto.Message
}, Out proto.Message](name string, do func(context.Context, PIn) (Out, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := PIn(new(In))
		if err := dec(in); err != nil {
			return nil, err
		}
		return do(ctx, in)
	}}
}

// grpcServe serves the methods of one service called "bench" on a loopback port, and returns its address.
func grpcServe(methods ...grpc.MethodDesc) (*grpc.Server, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench", HandlerType: (*any)(nil), Methods: methods}, struct{}{})
	go s.Serve(l) // ends with s.Stop
	return s, l.Addr().String(), nil
}

func grpcDial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func grpcRole(sp spec) (*role, error) {
	rl := &role{Answers: map[string]func(string) (reply, error){}}
	switch sp.Role {
	case "worker":
		return rl, grpcWorker(sp, rl)
	case "caller":
		return rl, grpcCaller(sp, rl)
	}
	return nil, fmt.Errorf("no role %q", sp.Role)
}

func grpcWorker(sp spec, rl *role) error {
	var runs atomic.Uint64
	var back *grpc.ClientConn // to the caller's gate
	methods := []grpc.MethodDesc{
		unary("Ping", func(_ context.Context, in *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) { return in, nil }),
		unary("Text", func(_ context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
			runs.Add(1)
			return in, nil
		}),
		unary("Bytes", func(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			runs.Add(1)
			return in, nil
		}),
		unary("Step", func(_ context.Context, in *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
			runs.Add(1)
			return wrapperspb.Int64(in.Value + 1), nil
		}),
		unary("Event", func(ctx context.Context, in *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
			runs.Add(1)
			out := new(wrapperspb.Int64Value)
			return out, back.Invoke(ctx, "/bench/Gate", in, out)
		}),
	}
	if sp.Row == "memory" {
		var err error
		if back, err = grpcDial(sp.URL); err != nil {
			return err
		}
	}
	s, addr, err := grpcServe(methods...)
	if err != nil {
		return err
	}
	rl.Ready.Addr, rl.Stop = addr, s.Stop
	rl.Answers["count"] = func(string) (reply, error) { return reply{Runs: runs.Load()}, nil }
	rl.Answers["rss"] = rssAnswer(sp)
	return nil
}

func grpcCaller(sp spec, rl *role) error {
	var cc *grpc.ClientConn
	ctx := context.Background()
	rl.Answers["contact"] = func(addr string) (reply, error) {
		var err error
		if cc, err = grpcDial(addr); err != nil {
			return reply{}, err
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return reply{}, cc.Invoke(ctx, "/bench/Ping", wrapperspb.Int64(1), new(wrapperspb.Int64Value), grpc.WaitForReady(true))
	}
	text := func(caller int) func(int) error {
		in := ringOf(caller)
		return func(k int) error {
			out := new(wrapperspb.StringValue)
			if err := cc.Invoke(ctx, "/bench/Text", wrapperspb.String(in[k%ring]), out); err != nil {
				return err
			}
			if out.Value != in[k%ring] {
				return errMixed(caller, k)
			}
			return nil
		}
	}
	raw := func(caller int) func(int) error {
		var in [ring][]byte
		for i := range in {
			in[i] = orderBytes(caller, i)
		}
		return func(k int) error {
			out := new(wrapperspb.BytesValue)
			if err := cc.Invoke(ctx, "/bench/Bytes", wrapperspb.Bytes(in[k%ring]), out); err != nil {
				return err
			}
			if !bytes.Equal(out.Value, in[k%ring]) {
				return errMixed(caller, k)
			}
			return nil
		}
	}
	number := func(method string, x int64) (int64, error) {
		out := new(wrapperspb.Int64Value)
		err := cc.Invoke(ctx, method, wrapperspb.Int64(x), out)
		return out.Value, err
	}
	switch sp.Row {
	case "call":
		rl.Answers["run"] = func(string) (reply, error) { return latency(sp, text) }
	case "commands-string":
		rl.Answers["run"] = func(string) (reply, error) { return throughput(sp, text) }
	case "commands-struct":
		rl.Answers["run"] = func(string) (reply, error) { return throughput(sp, raw) }
	case "plan":
		rl.Answers["run"] = func(string) (reply, error) {
			return throughput(sp, plansByHand(func(x int64) (int64, error) { return number("/bench/Step", x) }))
		}
	case "memory":
		g := newGate()
		s, addr, err := grpcServe(unary("Gate", func(ctx context.Context, in *wrapperspb.Int64Value) (*wrapperspb.Int64Value, error) {
			return in, g.wait(ctx)
		}))
		if err != nil {
			return err
		}
		rl.Ready.Addr, rl.Stop = addr, s.Stop
		memoryAnswers(sp, rl, g, func(x int64) func() (int64, error) {
			return inBackground(func() (int64, error) { return number("/bench/Event", x) })
		})
	default:
		return fmt.Errorf("grpc has no row %q", sp.Row)
	}
	return nil
}
