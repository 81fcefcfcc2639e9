package apply

import (
	"context"
	"net"
)

// unix dials a socket, whatever address is asked for.
func unix(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}
