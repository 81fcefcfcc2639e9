package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// engineSocket is where the tests put things between a registrator and the engine.
const engineSocket = "/var/run/docker.sock"

func needSocket(t testing.TB) {
	t.Helper()
	engine(t)
	if _, err := os.Stat(engineSocket); err != nil {
		t.Skip("the engine is not on its usual socket")
	}
}

// relay is a socket in front of the engine's that can be cut, and frozen.
type relay struct {
	path   string
	mu     sync.Mutex
	conns  map[net.Conn]bool
	away   bool
	frozen atomic.Bool
}

func startRelay(t testing.TB) *relay {
	t.Helper()
	r := &relay{path: filepath.Join(t.TempDir(), "docker.sock"), conns: map[net.Conn]bool{}}
	l, err := net.Listen("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", engineSocket)
			r.mu.Lock()
			refused := r.away || err != nil
			if !refused {
				r.conns[in], r.conns[out] = true, true
			}
			r.mu.Unlock()
			if refused {
				in.Close()
				if out != nil {
					out.Close()
				}
				continue
			}
			wg.Go(func() { _, _ = io.Copy(out, in); out.Close() }) // it ends with the connection
			wg.Go(func() { r.copy(in, out); in.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); r.cut(false); wg.Wait() })
	return r
}

// copy passes answers on; while frozen it swallows events, and only those.
func (r *relay) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		out := buf[:n]
		if r.frozen.Load() && bytes.Contains(out, []byte(`"Actor"`)) {
			out = nil
			if head, _, ok := bytes.Cut(buf[:n], []byte("\r\n\r\n")); ok && bytes.HasPrefix(head, []byte("HTTP/")) {
				out = buf[:len(head)+4] // a subscription is taken; what it replays is swallowed
			}
		}
		if len(out) > 0 {
			if _, err := to.Write(out); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends all connections; with away no new ones come.
func (r *relay) cut(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
	for c := range r.conns {
		c.Close()
		delete(r.conns, c)
	}
}

func (r *relay) back() { r.mu.Lock(); defer r.mu.Unlock(); r.away = false }

// guard lets through what docs/registrator.md says is enough of the engine, and nothing
// else.
type guard struct {
	path    string
	mu      sync.Mutex
	refused map[string]bool // "METHOD /path"
}

var enough = regexp.MustCompile(`^(/v[0-9.]+)?/(_ping|info|events|containers/json|containers/[0-9a-f]+/json)$`)

func startGuard(t testing.TB) *guard {
	t.Helper()
	g := &guard{path: filepath.Join(t.TempDir(), "docker.sock"), refused: map[string]bool{}}
	l, err := net.Listen("unix", g.path)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1, // events are passed on as they come
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", engineSocket)
		}},
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Method != http.MethodGet && r.Method != http.MethodHead) || !enough.MatchString(r.URL.Path) {
			g.mu.Lock()
			g.refused[r.Method+" "+r.URL.Path] = true
			g.mu.Unlock()
			http.Error(w, `{"message":"this is a guarded engine"}`, http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return g
}

// clerk stands in front of an agent, counts what is written, and may refuse.
type clerk struct {
	addr   string
	writes atomic.Int64           // but for beats
	beats  atomic.Int64           // states of checks told to the agent, which the catalog hears of when they change
	refuse atomic.Pointer[string] // registrations that contain it are answered with 500
	tries  atomic.Int64           // refused so far
}

func startClerk(t testing.TB, agent string) *clerk {
	t.Helper()
	c := &clerk{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: agent})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/agent/check/update/"):
			c.beats.Add(1)
		case r.Method != http.MethodGet:
			c.writes.Add(1)
			if what := c.refuse.Load(); what != nil {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				if strings.Contains(string(body), *what) {
					c.tries.Add(1)
					http.Error(w, "not today", http.StatusInternalServerError)
					return
				}
				r.Body = io.NopCloser(strings.NewReader(string(body)))
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	c.addr = s.Listener.Addr().String()
	return c
}

// oneShot keeps no connections: a container that ended may have had the port before.
var oneShot = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get gives a page's status and body.
func get(url string) (int, string, error) { return request(http.MethodGet, url) }

func request(method, url string) (int, string, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := oneShot.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
