package checks

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/rollcall/rollcall/internal/api"
)

// tcpProbe connects, and is content with that.
func (r *Runner) tcpProbe(def *api.CheckDefinition) probe {
	return func(ctx context.Context) (string, string) {
		var secure *tls.Config
		if def.TCPUseTLS {
			secure = r.tlsConfig(def)
		}
		c, err := dial(ctx, def.TCP, secure)
		if err != nil {
			return api.Critical, err.Error()
		}
		c.Close()
		return api.Passing, fmt.Sprintf("TCP connect %s: Success", def.TCP)
	}
}
