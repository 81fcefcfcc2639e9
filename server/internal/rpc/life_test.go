package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/rpc"
	"github.com/rollcall/rollcall/server/internal/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// named answers every read with its name, at once or, asked to block, when it ends.
func named(name string, blocked chan<- struct{}) *fake {
	return &fake{read: func(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
		if q.MinIndex > 0 && blocked != nil {
			blocked <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return &endpoint.Answer{Value: name}, nil
	}}
}

func ask(ctx context.Context, ep endpoint.Endpoint, minIndex uint64) (string, error) {
	a, err := ep.Read(ctx, &endpoint.Query{Kind: endpoint.Nodes, QueryOptions: api.QueryOptions{MinIndex: minIndex}})
	if err != nil {
		return "", err
	}
	return endpoint.Into[string](a)
}

// on serves at an address of a net in memory until the returned function is called.
func on(t *testing.T, n *servertest.Net, addr string, ep endpoint.Endpoint) (stop func()) {
	t.Helper()
	l, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.New(rpc.Config{Listener: lazy{l}, Dial: n.Dialer("server"), Log: logger(t)})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx, ep); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return sync.OnceFunc(func() { cancel(); running.Wait() })
}

// lazy is a listener whose connections take their time to close, as on a machine that
// has much else to do.
type lazy struct{ net.Listener }

func (l lazy) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return lazyConn{c}, err
}

type lazyConn struct{ net.Conn }

func (c lazyConn) Close() error {
	time.Sleep(time.Minute)
	return c.Conn.Close()
}

// A server that stops in the middle of blocking reads, while it still sends others their
// answers, leaves them without a word: the error of its own ending must not reach who
// asked, in place of another server's answer.
func TestStopMovesReadsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const readers = 20
		n := servertest.NewNet()
		blocked, big := make(chan struct{}, readers), strings.Repeat("x", 1<<20)
		stopOne := on(t, n, "one:8300", named(big, blocked))
		stopTwo := on(t, n, "two:8300", named("two", nil))
		dial := n.Dialer("client")
		p := rpc.NewPool(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := dial(ctx, addr)
			return slow{c}, err
		}, logger(t))
		r := rpc.NewRemote(p, func() []string { return []string{"one:8300", "two:8300"} }, logger(t))
		var reading sync.WaitGroup
		for range readers {
			reading.Go(func() {
				if got, err := ask(t.Context(), r, 1); got != "two" || err != nil {
					t.Errorf("read that its server left: %.20q, %v; want the answer of the other", got, err)
				}
			})
		}
		for range readers {
			<-blocked
		}
		reading.Go(func() {
			if got, err := ask(t.Context(), r, 0); got != big && got != "two" || err != nil {
				t.Errorf("read under way: %.20q, %v", got, err)
			}
		})
		time.Sleep(5 * time.Second)
		stopOne()
		reading.Wait()
		p.Close()
		stopTwo()
	})
}

// A client stays with the server that answers, and after a while lets the order decide:
// one that came back gets its share again.
func TestClientsComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		stopOne := on(t, n, "one:8300", named("one", nil))
		stopTwo := on(t, n, "two:8300", named("two", nil))
		p := rpc.NewPool(n.Dialer("client"), logger(t))
		r := rpc.NewRemote(p, func() []string { return []string{"one:8300", "two:8300"} }, logger(t))
		want := func(when, name string) {
			t.Helper()
			if got, err := ask(t.Context(), r, 0); got != name || err != nil {
				t.Errorf("%s: %s, %v; want %s", when, got, err, name)
			}
		}
		want("at first", "one")
		stopOne()
		want("without it", "two")
		stopOne = on(t, n, "one:8300", named("one", nil))
		want("right after it came back", "two")
		time.Sleep(5 * time.Minute)
		want("later", "one")
		p.Close()
		stopOne()
		stopTwo()
	})
}

