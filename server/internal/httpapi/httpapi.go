// Package httpapi is Consul's HTTP API: it turns requests into reads and writes of an
// endpoint and into calls of the agent, and their outcomes into the bodies, headers and
// statuses that clients of Consul expect. All routes stand in one table (routes.go); a
// handler gives a reply or an error, and one envelope does the rest: verbs, tokens,
// query options, limits, errors, compression.
//
// It decides nothing about the catalog and opens no port.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// Agent is what the API asks of the agent it belongs to. Methods may be called
// concurrently; an *api.Error says what a client should read.
type Agent interface {
	Self(ctx context.Context) (*api.Self, error)
	// Members lists the gossip pool, with wan the servers of all datacenters.
	Members(wan bool) ([]api.Member, error)
	Join(ctx context.Context, addr string, wan bool) error
	// Leave begins a graceful leave; the agent ends after it has answered.
	Leave(ctx context.Context) error
	ForceLeave(node string, prune, wan bool) error
	Reload(ctx context.Context) error
	// Services and Checks are this agent's own, by id.
	Services() map[string]*api.Service
	Checks() map[string]*api.Check
	RegisterService(ctx context.Context, def *api.ServiceDefinition, replaceChecks bool) error
	DeregisterService(ctx context.Context, id string) error
	RegisterCheck(ctx context.Context, def *api.CheckDefinition) error
	DeregisterCheck(ctx context.Context, id string) error
	UpdateTTL(ctx context.Context, id, status, output string) error
	ServiceMaintenance(ctx context.Context, id string, on bool, reason string) error
	NodeMaintenance(ctx context.Context, on bool, reason string) error
}

// Config is what New needs.
type Config struct {
	Endpoint         endpoint.Endpoint
	Agent            Agent
	Datacenter, Node string
	// DefaultQueryTime and MaxQueryTime are the endpoint's to apply; the door only lets
	// connections live that long.
	DefaultQueryTime, MaxQueryTime time.Duration
	Pretty                         bool         // indent always
	UI                             http.Handler // nil: off
	UIPath                         string       // "/ui/"
	Headers                        map[string]string
	BlockEndpoints                 []string     // path prefixes that answer 403
	AllowWriteFrom                 []*net.IPNet // empty: anywhere
	// MaxConnsPerClient is the limit of connections an address may have; 0 is none.
	MaxConnsPerClient func() int
	// KVMaxValueSize is in bytes. Default 512 KiB.
	KVMaxValueSize int
	Debug          bool // serve pprof
	Log            *slog.Logger
}

// Server serves the API on any number of listeners.
type Server struct {
	cfg  Config
	log  *slog.Logger
	mux  *http.ServeMux
	gate gate
}

// New makes the API; it starts nothing.
func New(cfg Config) *Server {
	if cfg.KVMaxValueSize == 0 {
		cfg.KVMaxValueSize = 512 << 10
	}
	if cfg.UIPath == "" {
		cfg.UIPath = "/ui/"
	}
	if cfg.MaxConnsPerClient == nil {
		cfg.MaxConnsPerClient = func() int { return 0 }
	}
	s := &Server{cfg: cfg, log: cfg.Log.With("room", "httpapi"), gate: gate{open: map[string]int{}}}
	s.mux = s.routes()
	return s
}

// Handler is the API without listeners.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// shutdownTime is how long requests under way may take when the server ends. Blocking
// reads end with their context.
const shutdownTime = 3 * time.Second

// Serve answers on l until ctx ends. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ConnState:         s.gate.state,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1) // Serve's end is not waited for after a shutdown
	go func() { failed <- srv.Serve(&limited{Listener: l, server: s}) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end()
	bounded, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := srv.Shutdown(bounded); err != nil {
		return srv.Close()
	}
	return nil
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

func refuse(c net.Conn) {
	defer c.Close()
	const text = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\nRetry-After: 1\r\n\r\n%s", len(text), text)
}

// status turns an error into a status: the one place that decides it.
func status(err error) int {
	var t *http.MaxBytesError
	if errors.As(err, &t) {
		return http.StatusRequestEntityTooLarge
	}
	switch api.KindOf(err) {
	case api.Invalid:
		return http.StatusBadRequest
	case api.NotFound:
		return http.StatusNotFound
	case api.Forbidden:
		return http.StatusForbidden
	case api.Unauthorized:
		return http.StatusUnauthorized
	case api.Conflict:
		return http.StatusConflict
	case api.TooLarge:
		return http.StatusRequestEntityTooLarge
	case api.Busy:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}

// printable reports whether a path has nothing that could deceive a log or a header.
func printable(path string) bool {
	return !strings.ContainsFunc(path, func(r rune) bool { return r < 0x20 || r == 0x7f })
}
