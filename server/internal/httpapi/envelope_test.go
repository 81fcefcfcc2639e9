package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

func read(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestOptionsReachTheEndpoint: what stands in the URL and the headers is what is asked.
func TestOptionsReachTheEndpoint(t *testing.T) {
	for _, c := range []struct {
		url    string
		header []string
		want   endpoint.Query
	}{
		{"/v1/health/service/Web?passing&tag=a&tag=&near=n7&node-meta=rack:1:2&node-meta=x&filter=a+%3D%3D+b&dc=dc2&stale", nil, endpoint.Query{
			Kind: endpoint.HealthService, Name: "Web", Passing: true, Tags: []string{"a", ""}, Near: "n7", NodeMeta: map[string]string{"rack": "1:2", "x": ""},
			Filter: "a == b", QueryOptions: api.QueryOptions{Datacenter: "dc2", Consistency: api.Stale},
		}},
		{"/v1/health/service/web?passing=false", nil, endpoint.Query{Kind: endpoint.HealthService, Name: "web"}},
		{"/v1/catalog/nodes?index=7&wait=90s&consistent", nil, endpoint.Query{
			Kind: endpoint.Nodes, QueryOptions: api.QueryOptions{MinIndex: 7, MaxWait: 90 * time.Second, Consistency: api.Consistent},
		}},
		{"/v1/catalog/nodes?index=0&wait=-1s&dc=a&datacenter=b&leader", nil, endpoint.Query{Kind: endpoint.Nodes, QueryOptions: api.QueryOptions{Datacenter: "b"}}},
		{"/v1/catalog/nodes?max_stale=2s&token=q", []string{"X-Consul-Token: h"}, endpoint.Query{
			Kind: endpoint.Nodes, QueryOptions: api.QueryOptions{Consistency: api.Stale, MaxStale: 2 * time.Second, Token: "q"},
		}},
		{"/v1/catalog/nodes?cached", []string{"X-Consul-Token: h", "Authorization: Bearer b"}, endpoint.Query{Kind: endpoint.Nodes, QueryOptions: api.QueryOptions{Token: "h"}}},
		{"/v1/catalog/nodes", []string{"Authorization: bEARER b"}, endpoint.Query{Kind: endpoint.Nodes, QueryOptions: api.QueryOptions{Token: "b"}}},
		{"/v1/catalog/nodes", []string{"Authorization: Basic b"}, endpoint.Query{Kind: endpoint.Nodes}},
		{"/v1/kv/a%2Fb//c%20d+e%C3%A4?keys&seperator=%2F", nil, endpoint.Query{Kind: endpoint.KVKeys, Name: "a/b//c d+eä", Separator: "/"}},
		{"/v1/kv//a", nil, endpoint.Query{Kind: endpoint.KVGet, Name: "/a"}},
		{"/v1/kv/../x", nil, endpoint.Query{Kind: endpoint.KVGet, Name: "../x"}},
		{"/v1/catalog/node/with/slash", nil, endpoint.Query{Kind: endpoint.NodeServices, Name: "with/slash"}},
	} {
		h := newHouse(nil)
		h.do(t, "GET", c.url, "", c.header...)
		if d := cmp.Diff([]endpoint.Query{c.want}, h.catalog.asked); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.url, d)
		}
	}
}

func TestOptionsThatContradict(t *testing.T) {
	for url, want := range map[string]string{
		"?stale&consistent":        "Cannot specify ?stale with ?consistent, conflicting semantics.",
		"?max_stale=1s&consistent": "Cannot specify ?stale with ?consistent, conflicting semantics.",
		"?cached&consistent":       "Cannot specify ?cached with ?consistent, conflicting semantics.",
		"?index=x":                 "Invalid index",
		"?index=-1":                "Invalid index",
		"?wait=5":                  "Invalid wait time",
		"?max_stale=x":             `Invalid max_stale value "x"`,
	} {
		h := newHouse(nil)
		r := h.do(t, "GET", "/v1/catalog/nodes"+url, "")
		if got := read(t, r); r.StatusCode != 400 || got != want || len(h.catalog.asked) != 0 {
			t.Errorf("%s: %d %q, asked %d", url, r.StatusCode, got, len(h.catalog.asked))
		}
	}
}