// A partition says nothing: silence ends the calls, and the reads move on.
func TestPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		blocked := make(chan struct{}, 1)
		stopOne := on(t, n, "one:8300", named("one", blocked))
		stopTwo := on(t, n, "two:8300", named("two", nil))
		p := rpc.NewPool(n.Dialer("client"), logger(t))
		r := rpc.NewRemote(p, func() []string { return []string{"one:8300", "two:8300"} }, logger(t))
		got := make(chan string, 1)
		go func() {
			name, err := ask(t.Context(), r, 1)
			got <- fmt.Sprint(name, err)
		}()
		<-blocked
		time.Sleep(time.Hour) // pings keep it, however long it blocks
		n.Partition("one")
		began := time.Now()
		if name := <-got; name != "two<nil>" {
			t.Errorf("after the partition: %s, want two", name)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("moved on after %s", took)
		}
		p.Close()
		stopOne()
		stopTwo()
	})
}

// What waits for an answer does not wait for long where nothing comes at all: reads go to
// another server, also the blocking ones that were there before; a write waits on, since only
// its server can tell what became of it. Whoever merely takes long is waited for.
func TestNoSignOfLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		blocked, writing := make(chan struct{}, 1), make(chan struct{})
		one := named("one", blocked)
		one.write = func(ctx context.Context, _ *endpoint.Write) (*command.Result, error) {
			close(writing)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		stopOne := on(t, n, "one:8300", one)
		stopTwo := on(t, n, "two:8300", &fake{read: func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
			time.Sleep(20 * time.Second)
			return &endpoint.Answer{Value: "two"}, nil
		}})
		p := rpc.NewPool(n.Dialer("client"), logger(t))
		r := rpc.NewRemote(p, func() []string { return []string{"one:8300", "two:8300"} }, logger(t))
		if got, err := ask(t.Context(), r, 0); got != "one" || err != nil {
			t.Fatalf("at first: %s, %v", got, err)
		}
		time.Sleep(time.Minute)
		var calling sync.WaitGroup
		calling.Go(func() {
			began := time.Now()
			_, err := p.At("one:8300").Write(t.Context(), &endpoint.Write{Command: &command.Reap{}})
			if took := time.Since(began); took < 5*time.Second || err == nil || !strings.Contains(err.Error(), "may or may not have happened") {
				t.Errorf("the write: %v after %s", err, took)
			}
		})
		<-writing
		read := func(min uint64) {
			if got, err := ask(t.Context(), r, min); got != "two" || err != nil {
				t.Errorf("read from index %d: %s, %v; want two", min, got, err)
			}
		}
		calling.Go(func() { read(1) })
		<-blocked
		time.Sleep(time.Second)
		n.Partition("one")
		began := time.Now()
		read(0)
		if took := time.Since(began); took > 25*time.Second {
			t.Errorf("answered after %s, want the 20s of the other's and little more", took)
		}
		n.Heal()
		time.Sleep(10 * time.Second)
		if got, err := ask(t.Context(), p.At("one:8300"), 0); got != "one" || err != nil {
			t.Errorf("it is back: %s, %v", got, err)
		}
		n.Partition("one")
		began = time.Now()
		if _, err := ask(t.Context(), p.At("one:8300"), 0); api.KindOf(err) != api.Unavailable || time.Since(began) > 5*time.Second {
			t.Errorf("gone again: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		if _, err := p.At("one:8300").Write(t.Context(), &endpoint.Write{Command: &command.Reap{}}); !errors.Is(err, api.ErrNotLeader) || time.Since(began) != 0 {
			t.Errorf("a write that comes then: %v after %s; want it free to go elsewhere, at once", err, time.Since(began))
		}
		calling.Wait()
		p.Close()
		stopOne()
		stopTwo()
	})
}

// After a write whose server went away with it, the next goes to another server.
func TestWriteLeavesWhoWentAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		hung := &fake{write: func(ctx context.Context, _ *endpoint.Write) (*command.Result, error) {
			n.Partition("one") // with the write
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		stopOne := on(t, n, "one:8300", hung)
		stopTwo := on(t, n, "two:8300", &fake{write: func(context.Context, *endpoint.Write) (*command.Result, error) { return &command.Result{OK: true}, nil }})
		p := rpc.NewPool(n.Dialer("client"), logger(t))
		r := rpc.NewRemote(p, func() []string { return []string{"one:8300", "two:8300"} }, logger(t))
		w := &endpoint.Write{Command: &command.Reap{}}
		_, err := r.Write(t.Context(), w)
		if api.KindOf(err) != api.Unavailable || !strings.Contains(err.Error(), "may or may not have happened") {
			t.Errorf("the first: %v", err)
		}
		n.Heal() // it takes connections again
		if res, err := r.Write(t.Context(), w); err != nil || !res.OK {
			t.Errorf("the next: %+v, %v", res, err)
		}
		p.Close()
		stopOne()
		stopTwo()
	})
}

