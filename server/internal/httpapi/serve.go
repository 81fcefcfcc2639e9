package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/fastpath"
)

// Bounds of what a slow or silent client can hold.
const (
	headerTime = 10 * time.Second // for a request's header
	bodyTime   = 30 * time.Second // for its body
	pieceTime  = time.Minute      // for each piece of an answer; waiting before it is free
	pieceSize  = 1 << 20
	idleTime   = 2 * time.Minute
	// shutdownTime is how long requests under way may take when the server ends. Those
	// that wait for a change end at once.
	shutdownTime = 3 * time.Second
)

// errEnding is what those who wait for a change are told when the server ends.
var errEnding = api.Errorf(api.Unavailable, "the agent is shutting down; ask again")

// endingKey is where a request's context has the context that ends with the server; nil
// where it ends with that by itself.
type endingKey struct{}

// Serve answers on l until ctx ends, and closes l. Several may run at a time. Requests
// under way are finished first, within a bound.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serveOn(ctx, l, &http.Server{ReadHeaderTimeout: headerTime})
}

// ServeTLS is Serve for HTTPS.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener, cfg *tls.Config) error {
	return s.serveOn(ctx, l, &http.Server{ReadHeaderTimeout: s.cfg.HandshakeTime, TLSConfig: cfg})
}

func (s *Server) serveOn(ctx context.Context, l net.Listener, srv *http.Server) error {
	base, end := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), endingKey{}, ctx))
	defer end()
	soon, now := context.WithCancelCause(context.WithValue(base, endingKey{}, nil))
	defer context.AfterFunc(ctx, func() { now(errEnding) })()
	srv.Handler = s.Handler()
	srv.Protocols = new(http.Protocols) // HTTP/2 in the clear too, for who begins with it
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	srv.IdleTimeout = idleTime
	srv.MaxHeaderBytes = s.cfg.MaxHeaderBytes
	srv.ConnState = s.gate.state
	srv.BaseContext = func(net.Listener) context.Context { return base }
	srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	failed := make(chan error, 1) // Serve's end is not waited for after a shutdown
	shutdown := srv.Shutdown
	if srv.TLSConfig != nil {
		go func() { failed <- srv.ServeTLS(&limited{l, s, srv.TLSConfig}, "", "") }()
	} else {
		fast := fastpath.Listen(&limited{l, s, nil}, fastpath.Config{
			Handler: srv.Handler, Takes: takes, Context: base, Waiting: soon, FirstTime: headerTime, IdleTime: idleTime,
			Closed: func(c net.Conn) { s.gate.state(c, http.StateClosed) },
		})
		go func() { failed <- srv.Serve(fast) }()
		shutdown = func(ctx context.Context) error {
			ended := make(chan error, 1)
			go func() { ended <- fast.Shutdown(ctx) }()
			return errors.Join(srv.Shutdown(ctx), <-ended)
		}
	}
	select {
	case err := <-failed:
		over, cancel := context.WithCancel(context.Background())
		cancel()
		shutdown(over) // the connections that are there, too
		srv.Close()
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := shutdown(bounded); err != nil {
		s.log.Warn("requests cut off at the end", "addr", l.Addr().String(), "err", err)
		srv.Close()
	}
	return nil
}

// hot are the routes that many clients ask often, and that do not stream.
var hot = []string{
	"/v1/kv/", "/v1/health/service/", "/v1/health/checks/", "/v1/health/state/", "/v1/health/node/",
	"/v1/catalog/service/", "/v1/catalog/services", "/v1/catalog/nodes", "/v1/catalog/node/", "/v1/catalog/register", "/v1/catalog/deregister",
	"/v1/agent/service/register", "/v1/agent/service/deregister/", "/v1/agent/check/", "/v1/agent/services", "/v1/agent/checks", "/v1/session/", "/v1/txn", "/v1/status/leader",
}

// takes reports whether a request is one for the fast path: on a hot route, and written
// plainly. It waits where a parameter may have it wait for a change or for another
// datacenter.
func takes(_, target string) (taken, waits bool) {
	path, query, _ := strings.Cut(target, "?")
	if !slices.ContainsFunc(hot, func(p string) bool { return strings.HasPrefix(path, p) }) || strings.Contains(query, "%") {
		return false, false
	}
	for _, word := range []string{"index", "dc", "datacenter", "cached"} {
		if query != "" && strings.Contains(query, word) {
			return true, true
		}
	}
	return true, false
}

// waiting gives a context for waiting for a change: it ends with the request, and with
// the server before it ends the others.
func waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	ending, ok := ctx.Value(endingKey{}).(context.Context)
	if !ok {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ending, func() { cancel(errEnding) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// gate counts the connections of each client address.
type gate struct {
	mu   sync.Mutex
	open map[string]int // guarded by mu
}

func (g *gate) enter(c net.Conn, limit int) bool {
	host := hostOf(c)
	if host == "" {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if limit > 0 && g.open[host] >= limit {
		return false
	}
	g.open[host]++
	return true
}

func (g *gate) state(c net.Conn, st http.ConnState) {
	if st != http.StateClosed && st != http.StateHijacked {
		return
	}
	host := hostOf(c)
	if host == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[host]--; g.open[host] <= 0 {
		delete(g.open, host)
	}
}

// hostOf is a connection's client address, "" for a unix socket.
func hostOf(c net.Conn) string {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	return a.IP.String()
}

// limited turns clients with too many connections away, with a word.
type limited struct {
	net.Listener
	server *Server
	tls    *tls.Config // nil for plain HTTP
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.server.gate.enter(c, l.server.rules.Load().MaxConnsPerClient) {
			return c, err
		}
		if l.tls != nil {
			c = tls.Server(c, l.tls)
		}
		go refuse(c)
	}
}

// refuse answers 429 and closes. It reads what the client has sent, or the close would
// take the answer away before the client has seen it.
func refuse(c net.Conn) {
	defer c.Close()
	const text = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\nRetry-After: 1\r\n\r\n%s", len(text), text)
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		c.Read(make([]byte, 4096))
	}
}
