// Package dnsserver answers DNS from the catalog: <service>.service.consul and its
// sisters, over UDP and TCP. It reads through an endpoint, stale unless told otherwise,
// and holds no state, so any number of agents may answer alike.
//
// It promises an answer to every well-formed question within a few seconds, TC set
// whenever answers were left out for want of room, and no panic on any packet. It opens
// no port: package agent hands the sockets in.
package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// Config is what the server needs. All but Endpoint may be changed by Reload.
type Config struct {
	Endpoint   endpoint.Endpoint
	Domain     string // default "consul."
	AltDomain  string // a second domain, "" for none
	Datacenter string // where a name without a datacenter is looked up
	Node       string // this agent's name; stands in the log
	Token      string // for reads

	NodeTTL time.Duration
	// ServiceTTL is by service name; "web*" covers every name that begins with web, the
	// longest prefix wins, and an exact name wins over all.
	ServiceTTL map[string]time.Duration
	// OnlyPassing leaves instances with a warning out, too.
	OnlyPassing bool
	// UDPAnswerLimit is how many answers go into a UDP reply to a client that did not
	// say how much it can take (EDNS). Default 3, at most 8.
	UDPAnswerLimit int
	// ARecordLimit caps the addresses of a service by any transport; 0 = no cap.
	ARecordLimit int
	// EnableTruncate is accepted from configurations written for Consul. TC is always
	// set when answers were left out, so it changes nothing.
	EnableTruncate bool
	NoCompression  bool
	// Consistent reads from the leader (allow_stale = false).
	Consistent bool
	// MaxStale sends a read to the leader when the server asked lags more; 0 = never.
	MaxStale time.Duration

	// Recursors are asked for names outside the domains, in order ("ip" or "ip:port").
	// Without any, such names are refused.
	Recursors []string
	// RecursorTimeout bounds the wait for each. Default 2s.
	RecursorTimeout time.Duration

	Log *slog.Logger
}

// Server answers DNS questions.
type Server struct {
	cfg atomic.Pointer[Config]
}

const (
	// queryBound ends a question nobody answers; resolvers give up about then.
	queryBound = 5 * time.Second
	// stopBound is how long questions under way may take once Serve is to end.
	stopBound = 2 * time.Second
)

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
	if cfg.UDPAnswerLimit <= 0 {
		cfg.UDPAnswerLimit = 3
	}
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
// way get stopBound to finish. A socket that fails ends Serve with an error.
func (s *Server) Serve(ctx context.Context, udp []net.PacketConn, tcp []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answering, abort := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx by stopBound
	defer abort()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { s.handle(answering, w, r) })

	var servers []*dns.Server
	for _, c := range udp {
		servers = append(servers, &dns.Server{PacketConn: c, Handler: handler, UDPSize: dns.DefaultMsgSize})
	}
	for _, l := range tcp {
		// A connection may ask without end: a resolver that pipelines must lose nothing.
		servers = append(servers, &dns.Server{Listener: l, Handler: handler, MaxTCPQueries: -1})
	}
	ends := make(chan error, len(servers)) // room for all: none may hang on another's fault
	for _, d := range servers {
		go func() {
			err := serveOne(ctx, d)
			cancel() // one that fails ends all
			ends <- err
		}()
	}
	<-ctx.Done()
	timer := time.AfterFunc(stopBound, abort)
	defer timer.Stop()
	var errs []error
	for range servers {
		errs = append(errs, <-ends)
	}
	return errors.Join(errs...)
}

// serveOne runs one socket until ctx ends or the socket fails.
func serveOne(ctx context.Context, d *dns.Server) error {
	started := make(chan struct{})
	d.NotifyStartedFunc = func() { close(started) }
	done := make(chan error, 1)
	go func() { done <- d.ActivateAndServe() }()
	select {
	case err := <-done:
		return fmt.Errorf("serve DNS: %w", err)
	case <-started:
	}
	select {
	case err := <-done:
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("serve DNS: %w", err)
		}
		return nil
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stopBound)
	defer cancel()
	err := d.ShutdownContext(bound)
	<-done // the socket is closed, so this comes at once
	if err != nil {
		return fmt.Errorf("stop DNS: %w", err)
	}
	return nil
}

// handle answers one packet.
func (s *Server) handle(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) {
	ctx, cancel := context.WithTimeout(ctx, queryBound)
	defer cancel()
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	// The place for a cache of packed answers: between here and Pack, by question (its
	// case included), size and transport, while the index of what was read stands.
	m := s.reply(ctx, r, udp)
	wire, err := m.Pack()
	if err != nil {
		s.cfg.Load().Log.Warn("answer does not pack", "question", question(r), "err", err)
		wire, err = failure(r, dns.RcodeServerFailure).Pack()
		if err != nil {
			return // not even the question packs: there is nobody to tell
		}
	}
	if _, err := w.Write(wire); err != nil {
		s.cfg.Load().Log.Debug("answer not sent", "to", w.RemoteAddr().String(), "err", err)
	}
}

func question(r *dns.Msg) string {
	if len(r.Question) == 0 {
		return ""
	}
	return r.Question[0].String()
}

// failure is a reply of a code and nothing else.
func failure(r *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(r, rcode)
	return m
}

// query fills in what every read of the catalog has in common.
func (c *Config) query(kind endpoint.Kind, name, dc string) *endpoint.Query {
	q := &endpoint.Query{Kind: kind, Name: name}
	q.Datacenter, q.Token, q.MaxStale = dc, c.Token, c.MaxStale
	q.Consistency = api.Stale
	if c.Consistent {
		q.Consistency, q.MaxStale = api.Default, 0
	}
	return q
}
