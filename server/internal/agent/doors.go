package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/server/internal/certificate"
	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/dnsserver"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/httpapi"
	"github.com/rollcall/rollcall/server/internal/ui"
	"github.com/rollcall/rollcall/server/internal/watchplan"
)

// doors are the listeners of this agent.
type doors struct {
	rpc         net.Listener // nil on clients
	http, https []net.Listener
	tls         *tls.Config // of https
	dnsUDP      []net.PacketConn
	dnsTCP      []net.Listener
}

func (a *Agent) listen() (*doors, error) {
	cfg, d := a.cfg(), &doors{}
	var err error
	if cfg.Server {
		if d.rpc, err = listenTCP("ports.server", "-server-port", a.addr.bind, cfg.Ports.Server); err != nil {
			return nil, err
		}
		a.onClose(ignoreClosed(d.rpc.Close))
	}
	if d.http, err = a.listenHTTP("http", a.addr.http, cfg.Ports.HTTP); err != nil {
		return nil, err
	}
	if cfg.Ports.HTTPS >= 0 || strings.Contains(cfg.Addresses.HTTPS, "unix://") {
		if a.certs, err = certificate.Open(httpsFiles(cfg)); err != nil {
			return nil, fmt.Errorf("tls.https: %w", err)
		}
		d.tls = a.certs.Server()
		if d.https, err = a.listenHTTP("https", a.addr.https, cfg.Ports.HTTPS); err != nil {
			return nil, err
		}
	}
	for _, ip := range a.addr.dns {
		if cfg.Ports.DNS < 0 || strings.HasPrefix(ip, "unix:") {
			continue
		}
		l, err := listenTCP("ports.dns", "-dns-port", ip, cfg.Ports.DNS)
		if err != nil {
			return nil, err
		}
		d.dnsTCP = append(d.dnsTCP, l)
		a.onClose(ignoreClosed(l.Close))
		socks, err := listenDNS(ip, cfg.Ports.DNS)
		for _, c := range socks {
			d.dnsUDP = append(d.dnsUDP, c)
			a.onClose(ignoreClosed(c.Close))
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// listenHTTP opens the listeners of HTTP or HTTPS: on IPs if the port is on, and on
// sockets.
func (a *Agent) listenHTTP(scheme string, addrs []string, port int) ([]net.Listener, error) {
	var out []net.Listener
	for _, addr := range addrs {
		var l net.Listener
		var err error
		path, socket := strings.CutPrefix(addr, "unix://")
		switch {
		case socket:
			l, err = listenUnix("addresses."+scheme, path, a.cfg().UnixSockets)
		case port < 0:
			continue
		default:
			l, err = listenTCP("ports."+scheme, "-"+scheme+"-port", addr, port)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, l)
		a.onClose(ignoreClosed(l.Close))
	}
	return out, nil
}

// ignoreClosed is for listeners that whoever serves them has closed before.
func ignoreClosed(f func() error) func() error {
	return func() error {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// httpsFiles are the certificate of HTTPS.
func httpsFiles(cfg *config.Config) certificate.Config {
	t := cfg.TLS.HTTPS
	return certificate.Config{
		CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile, CAPath: t.CAPath, MinVersion: t.MinVersion,
		CipherSuites: t.CipherSuites, VerifyIncoming: *t.VerifyIncoming,
	}
}

// peerFiles are the certificate of what goes between agents, and what is asked of others.
func peerFiles(cfg *config.Config) certificate.PeerConfig {
	t := cfg.TLS.InternalRPC
	return certificate.PeerConfig{
		Config: certificate.Config{
			CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile, CAPath: t.CAPath, MinVersion: t.MinVersion,
			CipherSuites: t.CipherSuites, VerifyIncoming: *t.VerifyIncoming,
		},
		VerifyOutgoing: *t.VerifyOutgoing, VerifyHostname: *t.VerifyHostname, Domain: cfg.Domain, Server: cfg.Server,
	}
}

// openDoors adds HTTP, DNS and the UI.
func (a *Agent) openDoors(group *daemon.Group, d *doors) {
	cfg := a.cfg()
	var page http.Handler
	path := "/ui/"
	if cfg.UIConfig.ContentPath != "" {
		path = "/" + strings.Trim(cfg.UIConfig.ContentPath, "/") + "/"
	}
	if cfg.UI {
		u := ui.New(a.uiConfig(path))
		group.Add("ui", u.Run)
		page = u
	}
	cached := endpoint.NewAgentCache(a.shown(), a.log)
	group.Add("cache", cached.Run)
	a.web = httpapi.New(httpapi.Config{
		Endpoint: a.shown(), TranslateWAN: cfg.TranslateWAN, Cached: cached, Snapshots: a.endpoint.(endpoint.Snapshots), Agent: door{a},
		Events: events{a}, Operator: operator{a}, Insight: insight{a}, Datacenter: cfg.Datacenter, Node: cfg.NodeName, NoCoordinates: cfg.NoCoordinates,
		DefaultQueryTime: cfg.DefaultQueryTime, MaxQueryTime: cfg.MaxQueryTime, Pretty: cfg.Dev,
		UI: page, UIPath: path, BlockEndpoints: cfg.HTTP.BlockEndpoints, AllowWriteFrom: networks(cfg.HTTP.AllowWriteHTTPFrom),
		DiscoveryMaxStale: cfg.DiscoveryMaxStale, AllowUnprintable: cfg.AllowUnprintable, MaxHeaderBytes: cfg.HTTP.MaxHeaderBytes, HandshakeTime: cfg.Limits.HTTPSHandshake,
		TrustDomain: cfg.TrustDomain(), KVMaxValueSize: cfg.Limits.KVMaxValueSize, TxnMaxReqLen: cfg.Limits.TxnMaxLen, Debug: cfg.EnableDebug,
		Policy: policy(cfg), ACL: a.httpACL(cfg), Log: a.log,
	})
	a.watches = watchplan.NewSet(inside{a.web.Inside()}, a.log.With("room", "watch"))
	a.watches.Replace(a.watchesOf(cfg))
	group.Add("watches", a.watches.Run)
	for _, l := range d.http {
		group.Add("http "+l.Addr().String(), func(ctx context.Context) error { return a.web.Serve(ctx, l) })
	}
	for _, l := range d.https {
		group.Add("https "+l.Addr().String(), func(ctx context.Context) error { return a.web.ServeTLS(ctx, l, d.tls) })
	}
	if len(d.dnsUDP) > 0 {
		names := dnsserver.New(a.dnsConfig(cfg))
		a.names = names
		group.Add("dns", func(ctx context.Context) error { return names.Serve(ctx, d.dnsUDP, d.dnsTCP) })
	}
}

// shown is the endpoint that clients are answered from.
func (a *Agent) shown() endpoint.Endpoint {
	if cfg := a.cfg(); cfg.TranslateWAN {
		return endpoint.Translated(a.endpoint, cfg.Datacenter)
	}
	return a.endpoint
}

// policy is what of the configuration HTTP takes over at a reload.
func policy(cfg *config.Config) httpapi.Policy {
	r := cfg.Limits.Requests
	return httpapi.Policy{
		Headers: cfg.HTTP.ResponseHeaders, MaxConnsPerClient: *cfg.Limits.MaxConnsPerClient,
		Requests: httpapi.RequestLimits{Enforce: r.Mode == "enforcing", Watch: r.Mode == "permissive", Read: r.ReadRate, Write: r.WriteRate},
	}
}

// networks reads networks that Validate has looked at.
func networks(list []string) []*net.IPNet {
	var out []*net.IPNet
	for _, n := range list {
		if _, ipnet, err := net.ParseCIDR(n); err == nil {
			out = append(out, ipnet)
		}
	}
	return out
}
