package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
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

// endingKey is where a request's context has the context that ends with the server.
type endingKey struct{}

// Serve answers on l until ctx ends, and closes l. Several may run at a time. Requests
// under way are finished first, within a bound.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, end := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), endingKey{}, ctx))
	defer end()
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		ConnState:         s.gate.state,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1) // Serve's end is not waited for after a shutdown
	go func() { failed <- srv.Serve(&limited{Listener: l, server: s}) }()
	select {
	case err := <-failed:
		srv.Close() // the connections that are there, too
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := srv.Shutdown(bounded); err != nil {
		s.log.Warn("requests cut off at the end", "addr", l.Addr().String(), "err", err)
		srv.Close()
	}
	return nil
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
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.server.gate.enter(c, l.server.cfg.MaxConnsPerClient()) {
			return c, err
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
