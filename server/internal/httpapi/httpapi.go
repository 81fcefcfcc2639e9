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
	"log/slog"
	"net"
	"net/http"
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
	// DefaultQueryTime and MaxQueryTime bound waits for what this agent has itself. Those
	// for the catalog are the endpoint's to bound. Defaults 300s and 600s.
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
	cfg    Config
	log    *slog.Logger
	router *router
	fixed  http.Header // what every answer carries
	gate   gate
	packer packer
}

// New makes the API; it starts nothing.
func New(cfg Config) *Server {
	if cfg.KVMaxValueSize == 0 {
		cfg.KVMaxValueSize = 512 << 10
	}
	if cfg.DefaultQueryTime == 0 {
		cfg.DefaultQueryTime = 300 * time.Second
	}
	if cfg.MaxQueryTime == 0 {
		cfg.MaxQueryTime = 600 * time.Second
	}
	if cfg.UIPath == "" {
		cfg.UIPath = "/ui/"
	}
	if cfg.MaxConnsPerClient == nil {
		cfg.MaxConnsPerClient = func() int { return 0 }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Log.With("room", "httpapi"), fixed: http.Header{}, gate: gate{open: map[string]int{}}}
	s.fixed.Set("Vary", "Accept-Encoding")
	s.fixed.Set("X-Consul-Default-ACL-Policy", "allow")
	for k, v := range cfg.Headers {
		s.fixed.Set(k, v)
	}
	s.router = s.routes()
	return s
}

// Handler is the API without listeners.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }
