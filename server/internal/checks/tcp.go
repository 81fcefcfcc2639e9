package checks

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"github.com/rollcall/rollcall/internal/api"
)

// tcpProbe connects, and is content with that.
func tcpProbe(def *api.CheckDefinition) probe {
	dial := new(net.Dialer).DialContext
	if def.TCPUseTLS {
		dial = (&tls.Dialer{Config: tlsConfig(def)}).DialContext
	}
	return func(ctx context.Context) (string, string) {
		c, err := dial(ctx, "tcp", def.TCP)
		if err != nil {
			return api.Critical, err.Error()
		}
		c.Close()
		return api.Passing, fmt.Sprintf("TCP connect %s: Success", def.TCP)
	}
}

func tlsConfig(def *api.CheckDefinition) *tls.Config {
	return &tls.Config{InsecureSkipVerify: def.TLSSkipVerify, ServerName: def.TLSServerName}
}
