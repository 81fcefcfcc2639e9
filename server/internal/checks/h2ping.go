package checks

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/rollcall/rollcall/internal/api"
)

// h2pingProbe opens an HTTP/2 connection and pings over it. A ping is one frame each way,
// and net/http sends none on demand, so it is written out here.
func (r *Runner) h2pingProbe(def *api.CheckDefinition) probe {
	return func(ctx context.Context) (string, string) {
		var secure *tls.Config
		if def.H2PingUseTLS == nil || *def.H2PingUseTLS {
			secure = r.tlsConfig(def)
			secure.NextProtos = []string{"h2"}
		}
		c, err := dial(ctx, def.H2PING, secure)
		if err != nil {
			return api.Critical, err.Error()
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })() // reading does not know the context
		if err := pingHTTP2(c); err != nil {
			if timedOut(ctx) {
				err = fmt.Errorf("no answer within %s", timeout(def))
			}
			return api.Critical, fmt.Sprintf("HTTP2 ping %s: %v", def.H2PING, err)
		}
		return api.Passing, "HTTP2 ping was successful"
	}
}

// Frames of HTTP/2 (RFC 9113, section 6) that matter to a ping.
const (
	http2Preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeader   = 9
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7
	flagAck       = 1
	maxFrame      = 16 << 10 // what a peer may send to one that has not asked for more
)

// errNotHTTP2 is told of a peer that answers in something else.
var errNotHTTP2 = errors.New("the answer is not HTTP/2")

// http2Frame is a frame on stream 0.
func http2Frame(kind, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags, 0, 0, 0, 0)
	return append(b, payload...)
}

// pingHTTP2 greets, pings, and reads until the answer to its ping.
func pingHTTP2(c net.Conn) error {
	if t, ok := c.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol != "h2" {
		return fmt.Errorf("the server does not offer h2 in its TLS handshake")
	}
	payload := []byte("rollcall")
	hello := append([]byte(http2Preface), http2Frame(frameSettings, 0, nil)...)
	if _, err := c.Write(append(hello, http2Frame(framePing, 0, payload)...)); err != nil {
		return err
	}
	buf := make([]byte, maxFrame)
	for first := true; ; first = false {
		if _, err := io.ReadFull(c, buf[:frameHeader]); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		size, kind, flags := int(binary.BigEndian.Uint32(buf)>>8), buf[3], buf[4]
		if size > maxFrame || first && kind != frameSettings {
			return errNotHTTP2
		}
		if _, err := io.ReadFull(c, buf[:size]); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		switch {
		case kind == framePing && flags&flagAck != 0 && string(buf[:size]) == string(payload):
			return nil
		case kind == frameSettings && flags&flagAck == 0:
			if _, err := c.Write(http2Frame(frameSettings, flagAck, nil)); err != nil {
				return err
			}
		case kind == frameGoAway:
			return errors.New("the server closes the connection (GOAWAY)")
		}
	}
}
