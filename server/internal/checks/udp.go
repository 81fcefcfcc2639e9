package checks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// udpProbe sends an empty datagram. An answer passes, and so does silence, for few
// protocols answer that: what shows is a port where nobody listens, when the host says
// so.
func udpProbe(def *api.CheckDefinition) probe {
	return func(ctx context.Context) (string, string) {
		c, err := new(net.Dialer).DialContext(ctx, "udp", def.UDP)
		if err != nil {
			return api.Critical, err.Error()
		}
		defer c.Close()
		// a stopped check does not wait for silence
		defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })()
		if _, err := c.Write(nil); err != nil {
			return api.Critical, err.Error()
		}
		if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return api.Critical, err.Error()
		}
		return api.Passing, fmt.Sprintf("UDP connect %s: Success", def.UDP)
	}
}
