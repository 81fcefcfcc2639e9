package checks

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// grpcProbe asks a gRPC server's health service (grpc.health.v1.Health/Check): SERVING
// passes, all else is critical. Target is host:port, or host:port/service. The call is a
// single small message each way, so it is written out here over HTTP/2 instead of
// linking a gRPC library.
func (r *Runner) grpcProbe(def *api.CheckDefinition) probe {
	addr, service, _ := strings.Cut(def.GRPC, "/")
	scheme := "http"
	if def.GRPCUseTLS {
		scheme = "https"
	}
	target := &url.URL{Scheme: scheme, Host: addr, Path: "/grpc.health.v1.Health/Check"}
	return func(ctx context.Context) (string, string) {
		serving, err := healthCheck(ctx, target, service, r.tlsConfig(def))
		if err != nil {
			return api.Critical, fmt.Sprintf("gRPC check %s: %v", def.GRPC, err)
		}
		if serving != servingStatus {
			return api.Critical, fmt.Sprintf("gRPC check %s: the service is %s", def.GRPC, servingName(serving))
		}
		return api.Passing, fmt.Sprintf("gRPC check %s: success", def.GRPC)
	}
}

// servingStatus is SERVING in HealthCheckResponse.ServingStatus.
const servingStatus = 1

func servingName(n uint64) string {
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if n < uint64(len(names)) {
		return names[n]
	}
	return fmt.Sprintf("in state %d", n)
}

// healthCheck makes the call, over a connection of its own, and gives the answer's status.
func healthCheck(ctx context.Context, target *url.URL, service string, secure *tls.Config) (uint64, error) {
	transport := &http.Transport{TLSClientConfig: secure, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP2(true)
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(frame(healthRequest(service))))
	if err != nil {
		return 0, err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"Consul Health Check"}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("answered %s: not a gRPC server", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return 0, err
	}
	// the outcome is a trailer, or a header where there is no message
	code, text := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if code == "" {
		code, text = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if code != "0" {
		if plain, err := url.PathUnescape(text); err == nil { // gRPC escapes it so
			text = plain
		}
		return 0, fmt.Errorf("%s (%.512s)", codeName(code), text)
	}
	return healthResponse(body)
}

// codeName names the status codes that a health check meets.
func codeName(code string) string {
	name := map[string]string{
		"": "no gRPC status in the answer", "1": "cancelled", "4": "deadline exceeded", "5": "unknown service", "7": "permission denied",
		"12": "the server has no health service", "14": "unavailable", "16": "unauthenticated",
	}[code]
	if name == "" {
		name = "gRPC status " + code
	}
	return name
}

// frame puts a message into gRPC's frame: not compressed, and its length.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// healthRequest encodes HealthCheckRequest: the service is field 1, a string.
func healthRequest(service string) []byte {
	if service == "" {
		return nil
	}
	b := binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
	return append(b, service...)
}

// healthResponse decodes a framed HealthCheckResponse: the status is field 1, a varint,
// left out where it is 0. Fields we do not know are skipped.
func healthResponse(b []byte) (status uint64, err error) {
	bad := fmt.Errorf("the answer is no health check's: % x", b[:min(len(b), 32)])
	if len(b) < 5 || b[0] != 0 || uint64(len(b)-5) != uint64(binary.BigEndian.Uint32(b[1:])) {
		return 0, bad
	}
	for b = b[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, bad
		}
		b = b[n:]
		var size uint64
		switch tag & 7 {
		case 0: // varint
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, bad
			}
			if tag>>3 == 1 {
				status = v
			}
			size = uint64(n)
		case 1:
			size = 8
		case 2: // length, then that many bytes
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, bad
			}
			b, size = b[n:], v
		case 5:
			size = 4
		default:
			return 0, bad
		}
		if size > uint64(len(b)) {
			return 0, bad
		}
		b = b[size:]
	}
	return status, nil
}
