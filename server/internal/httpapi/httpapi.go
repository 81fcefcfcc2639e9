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
	"sync"
	"sync/atomic"
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
	// Leave is a graceful leave; the agent ends after it has been answered.
	Leave(ctx context.Context) error
	ForceLeave(node string, prune, wan bool) error
	Reload(ctx context.Context) error
	// Services and Checks are this agent's own, by id.
	Services() map[string]*api.Service
	Checks() map[string]*api.Check
	// Service and Check give one of them, nil where there is none.
	Service(id string) *api.Service
	Check(id string) *api.Check
	// ServiceChecks gives the checks that bear on a service, and whether there is one.
	ServiceChecks(id string) (all []*api.Check, known bool)
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
	Endpoint  endpoint.Endpoint
	Snapshots endpoint.Snapshots
	Cached    *endpoint.AgentCache // nil: ?cached is as nothing
	Agent     Agent
	Events    Events
	Operator  Operator
	Insight   Insight
	// TranslateWAN tells clients that addresses in other datacenters are those for who is afar.
	TranslateWAN     bool
	Datacenter, Node string
	NoCoordinates    bool // refuse to tell coordinates
	// DefaultQueryTime and MaxQueryTime bound waits for what this agent has itself. Those
	// for the catalog are the endpoint's to bound. Defaults 300s and 600s.
	DefaultQueryTime, MaxQueryTime time.Duration
	Pretty                         bool         // indent always
	UI                             http.Handler // nil: off
	UIPath                         string       // "/ui/"
	BlockEndpoints                 []string     // path prefixes that answer 403
	AllowWriteFrom                 []*net.IPNet // empty: anywhere
	// DiscoveryMaxStale lets any server answer reads of catalog and health that do not say
	// how fresh they must be, if it has heard of the leader that lately; 0 is off.
	DiscoveryMaxStale time.Duration
	// AllowUnprintable lets characters into paths that could deceive a log.
	AllowUnprintable bool
	// MaxHeaderBytes bounds a request's headers. Default 1 MiB.
	MaxHeaderBytes int
	// HandshakeTime is how long a client of HTTPS has for the handshake, and then for a
	// request's header. Default 5s.
	HandshakeTime time.Duration
	// Policy is what is in force until Apply.
	Policy Policy
	// KVMaxValueSize is in bytes. Default 512 KiB.
	KVMaxValueSize int
	// TrustDomain names the root certificate of /v1/connect/ca/roots; empty: there is none.
	TrustDomain string
	// TxnMaxReqLen bounds a transaction's body, in bytes, where it is above
	// KVMaxValueSize.
	TxnMaxReqLen int
	Debug        bool // serve pprof
	ACL          ACL
	Log          *slog.Logger
}

// Server serves the API on any number of listeners.
type Server struct {
	cfg    Config
	log    *slog.Logger
	router *router
	rules  atomic.Pointer[rules]
	gate   gate
	packer packer
	roots  func() (*caRoots, error) // made when first asked for, which most agents never are
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
	if cfg.HandshakeTime == 0 {
		cfg.HandshakeTime = 5 * time.Second
	}
	if cfg.UIPath == "" {
		cfg.UIPath = "/ui/"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Log.With("room", "httpapi"), gate: gate{open: map[string]int{}}}
	s.Apply(cfg.Policy)
	s.roots = sync.OnceValues(func() (*caRoots, error) { return newRoots(cfg.TrustDomain, time.Now()) })
	s.router = s.routes()
	return s
}

// Handler is the API without listeners.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Inside is the API for the agent's own requests: what bounds or shuts out clients does
// not hold for them.
func (s *Server) Inside() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r.WithContext(context.WithValue(r.Context(), insideKey{}, true)))
	})
}

// insideKey marks the requests of the agent itself.
type insideKey struct{}
