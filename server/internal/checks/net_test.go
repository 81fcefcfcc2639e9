package checks

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall/rollcall/internal/api"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

// secured is a TLS server whose certificate can be borrowed.
func secured(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s
}

func TestUDP(t *testing.T) {
	t.Parallel()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := c.LocalAddr().String()
	def := &api.CheckDefinition{UDP: addr, Timeout: api.Duration(100 * time.Millisecond)}
	if status, output := look(t, udpProbe(def), def); status != api.Passing || output != "UDP connect "+addr+": Success" {
		t.Errorf("silent: %s %q", status, output)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for range 2 { // the first is the silent look's
			if _, from, err := c.ReadFrom(make([]byte, 10)); err == nil {
				c.WriteTo([]byte("here"), from)
			}
		}
	}()
	def.Timeout = api.Duration(time.Minute)
	if status, output := look(t, udpProbe(def), def); status != api.Passing {
		t.Errorf("answering: %s %q", status, output)
	}
	<-answered
	c.Close()
	if status, output := look(t, udpProbe(def), def); status != api.Critical || !strings.Contains(output, "refused") {
		t.Errorf("closed: %s %q", status, output)
	}
	def.UDP = "no port"
	if status, _ := look(t, udpProbe(def), def); status != api.Critical {
		t.Errorf("no address: %s", status)
	}
}

func TestTLSChecks(t *testing.T) {
	t.Parallel()
	s := secured(t)
	addr := s.Listener.Addr().String()
	known := runner(Config{TLS: func() *tls.Config { return s.Client().Transport.(*http.Transport).TLSClientConfig }})
	for name, c := range map[string]struct {
		r    *Runner
		def  api.CheckDefinition
		want string
	}{
		"unknown authority": {runner(Config{}), api.CheckDefinition{}, api.Critical},
		"not verified":      {runner(Config{}), api.CheckDefinition{TLSSkipVerify: true}, api.Passing},
		"the agent's own":   {known, api.CheckDefinition{}, api.Passing},
		"right name":        {known, api.CheckDefinition{TLSServerName: "example.com"}, api.Passing},
		"wrong name":        {known, api.CheckDefinition{TLSServerName: "other.test"}, api.Critical},
	} {
		tcp, web := c.def, c.def
		tcp.TCP, tcp.TCPUseTLS = addr, true
		if status, output := look(t, c.r.tcpProbe(&tcp), &tcp); status != c.want {
			t.Errorf("tcp, %s: %s %q, want %s", name, status, output, c.want)
		}
		web.HTTP = s.URL // answers 404, over a connection that stands
		status, output := look(t, c.r.httpProbe(&web), &web)
		if status != api.Critical || strings.Contains(output, "404") != (c.want == api.Passing) {
			t.Errorf("http, %s: %s %q", name, status, output)
		}
	}
}

func TestH2Ping(t *testing.T) {
	t.Parallel()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	plain := &http.Server{Handler: http.NotFoundHandler(), Protocols: protocols}
	l := listen(t)
	go plain.Serve(l)
	t.Cleanup(func() { plain.Close() })
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	only1 := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(only1.Close)
	silent := listen(t)
	no, yes := false, true
	r := runner(Config{})
	for name, c := range map[string]struct {
		def  api.CheckDefinition
		want string
	}{
		"plain":      {api.CheckDefinition{H2PING: l.Addr().String(), H2PingUseTLS: &no}, "passing HTTP2 ping was successful"},
		"TLS":        {api.CheckDefinition{H2PING: secure.Listener.Addr().String(), TLSSkipVerify: true}, "passing HTTP2 ping was successful"},
		"TLS, said":  {api.CheckDefinition{H2PING: secure.Listener.Addr().String(), TLSSkipVerify: true, H2PingUseTLS: &yes}, "passing"},
		"unverified": {api.CheckDefinition{H2PING: secure.Listener.Addr().String()}, "critical tls: failed to verify"},
		"HTTP/1 TLS": {api.CheckDefinition{H2PING: secured(t).Listener.Addr().String(), TLSSkipVerify: true}, "critical"},
		"HTTP/1":     {api.CheckDefinition{H2PING: only1.Listener.Addr().String(), H2PingUseTLS: &no}, "critical HTTP2 ping " + only1.Listener.Addr().String() + ": "},
		"closed":     {api.CheckDefinition{H2PING: closed(t), H2PingUseTLS: &no}, "critical dial tcp"},
		"silent":     {api.CheckDefinition{H2PING: silent.Addr().String(), H2PingUseTLS: &no, Timeout: api.Duration(50 * time.Millisecond)}, "critical HTTP2 ping " + silent.Addr().String() + ": no answer within 50ms"},
	} {
		status, output := look(t, r.h2pingProbe(&c.def), &c.def)
		if got := status + " " + output; !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q…", name, got, c.want)
		}
	}
}

