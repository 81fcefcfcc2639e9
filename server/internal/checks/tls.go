package checks

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/rollcall/rollcall/internal/api"
)

// tlsConfig is what one look uses over TLS.
func (r *Runner) tlsConfig(def *api.CheckDefinition) *tls.Config {
	c := r.cfg.TLS()
	if c == nil {
		c = &tls.Config{}
	}
	c = c.Clone()
	c.InsecureSkipVerify = def.TLSSkipVerify
	c.ServerName = def.TLSServerName
	return c
}

// dial connects to addr, over TLS where that is set.
func dial(ctx context.Context, addr string, secure *tls.Config) (net.Conn, error) {
	if secure != nil {
		return (&tls.Dialer{Config: secure}).DialContext(ctx, "tcp", addr)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}
