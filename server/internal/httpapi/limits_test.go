package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// piped serves a house on pipes inside a bubble, and gives a function that opens a
// connection. The house ends with the bubble.
func piped(t *testing.T, h *house) (dial func() net.Conn) {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		client, server := net.Pipe()
		t.Cleanup(func() { client.Close() })
		l.conns <- server
		return client
	}
}

// isServed checks that a new client is served.
func isServed(t *testing.T, c net.Conn) {
	t.Helper()
	fmt.Fprint(c, "GET /v1/status/leader HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("another client is not served: %v, %v", r, err)
		return
	}
	r.Body.Close()
}

// A client that never ends its header, one that connects and says nothing, and one that
// never sends its body: each loses the connection in the time that is documented, and
// while a hundred of them wait, others are served.
func TestSlowClients(t *testing.T) {
	for name, c := range map[string]struct {
		says  string
		after time.Duration
		code  string // what it reads first
	}{
		"no end of the header": {"GET /v1/status/leader HTTP/1.1\r\nHost: a\r\nX-A: ", headerTime, ""},
		"silence":              {"", headerTime, ""},
		"no body":              {"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx", bodyTime, "HTTP/1.1 400 "},
		"a body nobody reads":  {"PUT /v1/agent/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx", bodyTime, "HTTP/1.1 200 "},
		"idle":                 {"GET /v1/status/leader HTTP/1.1\r\nHost: a\r\n\r\n", idleTime, "HTTP/1.1 200 "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := piped(t, newHouse(nil))
				type end struct {
					text string
					took time.Duration
				}
				const clients = 100
				ends := make(chan end, clients)
				for range clients {
					conn, began := dial(), time.Now()
					go func() {
						io.WriteString(conn, c.says)
						b, err := io.ReadAll(conn)
						if err != nil {
							b = []byte(err.Error())
						}
						ends <- end{string(b), time.Since(began)}
					}()
				}
				synctest.Wait()
				isServed(t, dial())
				for range clients {
					e := <-ends
					if e.took < c.after || e.took > c.after+time.Second || !strings.HasPrefix(e.text, c.code) {
						t.Fatalf("it read %.60q and was held for %s, want %q and %s", e.text, e.took, c.code, c.after)
					}
				}
			})
		})
	}
}

// A header above the limit is 431, one below it is read.
func TestOversizedHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := piped(t, newHouse(func(cfg *Config) { cfg.MaxHeaderBytes = 8 << 10 }))
		for size, want := range map[int]int{4 << 10: 200, 64 << 10: 431} {
			c := dial()
			go fmt.Fprintf(c, "GET /v1/status/leader HTTP/1.1\r\nHost: a\r\nX-A: %s\r\n\r\n", strings.Repeat("a", size))
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || r.StatusCode != want {
				t.Errorf("%d bytes: %v, %v; want %d", size, r, err, want)
				continue
			}
			r.Body.Close()
			c.Close()
		}
		isServed(t, dial())
	})
}

// Bodies above the limits are 413, whether the client says their size or not.
func TestOversizedBodies(t *testing.T) {
	h := newHouse(func(cfg *Config) { cfg.KVMaxValueSize = 1000 })
	addr, _ := serving(t, h, "tcp", "127.0.0.1:0")
	for _, c := range []struct {
		url  string
		size int
		told bool
		want int
	}{
		{"/v1/kv/a", 1000, true, 200}, {"/v1/kv/a", 1001, true, 413}, {"/v1/kv/a", 1001, false, 413}, {"/v1/kv/a", 50 << 20, true, 413},
		{"/v1/catalog/register", maxBody + 1, true, 413}, {"/v1/catalog/register", maxBody + 1, false, 413},
	} {
		var body io.Reader = bytes.NewReader(make([]byte, c.size))
		if !c.told {
			body = io.MultiReader(body) // whose size http does not know
		}
		req, err := http.NewRequest(http.MethodPut, "http://"+addr+c.url, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue") // or the refusal may not be read
		r, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s, %d bytes: %v", c.url, c.size, err)
		}
		r.Body.Close()
		if r.StatusCode != c.want {
			t.Errorf("%s, %d bytes, told %t: %d, want %d", c.url, c.size, c.told, r.StatusCode, c.want)
		}
	}
}

