package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/rpc"
)

// fake is an endpoint whose answers a test decides.
type fake struct {
	read  func(context.Context, *endpoint.Query) (*endpoint.Answer, error)
	write func(context.Context, *endpoint.Write) (*command.Result, error)
}

func (f *fake) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	return f.read(ctx, q)
}
func (f *fake) Write(ctx context.Context, w *endpoint.Write) (*command.Result, error) {
	return f.write(ctx, w)
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// serve runs a server until stop is called.
func serve(t testing.TB, ep endpoint.Endpoint) (s *rpc.Server, addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = rpc.New(rpc.Config{Listener: l, Log: logger(t)})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx, ep); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return s, l.Addr().String(), stop
}

func pool(t testing.TB) *rpc.Pool {
	p := rpc.NewPool(nil, logger(t))
	t.Cleanup(p.Close)
	return p
}

func TestCalls(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 3<<20)
	ep := &fake{
		read: func(_ context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
			switch q.Name {
			case "refused":
				return nil, api.Errorf(api.Forbidden, "Permission denied")
			case "plain":
				return nil, errors.New("a plain error")
			}
			return &endpoint.Answer{Meta: api.QueryMeta{Index: 7, KnownLeader: true, LastContact: time.Second, Consistency: q.Consistency},
				Found: true, Value: []string{q.Name, strings.Join(q.Tags, ","), big}}, nil
		},
		write: func(_ context.Context, w *endpoint.Write) (*command.Result, error) {
			kv, ok := w.Command.(*command.KV)
			if !ok || kv.Pair.Key != "a" || w.Datacenter != "dc1" || w.Token != "t" {
				return nil, api.Errorf(api.Invalid, "got %+v", w)
			}
			return &command.Result{Index: 9, OK: true}, nil
		},
	}
	_, addr, _ := serve(t, ep)
	at := pool(t).At(addr)
	a, err := at.Read(t.Context(), &endpoint.Query{Kind: endpoint.Nodes, Name: "n", Tags: []string{"a", "b"}, QueryOptions: api.QueryOptions{Consistency: api.Stale}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := endpoint.Into[[]string](a)
	if err != nil || len(list) != 3 || list[0] != "n" || list[1] != "a,b" || list[2] != big {
		t.Errorf("answer: %.40v, %v", list, err)
	}
	if want := (api.QueryMeta{Index: 7, KnownLeader: true, LastContact: time.Second, Consistency: api.Stale}); a.Meta != want || !a.Found {
		t.Errorf("meta: %+v found %t, want %+v", a.Meta, a.Found, want)
	}
	_, err = at.Read(t.Context(), &endpoint.Query{Name: "refused"})
	if !errors.Is(err, api.ErrPermissionDenied) {
		t.Errorf("a refusal: %v, want ErrPermissionDenied", err)
	}
	if _, err = at.Read(t.Context(), &endpoint.Query{Name: "plain"}); api.KindOf(err) != api.Internal || err.Error() != "a plain error" {
		t.Errorf("a plain error: %v", err)
	}
	res, err := at.Write(t.Context(), &endpoint.Write{Datacenter: "dc1", Token: "t", Command: &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "a"}}})
	if err != nil || res.Index != 9 || !res.OK {
		t.Errorf("write: %+v, %v", res, err)
	}
}

// A call given up ends at the other side; many others on the connection go on.
func TestCancel(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}), make(chan error, 1)
	_, addr, _ := serve(t, &fake{read: func(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
		if q.Name == "block" {
			close(began)
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}
		return &endpoint.Answer{Value: q.Name}, nil
	}})
	at := pool(t).At(addr)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := at.Read(ctx, &endpoint.Query{Name: "block"})
		got <- err
	}()
	<-began
	if _, err := at.Read(t.Context(), &endpoint.Query{Name: "other"}); err != nil {
		t.Errorf("another call beside one that blocks: %v", err)
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller: %v, want context.Canceled", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler: %v, want context.Canceled", err)
	}
}

