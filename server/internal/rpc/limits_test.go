package rpc_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/rpc"
)

// A client agent sends no more requests than it may, until its limits are others.
func TestRate(t *testing.T) {
	t.Parallel()
	_, addr, _ := serve(t, &fake{
		read: func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
			return &endpoint.Answer{Value: 1}, nil
		},
		write: func(context.Context, *endpoint.Write) (*command.Result, error) { return &command.Result{OK: true}, nil },
	})
	r := rpc.NewRemote(pool(t), func() []string { return []string{addr} }, logger(t))
	ask := func() error {
		_, err := r.Read(t.Context(), &endpoint.Query{})
		return err
	}
	r.Limit(rpc.Limits{Rate: 0.001, Burst: 2})
	if err := ask(); err != nil {
		t.Error(err)
	}
	if _, err := r.Write(t.Context(), &endpoint.Write{Command: &command.Reap{}}); err != nil {
		t.Error(err)
	}
	if err := ask(); api.KindOf(err) != api.Busy || err.Error() != "RPC rate limit exceeded" {
		t.Errorf("above the limit: %v", err)
	}
	if _, err := r.Write(t.Context(), &endpoint.Write{Command: &command.Reap{}}); api.KindOf(err) != api.Busy {
		t.Errorf("a write above the limit: %v", err)
	}
	r.Limit(rpc.Limits{Rate: -1})
	for range 10 {
		if err := ask(); err != nil {
			t.Error(err)
		}
	}
}

// A client agent gives a server up that does not answer, a blocking read after the time
// that it may wait for a change.
func TestAnswerInTime(t *testing.T) {
	t.Parallel()
	_, addr, _ := serve(t, &fake{read: func(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
		if q.MinIndex > 0 {
			select {
			case <-time.After(q.MaxWait):
				return &endpoint.Answer{Value: 1}, nil
			case <-ctx.Done():
			}
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	r := rpc.NewRemote(pool(t), func() []string { return []string{addr} }, logger(t))
	r.Limit(rpc.Limits{Rate: -1, Answer: 100 * time.Millisecond})
	if _, err := r.Read(t.Context(), &endpoint.Query{}); api.KindOf(err) != api.Unavailable || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("a server that does not answer: %v", err)
	}
	r.Limit(rpc.Limits{Rate: -1, Answer: 20 * time.Second})
	if _, err := r.Read(t.Context(), &endpoint.Query{QueryOptions: api.QueryOptions{MinIndex: 1, MaxWait: 200 * time.Millisecond}}); err != nil {
		t.Errorf("a blocking read: %v", err)
	}
}

// A server takes so many connections from a host and no more, and takes others once those
// are closed.
func TestConnectionsOfAHost(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.New(rpc.Config{Listener: l, Log: logger(t), Handshake: time.Minute, MaxConnsPerHost: func() int { return 2 }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, &fake{}) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	// refused tells whether a new connection is closed at once; one that is held says nothing.
	refused := func(c net.Conn) bool {
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		return err == io.EOF || err != nil && !err.(net.Error).Timeout()
	}
	first := dial()
	second := dial()
	if refused(first) || refused(second) {
		t.Error("within the limit, and refused")
	}
	if !refused(dial()) {
		t.Error("above the limit, and held")
	}
	first.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if !refused(dial()) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("one was closed, and no other is taken")
		}
	}
}