// TestErrors: an error's kind decides the status, its text is the body.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{api.ErrNoLeader, 500}, {api.ErrNoServers, 500}, {api.ErrNoPath, 500}, {api.ErrPermissionDenied, 403}, {errors.New("disk"), 500},
		{api.Errorf(api.Invalid, "bad"), 400}, {api.Errorf(api.NotFound, "none"), 404}, {api.Errorf(api.Unauthorized, "who"), 401},
		{api.Errorf(api.Conflict, "rolled back"), 409}, {api.Errorf(api.TooLarge, "big"), 413}, {api.Errorf(api.Busy, "later"), 429},
	} {
		var logged bytes.Buffer
		h := newHouse(func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
		h.catalog.answer = func(context.Context, *endpoint.Query) (*endpoint.Answer, error) { return nil, c.err }
		r := h.do(t, "GET", "/v1/catalog/nodes?token=secret", "")
		if got := read(t, r); r.StatusCode != c.code || got != c.err.Error() || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%v: %d %q %v", c.err, r.StatusCode, got, r.Header)
		}
		if strings.Contains(logged.String(), "secret") {
			t.Errorf("the token is in the log: %s", &logged)
		}
		if (c.code == 500) != strings.Contains(logged.String(), "request failed") {
			t.Errorf("%v: log %q", c.err, &logged)
		}
	}
}

func TestIndexIsNeverZero(t *testing.T) {
	h := newHouse(nil)
	h.catalog.answer = func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
		return endpoint.Encoded(api.QueryMeta{LastContact: 1500 * time.Millisecond}, true, []byte("[]")), nil
	}
	r := h.do(t, "GET", "/v1/catalog/nodes", "")
	if i, k, l := r.Header.Get("X-Consul-Index"), r.Header.Get("X-Consul-KnownLeader"), r.Header.Get("X-Consul-LastContact"); i != "1" || k != "false" || l != "1500" {
		t.Errorf("index %s, known leader %s, last contact %s", i, k, l)
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	h := newHouse(func(cfg *Config) { cfg.Policy.Headers = map[string]string{"x-frame-options": "DENY"} })
	for _, url := range []string{"/v1/status/leader", "/v1/nope", "/v1/kv/nope", "/v1/catalog/service/"} {
		r := h.do(t, "GET", url, "")
		if r.Header.Get("Vary") != "Accept-Encoding" || r.Header.Get("X-Consul-Default-ACL-Policy") != "allow" || r.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", url, r.Header)
		}
	}
}