// Over the rate, reads get 429 and writes 503; what is about the agent is free, and so is
// the agent itself. A reload changes the rates.
func TestRequestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := RequestLimits{Enforce: true, Read: 1, Write: 0.1}
		h := newHouse(func(cfg *Config) { cfg.Policy.Requests = limits })
		served := func(from http.Handler, method, url string, n int) (ok int, last *httptest.ResponseRecorder) {
			for range n {
				last = httptest.NewRecorder()
				from.ServeHTTP(last, httptest.NewRequest(method, url, strings.NewReader("x")))
				if last.Code == http.StatusOK {
					ok++
				}
			}
			return ok, last
		}
		for _, c := range []struct {
			method, url string
			want, code  int
		}{
			{"GET", "/v1/kv/a", burst, 429}, {"PUT", "/v1/kv/a", 1, 503}, {"GET", "/v1/agent/self", 50, 200}, {"GET", "/v1/status/leader", 50, 200},
		} {
			ok, last := served(h.Handler(), c.method, c.url, 50)
			if ok != c.want || last.Code != c.code || (last.Code != 200) != (last.Header().Get("Retry-After") == "1") {
				t.Errorf("%s %s: %d of 50 served, the last %d %v; want %d and %d", c.method, c.url, ok, last.Code, last.Header(), c.want, c.code)
			}
		}
		if ok, _ := served(h.Inside(), "GET", "/v1/kv/a", 50); ok != 50 {
			t.Errorf("of the agent's own requests %d were served", ok)
		}
		time.Sleep(5 * time.Second) // of the bubble
		if ok, _ := served(h.Handler(), "GET", "/v1/kv/a", 50); ok != 5 {
			t.Errorf("after five seconds %d were served, want 5", ok)
		}
		for _, limits := range []RequestLimits{{Enforce: true, Read: -1, Write: -1}, {Watch: true}, {}} {
			h.Apply(Policy{Requests: limits})
			if ok, _ := served(h.Handler(), "GET", "/v1/kv/a", 50); ok != 50 {
				t.Errorf("%+v: %d of 50 served", limits, ok)
			}
		}
	})
}

// One line of log tells of many refusals.
func TestRequestRatesAreLogged(t *testing.T) {
	var log bytes.Buffer
	h := newHouse(func(cfg *Config) {
		cfg.Policy.Requests = RequestLimits{Watch: true, Read: 0.1}
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 20 {
		if r := h.do(t, http.MethodGet, "/v1/kv/a", ""); r.StatusCode != http.StatusOK {
			t.Fatalf("only to be watched: %d", r.StatusCode)
		}
	}
	if n := strings.Count(log.String(), "limits.request_limits"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

// HTTPS: requests are answered, also over HTTP/2; the connection above the limit is told
// 429 in the clear of TLS; a client that does not shake hands is let go.
func TestTLS(t *testing.T) {
	made := httptest.NewUnstartedServer(nil)
	made.StartTLS()
	cfg := &tls.Config{Certificates: made.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	roots := made.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	made.Close()
	h := newHouse(func(cfg *Config) { cfg.Policy.MaxConnsPerClient, cfg.HandshakeTime = 2, 2*time.Second })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.ServeTLS(ctx, l, cfg) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	client := &tls.Config{RootCAs: roots, ServerName: "example.com"}

	silent, err := net.Dial("tcp", l.Addr().String()) // half open: it never shakes hands
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("a client that does not shake hands is held: %v", err)
	}

	transport := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String() + "/v1/status/leader")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != `"10.0.0.1:8300"` || r.ProtoMajor != 2 {
		t.Errorf("%s %q, %v", r.Proto, body, err)
	}

	one := client.Clone()
	one.NextProtos = []string{"http/1.1"}
	ask := func() (int, net.Conn) {
		c, err := tls.Dial("tcp", l.Addr().String(), one)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(c, "GET /v1/status/leader HTTP/1.1\r\nHost: a\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode, c
	}
	var codes []int
	for range 3 { // one is held by HTTP/2 above
		code, c := ask()
		defer c.Close()
		codes = append(codes, code)
	}
	if fmt.Sprint(codes) != "[200 429 429]" {
		t.Errorf("answers %v, want one within the limit and two above", codes)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// discovery_max_stale makes reads of the catalog and of health stale unless they say what
// they want, and leaves keys alone.
func TestDiscoveryMaxStale(t *testing.T) {
	for url, want := range map[string]api.Consistency{
		"/v1/catalog/nodes": api.Stale, "/v1/health/service/web": api.Stale, "/v1/health/service/web?leader": api.Default,
		"/v1/catalog/nodes?consistent": api.Consistent, "/v1/kv/a": api.Default,
	} {
		h := newHouse(func(cfg *Config) { cfg.DiscoveryMaxStale = time.Minute })
		h.do(t, http.MethodGet, url, "")
		h.catalog.mu.Lock()
		q := h.catalog.asked[0]
		h.catalog.mu.Unlock()
		if q.Consistency != want || (q.MaxStale == time.Minute) != (want == api.Stale) {
			t.Errorf("%s: asked with %v and %s, want %v", url, q.Consistency, q.MaxStale, want)
		}
	}
}
