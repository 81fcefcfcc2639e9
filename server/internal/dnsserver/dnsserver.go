// Package dnsserver answers DNS from the catalog: <service>.service.consul and its
// sisters, over UDP and TCP. It reads through an endpoint, stale unless told otherwise,
// and what it keeps is checked at each use, so any number of agents may answer alike.
//
// It promises an answer to every well-formed question within a few seconds, never longer
// than the client takes, TC set whenever records were left out for want of room, and no
// panic on any packet. It opens no port: package agent hands the sockets in.
//
// A packet's way: parse reads the request; quick answers it from a packed answer that
// still holds; else work looks up what there is to say (answer), and packs it, or has
// the library do so where its shape is uncommon.
package dnsserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/logging"
)

// Config is what the server needs. All but Endpoint may be changed by Reload.
type Config struct {
	Endpoint   endpoint.Endpoint
	Domain     string        // default "consul."
	AltDomain  string        // a second domain, "" for none
	Datacenter string        // where a name without a datacenter is looked up
	Node       string        // this agent's name; prepared queries may be near it
	Token      func() string // gives the token of reads at present; nil for none

	NodeTTL time.Duration
	// ServiceTTL is by service name; "web*" covers every name that begins with web, the
	// longest prefix wins, and an exact name wins over all.
	ServiceTTL map[string]time.Duration
	// OnlyPassing leaves instances with a warning out, too.
	OnlyPassing bool
	// UDPAnswerLimit is how many records go into a UDP reply to a client that did not say
	// how much it can take (EDNS); 0 = as many as 512 bytes hold, or 3 if Strict.
	UDPAnswerLimit int
	// ARecordLimit caps the addresses of a service by any transport; 0 = no cap.
	ARecordLimit int
	// Strict cuts answers as Consul does: by number, uncompressed sizes, Additional records
	// together with the answers they belong to; TC only with EnableTruncate; and order is
	// even, whatever the weights.
	Strict         bool
	EnableTruncate bool
	NoCompression  bool
	// NodeMetaTXT adds the meta of nodes to Additional.
	NodeMetaTXT bool
	SOA         SOA
	// Consistent reads from the leader (allow_stale = false).
	Consistent bool
	// MaxStale sends a read to the leader when the server asked lags more; 0 = never.
	MaxStale time.Duration
	// InPlace says that Endpoint answers stale reads from memory, without waiting: that of
	// a server does.
	InPlace bool
	// UseCache has an endpoint that is not in place asked once, and then follows what it
	// said; with CacheMaxAge above 0 only until servers have been away for that long.
	UseCache    bool
	CacheMaxAge time.Duration

	// Recursors are asked for names outside the domains, in order ("ip" or "ip:port").
	// Without any, such names are refused.
	Recursors []string
	// RandomRecursors asks them in a random order.
	RandomRecursors bool
	// RecursorTimeout bounds the wait for each. Default 2s.
	RecursorTimeout time.Duration

	Log *slog.Logger
}

// SOA are the numbers of the zone's SOA record, in seconds.
type SOA struct{ Refresh, Retry, Expire, MinTTL uint32 }

// Server answers DNS questions.
type Server struct {
	cfg      atomic.Pointer[Config]
	cache    cache
	follower follower
	warnings logging.Sparing
	counts   struct{ questions, atHand, recursed, failed atomic.Uint64 }
}

const (
	// readBound is how long a question waits for the catalog. The client's resolver, which
	// waits for 5 s or so, shall hear SERVFAIL before it gives us up.
	readBound = 3 * time.Second
	// mostWork is how many questions may be in work at once over UDP; what comes beyond is
	// answered SERVFAIL, and answers at hand go on being given.
	mostWork = 4096
	// stopBound is how long questions under way may take once Serve is to end.
	stopBound = 2 * time.Second
)

// Counts says how many questions there were since the beginning: all, those whose answer
// was at hand, those handed to the recursors, and those that nobody could answer.
type Counts struct{ Questions, AtHand, Recursed, Failed uint64 }

// Counts gives the present counts.
func (s *Server) Counts() Counts {
	c := &s.counts
	return Counts{c.questions.Load(), c.atHand.Load(), c.recursed.Load(), c.failed.Load()}
}

// New makes a server; it starts nothing.
func New(cfg Config) *Server {
	s := &Server{}
	s.Reload(cfg)
	return s
}

// Reload answers by cfg from now on. Endpoint stays what New was given, if cfg has none.
func (s *Server) Reload(cfg Config) {
	if old := s.cfg.Load(); old != nil && cfg.Endpoint == nil {
		cfg.Endpoint = old.Endpoint
	}
	if cfg.Domain == "" {
		cfg.Domain = "consul."
	}
	cfg.Domain = dns.CanonicalName(cfg.Domain)
	if cfg.AltDomain != "" {
		cfg.AltDomain = dns.CanonicalName(cfg.AltDomain)
	}
	ttls := make(map[string]time.Duration, len(cfg.ServiceTTL))
	for name, ttl := range cfg.ServiceTTL {
		ttls[strings.ToLower(name)] = ttl // names are looked up in lower case
	}
	cfg.ServiceTTL = ttls
	if cfg.RecursorTimeout <= 0 {
		cfg.RecursorTimeout = 2 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Log = cfg.Log.With("room", "dnsserver")
	cfg.Recursors = withPort(cfg.Recursors)
	s.cfg.Store(&cfg)
}

// Serve answers on every socket until ctx ends, then closes them all; questions under
// way get stopBound to finish. A socket that fails ends Serve with an error. Several UDP
// sockets of one address share its load.
func (s *Server) Serve(ctx context.Context, udp []net.PacketConn, tcp []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answering, abort := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx by stopBound
	defer abort()
	following, forget := context.WithCancel(context.WithoutCancel(ctx))
	wait := s.follower.begin(following)
	defer func() { forget(); wait() }()
	var loops []func() error
	for _, c := range udp {
		loops = append(loops, func() error { return s.serveUDP(ctx, answering, c) })
	}
	for _, l := range tcp {
		loops = append(loops, func() error { return s.serveTCP(ctx, answering, l) })
	}
	errs := make([]error, len(loops))
	var running sync.WaitGroup
	for i, loop := range loops {
		running.Go(func() {
			errs[i] = loop()
			cancel() // one that fails ends all
		})
	}
	<-ctx.Done()
	timer := time.AfterFunc(stopBound, abort)
	defer timer.Stop()
	running.Wait()
	return errors.Join(errs...)
}