func TestAPanicIsContained(t *testing.T) {
	var logged bytes.Buffer
	h := newHouse(func(cfg *Config) { cfg.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
	h.catalog.answer = func(context.Context, *endpoint.Query) (*endpoint.Answer, error) { panic("a fault") }
	r := h.do(t, "GET", "/v1/catalog/nodes", "")
	if got := read(t, r); r.StatusCode != 500 || strings.Contains(got, "a fault") || !strings.Contains(logged.String(), "a fault") {
		t.Errorf("%d %q, log %q", r.StatusCode, got, &logged)
	}
}

func TestBlockedEndpoints(t *testing.T) {
	h := newHouse(func(cfg *Config) { cfg.BlockEndpoints = []string{"/v1/kv", "/v1/agent/"} })
	for url, code := range map[string]int{
		"/v1/kv/a": 403, "//v1/kv/a": 403, "/v1/./kv/a": 403, "/v1/x/../kv/a": 403, "/v1/agent/self": 403, "/v1//agent/self": 403, "/v1/status/leader": 200,
	} {
		if r := h.do(t, "GET", url, ""); r.StatusCode != code {
			t.Errorf("%s: %d, want %d", url, r.StatusCode, code)
		}
	}
}

func TestWritesFromElsewhere(t *testing.T) {
	_, here, _ := net.ParseCIDR("192.0.2.0/24")
	_, there, _ := net.ParseCIDR("198.51.100.0/24")
	for _, c := range []struct {
		from *net.IPNet
		code int
	}{{here, 200}, {there, 403}} {
		h := newHouse(func(cfg *Config) { cfg.AllowWriteFrom = []*net.IPNet{c.from} })
		if r := h.do(t, "PUT", "/v1/kv/a", "x"); r.StatusCode != c.code {
			t.Errorf("write from outside %s: %d, want %d", c.from, r.StatusCode, c.code)
		}
		if r := h.do(t, "GET", "/v1/kv/a", ""); r.StatusCode != 200 {
			t.Errorf("read: %d", r.StatusCode)
		}
	}
}

func TestPrettyAlways(t *testing.T) {
	h := newHouse(func(cfg *Config) { cfg.Pretty = true })
	if got := read(t, h.do(t, "GET", "/v1/status/peers", "")); got != "[\n    \"10.0.0.1:8300\"\n]\n" {
		t.Errorf("%q", got)
	}
}

// TestCompression: only where it is asked for and worth it, and once for a shared body.
func TestCompression(t *testing.T) {
	long := []byte(`["` + strings.Repeat("x", 5000) + `"]`)
	for _, c := range []struct {
		accept string
		body   []byte
		want   bool
	}{
		{"gzip", long, true}, {"deflate, GZIP;q=0.5", long, true}, {"gzip;q=0", long, false}, {"gzip;q=0.000", long, false}, {"br", long, false}, {"", long, false}, {"gzip", []byte(`[]`), false},
	} {
		h := newHouse(nil)
		h.catalog.answer = func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
			return endpoint.Encoded(api.QueryMeta{}, true, c.body), nil
		}
		r := h.do(t, "GET", "/v1/catalog/nodes", "", "Accept-Encoding: "+c.accept)
		packed := r.Header.Get("Content-Encoding") == "gzip"
		if packed != c.want {
			t.Errorf("Accept-Encoding %q, %d bytes: compressed %v", c.accept, len(c.body), packed)
		}
		body := io.Reader(r.Body)
		if packed {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		got, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(got, c.body) {
			t.Errorf("%d bytes, err %v", len(got), err)
		}
	}
}

func TestPackerForgetsBodies(t *testing.T) {
	var p packer
	body := bytes.Repeat([]byte("ab"), 2000)
	first, err := p.pack(body)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.pack(body)
	if err != nil || &first[0] != &again[0] {
		t.Errorf("compressed twice, err %v", err)
	}
	other, err := p.pack(bytes.Clone(body))
	if err != nil || &first[0] == &other[0] {
		t.Errorf("two bodies taken for one, err %v", err)
	}
	runtime.KeepAlive(body)
	body = nil
	deadline := time.Now().Add(10 * time.Second)
	for left := 1; left > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d bodies are still held", left)
		}
		runtime.GC()
		p.mu.Lock()
		left = len(p.made)
		p.mu.Unlock()
	}
}

func TestBodyLimits(t *testing.T) {
	for _, sized := range []bool{true, false} {
		h := newHouse(func(cfg *Config) { cfg.KVMaxValueSize = 10 })
		for n, code := range map[int]int{10: 200, 11: 413} {
			body := strings.NewReader(strings.Repeat("x", n))
			r, err := http.NewRequest("PUT", "http://agent/v1/kv/a", body)
			if err != nil {
				t.Fatal(err)
			}
			if !sized {
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			h.Handler().ServeHTTP(w, r)
			if w.Code != code {
				t.Errorf("%d bytes, sized %v: %d, want %d", n, sized, w.Code, code)
			}
			if want := "Request body(11 bytes) too large, max size: 10 bytes. See limits.kv_max_value_size."; code == 413 && w.Body.String() != want {
				t.Errorf("%q", w.Body)
			}
		}
	}
	h := newHouse(nil)
	r := h.do(t, "PUT", "/v1/catalog/register", `{"Node":"`+strings.Repeat("x", maxBody)+`"}`)
	if got := read(t, r); r.StatusCode != 413 || !strings.Contains(got, strconv.Itoa(maxBody)) {
		t.Errorf("%d %q", r.StatusCode, got)
	}
}

// TestUnknownFields: they are left alone, and named where someone debugs.
func TestUnknownFields(t *testing.T) {
	var logged bytes.Buffer
	h := newHouse(func(cfg *Config) {
		cfg.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	r := h.do(t, "PUT", "/v1/agent/service/register", `{"name":"web","Foo":1,"check":{"ttl":"1s","Bar":2}}`)
	if r.StatusCode != 200 || len(h.agent.calls) != 1 {
		t.Fatalf("%d %q, calls %q", r.StatusCode, read(t, r), h.agent.calls)
	}
	if !strings.Contains(logged.String(), "Foo") || !strings.Contains(logged.String(), "Bar") {
		t.Errorf("log %q", &logged)
	}
}