// Servers of another datacenter that nobody reaches are dialled at once, not one by one.
func TestFarAndUnreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		n.Partition("client")
		p := rpc.NewPool(n.Dialer("client"), logger(t))
		r := rpc.NewFar(p, "dc2", func() []string { return []string{"one:8300", "two:8300", "three:8300", "four:8300", "five:8300"} }, logger(t))
		began := time.Now()
		if _, err := ask(t.Context(), r, 0); api.KindOf(err) != api.OutOfReach || !strings.Contains(err.Error(), `no server of "dc2" answers`) {
			t.Errorf("read: %v", err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("told after %s, want the time of one dial", took)
		}
		p.Close()
	})
}

// A datacenter that is cut off is given up in a few seconds, however many connections there
// were to its servers and whatever went over them a moment before.
func TestFarAndCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		hosts := []string{"one", "two", "three"}
		var addrs []string
		for _, h := range hosts {
			addrs = append(addrs, h+":8300")
			defer on(t, n, h+":8300", named(h, nil))()
		}
		p := rpc.NewPool(n.Dialer("client"), logger(t))
		defer p.Close()
		r := rpc.NewFar(p, "dc2", func() []string { return addrs }, logger(t))
		for range 2 { // all are connected
			if got, err := ask(t.Context(), r, 0); got != "one" || err != nil {
				t.Fatalf("at first: %s, %v", got, err)
			}
			time.Sleep(time.Second)
		}
		n.Partition(hosts...)
		for _, most := range []time.Duration{5 * time.Second, time.Second} {
			began := time.Now()
			if _, err := ask(t.Context(), r, 0); api.KindOf(err) != api.OutOfReach || !strings.Contains(err.Error(), "gives no sign of life") {
				t.Errorf("cut off: %v", err)
			}
			if took := time.Since(began); took > most {
				t.Errorf("told after %s, want %s at most", took, most)
			}
		}
	})
}

// However many want a server that does not answer, it is for one dial, and nobody waits
// longer than he is ready to.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		n.Partition("one")
		p := rpc.NewPool(n.Dialer("client"), logger(t))
		at := p.At("one:8300")
		began := time.Now()
		var calling sync.WaitGroup
		for range 50 {
			calling.Go(func() {
				if _, err := ask(t.Context(), at, 0); api.KindOf(err) != api.Unavailable {
					t.Errorf("read: %v, want it unavailable", err)
				}
			})
		}
		calling.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := ask(ctx, at, 0); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
				t.Errorf("a caller with a tenth of a second: %v after %s", err, time.Since(began))
			}
		})
		calling.Wait()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("fifty callers waited %s, want one dial's time", took)
		}
		_, err := at.Write(t.Context(), &endpoint.Write{Command: &command.Reap{}})
		if !errors.Is(err, api.ErrNotLeader) || api.KindOf(err) != api.Unavailable || !strings.Contains(err.Error(), "one:8300") {
			t.Errorf("write: %v; want one that may go elsewhere and names the server", err)
		}
		go func() { _, _ = ask(context.Background(), at, 0) }()
		synctest.Wait()
		began = time.Now()
		p.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close waited %s for a dial", took)
		}
		for _, at := range []endpoint.Endpoint{at, p.At("one:8300")} {
			if _, err := ask(t.Context(), at, 0); err == nil {
				t.Error("a call through a closed pool went out")
			}
		}
	})
}

// counting tells how many connections were dialled and are open.
type counting struct {
	dial         rpc.Dial
	dialled, now atomic.Int32
}

func (c *counting) Dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := c.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c.dialled.Add(1)
	c.now.Add(1)
	return &counted{Conn: conn, c: c}, nil
}