// When the server goes, its calls end at once: a read as unavailable, a write as one
// whose fate is open; and a new server at the address is found.
func TestServerGone(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 2)
	wait := func(ctx context.Context) error { began <- struct{}{}; <-ctx.Done(); return ctx.Err() }
	_, addr, stop := serve(t, &fake{
		read:  func(ctx context.Context, _ *endpoint.Query) (*endpoint.Answer, error) { return nil, wait(ctx) },
		write: func(ctx context.Context, _ *endpoint.Write) (*command.Result, error) { return nil, wait(ctx) },
	})
	at := pool(t).At(addr)
	errs := make(chan error, 2)
	go func() { _, err := at.Read(t.Context(), &endpoint.Query{}); errs <- err }()
	go func() {
		_, err := at.Write(t.Context(), &endpoint.Write{Command: &command.Reap{}})
		errs <- err
	}()
	<-began
	<-began
	stop()
	for range 2 {
		if err := <-errs; err == nil || errors.Is(err, api.ErrNotLeader) {
			t.Errorf("a call under way: %v; want an error that leaves a write's fate open", err)
		}
	}
	if _, err := at.Write(t.Context(), &endpoint.Write{Command: &command.Reap{}}); !errors.Is(err, api.ErrNotLeader) {
		t.Errorf("a write that was never sent: %v, want ErrNotLeader, so that it is tried elsewhere", err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("the address was taken by another process: %v", err)
	}
	again := rpc.New(rpc.Config{Listener: l, Log: logger(t)})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		again.Run(ctx, &fake{read: func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
			return &endpoint.Answer{Value: 1}, nil
		}})
	})
	if _, err := at.Read(t.Context(), &endpoint.Query{}); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
	cancel()
	running.Wait()
}

// A client's endpoint moves on when its server dies, and sends a write again only where
// the first certainly was not carried out.
func TestRemote(t *testing.T) {
	t.Parallel()
	answer := func(name string) *fake {
		return &fake{
			read: func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
				return &endpoint.Answer{Value: name}, nil
			},
			write: func(context.Context, *endpoint.Write) (*command.Result, error) { return &command.Result{OK: true}, nil },
		}
	}
	_, one, stopOne := serve(t, answer("one"))
	_, two, _ := serve(t, answer("two"))
	r := rpc.NewRemote(pool(t), func() []string { return []string{one, two} }, logger(t))
	who := func() string {
		a, err := r.Read(t.Context(), &endpoint.Query{})
		if err != nil {
			return err.Error()
		}
		name, _ := endpoint.Into[string](a)
		return name
	}
	if got := who(); got != "one" {
		t.Errorf("first: %s", got)
	}
	stopOne()
	if got := who(); got != "two" {
		t.Errorf("after the first died: %s", got)
	}
	if _, err := r.Write(t.Context(), &endpoint.Write{Command: &command.Reap{}}); err != nil {
		t.Errorf("write: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	none := rpc.NewRemote(pool(t), func() []string { return nil }, logger(t))
	if _, err := none.Read(ctx, &endpoint.Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("without a server and without patience: %v", err)
	}
}

// Port 8300 tells what a connection is by its first byte.
func TestRaftStreams(t *testing.T) {
	t.Parallel()
	s, addr, _ := serve(t, &fake{})
	layer := s.Raft()
	got := make(chan string, 1)
	go func() {
		c, err := layer.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		b := make([]byte, 5)
		c.Read(b)
		got <- string(b)
	}()
	c, err := layer.Dial(raft.ServerAddress(addr), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("hello"))
	if text := <-got; text != "hello" {
		t.Errorf("the other end read %q", text)
	}
	c.Close()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.Write([]byte{99})
	raw.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := raw.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a connection of no known kind: read %d, %v; want it closed", n, err)
	}
	layer.Close()
	if _, err := layer.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

func BenchmarkCalls(b *testing.B) {
	body := bytes.Repeat([]byte("a"), 200)
	_, addr, _ := serve(b, &fake{read: func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
		return endpoint.Encoded(api.QueryMeta{Index: 1}, true, body), nil
	}})
	at := pool(b).At(addr)
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := at.Read(context.Background(), &endpoint.Query{Kind: endpoint.KVGet, Name: "key"}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