// grpcServer is a real gRPC server with its health service, at will over TLS.
func grpcServer(t *testing.T, opts ...grpc.ServerOption) (addr string, state *health.Server) {
	t.Helper()
	s, h := grpc.NewServer(opts...), health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	l := listen(t)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String(), h
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	addr, h := grpcServer(t)
	h.SetServingStatus("good", healthpb.HealthCheckResponse_SERVING)
	h.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
	cert := secured(t).TLS.Certificates[0]
	secure, _ := grpcServer(t, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	none := grpc.NewServer()
	l := listen(t)
	go none.Serve(l)
	t.Cleanup(none.Stop)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	silent := listen(t)
	r := runner(Config{})
	for name, c := range map[string]struct {
		def  api.CheckDefinition
		want string
	}{
		"server":     {api.CheckDefinition{GRPC: addr}, "passing gRPC check " + addr + ": success"},
		"good":       {api.CheckDefinition{GRPC: addr + "/good"}, "passing"},
		"bad":        {api.CheckDefinition{GRPC: addr + "/bad"}, "critical gRPC check " + addr + "/bad: the service is NOT_SERVING"},
		"unknown":    {api.CheckDefinition{GRPC: addr + "/other"}, "critical gRPC check " + addr + "/other: unknown service"},
		"no health":  {api.CheckDefinition{GRPC: l.Addr().String()}, "critical gRPC check " + l.Addr().String() + ": the server has no health service"},
		"TLS":        {api.CheckDefinition{GRPC: secure, GRPCUseTLS: true, TLSSkipVerify: true}, "passing"},
		"unverified": {api.CheckDefinition{GRPC: secure, GRPCUseTLS: true}, "critical gRPC check " + secure + ": tls: failed to verify"},
		"no TLS":     {api.CheckDefinition{GRPC: secure}, "critical"},
		"HTTP/1":     {api.CheckDefinition{GRPC: web.Listener.Addr().String()}, "critical"},
		"closed":     {api.CheckDefinition{GRPC: closed(t)}, "critical"},
		"silent":     {api.CheckDefinition{GRPC: silent.Addr().String(), Timeout: api.Duration(50 * time.Millisecond)}, "critical"},
	} {
		status, output := look(t, r.grpcProbe(&c.def), &c.def)
		if got := status + " " + output; !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q…", name, got, c.want)
		}
	}
}

// What a server answers is never trusted.
func FuzzHealthResponse(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x04\x12\x02xx", "\x00\x00\x00\x00\x01\xff", "\x01\x00\x00\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := healthResponse(b); err == nil && len(b) < 5 {
			t.Errorf("% x was taken for an answer", b)
		}
	})
}

func TestHealthResponse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]uint64{
		"\x00\x00\x00\x00\x00":                             0,
		"\x00\x00\x00\x00\x02\x08\x01":                     1,
		"\x00\x00\x00\x00\x06\x12\x02xx\x08\x02":           2, // a field we do not know
		"\x00\x00\x00\x00\x07\x1d\x01\x02\x03\x04\x08\x01": 1,
	} {
		if got, err := healthResponse([]byte(in)); err != nil || got != want {
			t.Errorf("% x: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "\x00\x00\x00\x00\x01", "\x01\x00\x00\x00\x00", "\x00\x00\x00\x00\x02\x12\x09", "\x00\x00\x00\x00\x01\x80", "\x00\x00\x00\x00\x02\x0b\x01"} {
		if got, err := healthResponse([]byte(in)); err == nil {
			t.Errorf("% x: %d, want an error", in, got)
		}
	}
}

// A page without an end, or one that trickles, ends the look and not the agent.
func TestHTTPLimits(t *testing.T) {
	t.Parallel()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	trickle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("begin"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(trickle.Close)
	r := runner(Config{MaxOutput: 10})
	def := &api.CheckDefinition{HTTP: endless.URL}
	if status, output := look(t, r.httpProbe(def), def); status != api.Passing || len(output) > 200 {
		t.Errorf("endless: %s, %d bytes", status, len(output))
	}
	def = &api.CheckDefinition{HTTP: trickle.URL, Timeout: api.Duration(100 * time.Millisecond)}
	if status, output := look(t, r.httpProbe(def), def); status != api.Passing || !strings.HasSuffix(output, "Output: begin (timed out)") {
		t.Errorf("trickling: %s %q, want what came, and that it was not all", status, output)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if status, _ := r.httpProbe(def)(ctx); status != api.Critical {
		t.Errorf("stopped: %s", status)
	}
}