type counted struct {
	net.Conn
	c    *counting
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.c.now.Add(-1) })
	return c.Conn.Close()
}

// A connection that nobody uses is closed; the next call has a new one.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		stop := on(t, n, "one:8300", named("one", nil))
		c := &counting{dial: n.Dialer("client")}
		p := rpc.NewPool(c.Dial, logger(t))
		at := p.At("one:8300")
		for range 10 { // what is used once a while stays
			if _, err := ask(t.Context(), at, 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
		}
		if c.dialled.Load() != 1 || c.now.Load() != 1 {
			t.Errorf("in use: %d dialled, %d open, want one", c.dialled.Load(), c.now.Load())
		}
		time.Sleep(15 * time.Minute)
		if c.now.Load() != 0 {
			t.Errorf("idle: %d open, want none", c.now.Load())
		}
		if name, err := ask(t.Context(), at, 0); name != "one" || err != nil {
			t.Errorf("after it was idle: %q, %v", name, err)
		}
		p.Close()
		stop()
	})
}

// slow is a line that takes a second for every read.
type slow struct{ net.Conn }

func (s slow) Read(b []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Conn.Read(b)
}

// What takes longer than the silence allowed arrives all the same, while bytes move.
func TestSlowLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		big := strings.Repeat("x", 8<<20)
		stop := on(t, n, "one:8300", named(big, nil))
		dial := n.Dialer("client")
		p := rpc.NewPool(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := dial(ctx, addr)
			return slow{c}, err
		}, logger(t))
		began := time.Now()
		got, err := ask(t.Context(), p.At("one:8300"), 0)
		if err != nil || got != big {
			t.Errorf("read: %d bytes, %v", len(got), err)
		}
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("took %s: the line was not slow enough to prove anything", took)
		}
		p.Close()
		stop()
	})
}

// A connection that says nothing, or asks for what is not spoken here, is closed.
func TestOddConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		l, err := n.Listen("one:8300")
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer // written by the server only, read after it ended
		s := rpc.New(rpc.Config{Listener: l, Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx, named("one", nil)) })
		for name, first := range map[string][]byte{
			"silent": nil, "TLS": {3}, "streams": {4}, "unknown": {99}, "garbage": append([]byte{2}, bytes.Repeat([]byte{0xff}, 64)...),
		} {
			c, err := n.Dialer("client")(ctx, "one:8300")
			if err != nil {
				t.Fatal(err)
			}
			c.Write(first)
			c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v, want it closed", name, err)
			}
			c.Close()
		}
		cancel()
		running.Wait()
		for _, want := range []string{"this server has no certificate", "of no kind that agents make", "malformed frame"} {
			if n := strings.Count(log.String(), want); n != 1 {
				t.Errorf("the log tells %d times of %q:\n%s", n, want, &log)
			}
		}
	})
}

// Calls beyond the bound are refused as busy; the others go on.
func TestTooManyCalls(t *testing.T) {
	t.Parallel()
	const bound, over = 8192, 5
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		stop := on(t, n, "one:8300", named("one", make(chan struct{}, bound)))
		p := rpc.NewPool(n.Dialer("client"), logger(t))
		ctx, cancel := context.WithCancel(t.Context())
		var busy, ended atomic.Int32
		var calling sync.WaitGroup
		for range bound + over {
			calling.Go(func() {
				switch _, err := ask(ctx, p.At("one:8300"), 1); {
				case api.KindOf(err) == api.Busy:
					busy.Add(1)
				case errors.Is(err, context.Canceled):
					ended.Add(1)
				default:
					t.Errorf("call: %v", err)
				}
			})
		}
		synctest.Wait()
		if busy.Load() != over {
			t.Errorf("%d calls were refused, want %d", busy.Load(), over)
		}
		cancel()
		calling.Wait()
		if ended.Load() != bound {
			t.Errorf("%d calls ended with their ctx, want %d", ended.Load(), bound)
		}
		if name, err := ask(t.Context(), p.At("one:8300"), 0); name != "one" || err != nil {
			t.Errorf("afterwards: %q, %v", name, err)
		}
		p.Close()
		stop()
	})
}
