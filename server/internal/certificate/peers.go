package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// PeerConfig is what agents and servers show each other, and what they ask for.
type PeerConfig struct {
	Config
	// VerifyOutgoing makes calls with TLS, to servers that show a certificate of the
	// authorities; with VerifyHostname one for server.<datacenter>.<Domain>.
	VerifyOutgoing, VerifyHostname bool
	Domain                         string
	// Server is set on servers, which others call.
	Server bool
}

// Peers holds what was read last. Its methods may be called concurrently.
type Peers struct{ now atomic.Pointer[peers] }

type peers struct {
	cfg    PeerConfig
	server *tls.Config // nil without a certificate
	client *tls.Config // nil where calls are made without TLS
}

// OpenPeers reads the files.
func OpenPeers(cfg PeerConfig) (*Peers, error) {
	p := &Peers{}
	use, err := p.Prepare(cfg)
	if err != nil {
		return nil, err
	}
	use()
	return p, nil
}

// Prepare reads the files of cfg, and gives what makes them the ones that are used.
func (p *Peers) Prepare(cfg PeerConfig) (use func(), err error) {
	next := &peers{cfg: cfg}
	if cfg.Server && cfg.CertFile != "" {
		if next.server, err = read(cfg.Config); err != nil {
			return nil, err
		}
		next.server.NextProtos = nil
	}
	if cfg.Server && cfg.VerifyIncoming && next.server == nil {
		return nil, errors.New("verify_incoming needs a certificate to answer with: give cert_file and key_file")
	}
	if cfg.VerifyOutgoing {
		if next.client, err = Client(cfg.Config); err != nil {
			return nil, err
		}
		if next.client.RootCAs == nil {
			return nil, errors.New("verify_outgoing needs the authority to verify against: give ca_file or ca_path")
		}
	}
	return func() { p.now.Store(next) }, nil
}

// Incoming gives how to answer TLS, nil where this server cannot, and whether calls without
// it are refused.
func (p *Peers) Incoming() (answer *tls.Config, must bool) {
	now := p.now.Load()
	return now.server, now.cfg.VerifyIncoming
}

// Outgoing gives how to call a server of a datacenter, nil for without TLS.
func (p *Peers) Outgoing(dc string) *tls.Config {
	now := p.now.Load()
	if now.client == nil {
		return nil
	}
	c := now.client.Clone()
	c.ServerName = now.serverName(dc)
	if now.cfg.VerifyHostname {
		return c
	}
	c.InsecureSkipVerify = true // names mean nothing then; VerifyConnection looks at the rest
	c.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, c.RootCAs) }
	return c
}

// serverName is what a datacenter's servers are called in their certificates.
func (p *peers) serverName(dc string) string {
	return "server." + dc + "." + strings.TrimSuffix(p.cfg.Domain, ".")
}

// verifyChain verifies that a server's certificate is of the authorities, whatever its name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(o)
	return err
}

// MayVote says whether who has shown these certificates may take part in the log of dc:
// where servers are known by their names, a client's certificate does not do.
func (p *Peers) MayVote(s tls.ConnectionState, dc string) error {
	now := p.now.Load()
	if !now.cfg.VerifyIncoming || !now.cfg.VerifyHostname {
		return nil
	}
	name := now.serverName(dc)
	if len(s.PeerCertificates) > 0 && slices.Contains(s.PeerCertificates[0].DNSNames, name) {
		return nil
	}
	return fmt.Errorf("only servers take part in the log, and the certificate shown is not for %s", name)
}
