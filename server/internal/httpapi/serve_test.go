package httpapi

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// serving runs a server on a listener until the test ends or end is called; end gives
// what Serve returned.
func serving(t *testing.T, h *house, network, addr string) (at string, end func() error) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, l) }()
	end = func() error {
		cancel()
		select {
		case err := <-done:
			done <- err
			return err
		case <-time.After(10 * time.Second):
			return errors.New("Serve does not return")
		}
	}
	t.Cleanup(func() { end() })
	return l.Addr().String(), end
}

// TestListeners: several at once, TCP and unix, one of which may end alone.
func TestListeners(t *testing.T) {
	h := newHouse(nil)
	tcp, endTCP := serving(t, h, "tcp", "127.0.0.1:0")
	path, _ := serving(t, h, "unix", filepath.Join(t.TempDir(), "http.sock"))
	ask := func(network, addr string) error {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}}}
		r, err := client.Get("http://agent/v1/status/leader")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || string(b) != `"10.0.0.1:8300"` {
			return fmt.Errorf("body %q, %w", b, err)
		}
		return nil
	}
	for range 2 {
		if err := errors.Join(ask("tcp", tcp), ask("unix", path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := endTCP(); err != nil {
		t.Fatal(err)
	}
	if ask("tcp", tcp) == nil {
		t.Error("the ended listener answers")
	}
	if err := ask("unix", path); err != nil {
		t.Error(err)
	}
	if err := h.Serve(t.Context(), closed{}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a broken listener: %v", err)
	}
}

type closed struct{ net.Listener }

func (closed) Accept() (net.Conn, error) { return nil, errors.New("broken") }
func (closed) Addr() net.Addr            { return &net.TCPAddr{} }
func (closed) Close() error              { return nil }

// TestTheEnd: a write under way is finished and answered, a wait for a change ends at
// once, and neither is told a lie.
func TestTheEnd(t *testing.T) {
	h := newHouse(nil)
	waiting, writing, finish := make(chan struct{}), make(chan struct{}), make(chan struct{})
	h.catalog.answer = func(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
		close(waiting)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	h.catalog.result = func(*endpoint.Write) (*command.Result, error) {
		close(writing)
		<-finish
		return &command.Result{OK: true}, nil
	}
	addr, end := serving(t, h, "tcp", "127.0.0.1:0")
	type outcome struct {
		code int
		body string
		err  error
	}
	ask := func(method, url string) <-chan outcome {
		out := make(chan outcome, 1)
		go func() {
			r, err := http.NewRequest(method, "http://"+addr+url, strings.NewReader("x"))
			if err != nil {
				out <- outcome{err: err}
				return
			}
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				out <- outcome{err: err}
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			out <- outcome{resp.StatusCode, string(b), err}
		}()
		return out
	}
	read, write := ask("GET", "/v1/catalog/nodes?index=5"), ask("PUT", "/v1/kv/a")
	<-waiting
	<-writing
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	if got := <-read; got.code != 500 || got.body != errEnding.Error() || got.err != nil {
		t.Errorf("the wait: %+v", got)
	}
	close(finish)
	if got := <-write; got.code != 200 || got.body != "true" || got.err != nil {
		t.Errorf("the write: %+v", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestTooManyConnections: the one above the limit reads 429, and a place that is given
// up can be taken.
func TestTooManyConnections(t *testing.T) {
	h := newHouse(func(cfg *Config) { cfg.Policy.MaxConnsPerClient = 2 })
	addr, _ := serving(t, h, "tcp", "127.0.0.1:0")
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "GET /v1/status/leader HTTP/1.1\r\nHost: a\r\n\r\n")
		return c
	}
	code := func(c net.Conn) int {
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.StatusCode == http.StatusTooManyRequests && r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		return r.StatusCode
	}
	first, second := dial(), dial()
	if a, b, c := code(first), code(second), code(dial()); a != 200 || b != 200 || c != 429 {
		t.Fatalf("%d %d %d", a, b, c)
	}
	first.Close()
	deadline := time.Now().Add(10 * time.Second)
	for code(dial()) != 200 { // the server learns of the close in its own time
		if time.Now().After(deadline) {
			t.Fatal("the place is never free again")
		}
	}
}

// TestASilentReader: who does not read the answer loses the connection in the end,
// whichever way the request took.
func TestASilentReader(t *testing.T) {
	for _, path := range []string{"/v1/catalog/nodes", "/v1/health/service/web"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(nil)
			h.catalog.answer = func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
				return endpoint.Encoded(api.QueryMeta{}, true, make([]byte, 3*pieceSize)), nil
			}
			l := &pipes{conns: make(chan net.Conn, 1), done: make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- h.Serve(ctx, l) }()
			client, server := net.Pipe()
			l.conns <- server
			began := time.Now()
			fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
			if _, err := client.Read(make([]byte, 10)); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			time.Sleep(pieceTime + time.Second) // of the bubble
			if n, err := io.Copy(io.Discard, client); err != nil || n > pieceSize {
				t.Errorf("%s: read %d bytes, err %v", path, n, err)
			}
			if took := time.Since(began); took > pieceTime+2*time.Second {
				t.Errorf("%s: held for %s", path, took)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTakes: what may stream is for net/http; what may wait for a change, or for another
// datacenter, is known.
func TestTakes(t *testing.T) {
	for target, want := range map[string]bool{
		"/v1/kv/a": true, "/v1/kv/a?raw": true, "/v1/kv/?recurse": true, "/v1/kv/index": true, "/v1/health/service/web?passing&tag=a": true,
		"/v1/agent/service/register?replace-existing-checks": true, "/v1/agent/check/update/a": true, "/v1/status/leader": true,
		"/v1/kv/a?index=5&wait=1s": true, "/v1/kv/a?dc=dc2": true, "/v1/kv/a?%69ndex=5": false, "/v1/health/service/web?cached": true,
		"/v1/catalog/services?index=5": true, "/v1/catalog/nodes": true, "/v1/health/state/any?index=1": true,
		"/v1/health/watch?service=a": false, "/v1/agent/monitor": false, "/v1/snapshot": false, "/v1/agent/service/web?hash=x": false, "/ui/": false, "/": false,
		"/v1/kv/a?near=_agent": true, "/v1/kv/a?datacenter=dc2": true,
	} {
		waiting := want && (strings.Contains(target, "index=") || strings.Contains(target, "=dc2") || strings.Contains(target, "cached"))
		if got, waits := takes(http.MethodGet, target); got != want || waits != waiting {
			t.Errorf("%s: %t, %t, want %t, %t", target, got, waits, want, waiting)
		}
	}
}

// pipes is a listener that hands out what is put into conns.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// TestHashBlocks: a right hash waits for the time asked for, a wrong one does not.
func TestHashBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(nil)
		ask := func(url string) (*httptest.ResponseRecorder, time.Duration) {
			w, began := httptest.NewRecorder(), time.Now()
			r, err := http.NewRequest("GET", "http://agent"+url, nil)
			if err != nil {
				t.Fatal(err)
			}
			h.Handler().ServeHTTP(w, r)
			return w, time.Since(began)
		}
		w, took := ask("/v1/agent/service/web1?hash=no&wait=10s")
		hash := w.Header().Get("X-Consul-ContentHash")
		if w.Code != 200 || hash == "" || took != 0 {
			t.Errorf("%d, hash %q, took %s", w.Code, hash, took)
		}
		for url, want := range map[string]time.Duration{
			"&wait=10s": 10 * time.Second, "": h.cfg.DefaultQueryTime, "&wait=10h": h.cfg.MaxQueryTime,
		} {
			w, took := ask("/v1/agent/service/web1?hash=" + hash + url)
			if w.Code != 200 || took < want || took > want+hashEvery || w.Header().Get("X-Consul-ContentHash") != hash {
				t.Errorf("%s: %d after %s", url, w.Code, took)
			}
		}
	})
}

// TestBothWays: an answer is the same whether net/http sends it or not, whatever headers
// the configuration has.
func TestBothWays(t *testing.T) {
	h := newHouse(nil)
	h.catalog.answer = func(_ context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
		meta := api.QueryMeta{Index: 5, KnownLeader: q.Name != "lost", Consistency: q.Consistency, Filtered: q.Name == "hidden"}
		if q.Consistency == api.Stale {
			meta.LastContact = 1234 * time.Millisecond
		}
		return endpoint.Encoded(meta, q.Name != "nobody", []byte(`["`+strings.Repeat("x", len(q.Name)*300)+`"]`)), nil
	}
	addr, _ := serving(t, h, "tcp", "127.0.0.1:0")
	for _, headers := range []map[string]string{nil, {"X-Own": "a\r\nb"}, {"content-type": "text/odd", "Date": "never"}, {"Connection": "close"}, {"X-Consul-Index": "7"}} {
		h.Apply(Policy{Headers: headers})
		for _, url := range []string{
			"/v1/health/service/web?passing", "/v1/health/service/web?stale", "/v1/health/service/lost", "/v1/health/service/hidden", "/v1/health/service/a-long-one",
			"/v1/health/service/web?pretty", "/v1/health/service/web?index=4", "/v1/health/service/", "/v1/kv/web", "/v1/kv/nobody", "/v1/kv/web?raw", "/v1/agent/services", "/v1/odd",
			"/v1/kv/web PUT", "/v1/agent/service/register PUT {\"Name\":\"a\"}", "/v1/agent/check/pass/a PUT",
		} {
			for _, packed := range []string{"", "Accept-Encoding: gzip\r\n"} {
				var got [2]string
				for way, mark := range []string{"", "Pragma: x\r\n"} { // which fastpath leaves to net/http
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					c.SetDeadline(time.Now().Add(10 * time.Second))
					target, rest, _ := strings.Cut(url, " ")
					verb, body, _ := strings.Cut(rest, " ")
					fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s%s\r\n%s", cmp.Or(verb, "GET"), target, len(body), packed, mark, body)
					r, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						t.Fatalf("%s with %v: %v", url, headers, err)
					}
					b, err := io.ReadAll(r.Body)
					if err != nil {
						t.Fatalf("%s with %v: %v", url, headers, err)
					}
					c.Close()
					if len(r.Header["Date"]) != 1 {
						t.Errorf("%s with %v: dates %q", url, headers, r.Header["Date"])
					}
					if headers["Date"] == "" {
						r.Header.Del("Date")
					}
					got[way] = fmt.Sprintf("%s %t %d %v %q", r.Status, r.Close, r.ContentLength, r.Header, b)
				}
				if got[0] != got[1] {
					t.Errorf("%s with %v %s\n got %.900s\nwant %.900s", url, headers, packed, got[0], got[1])
				}
			}
		}
	}
}

// BenchmarkHealth is the way of a shared answer from the request to the writer.
func BenchmarkHealth(b *testing.B) {
	h := newHouse(nil)
	answer := endpoint.Encoded(api.QueryMeta{Index: 5, KnownLeader: true}, true, make([]byte, 1000))
	h.catalog.answer = func(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
		h.catalog.asked = h.catalog.asked[:0]
		return answer, nil
	}
	r := httptest.NewRequest("GET", "/v1/health/service/web?passing&stale", nil)
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: http.Header{}}
		h.Handler().ServeHTTP(w, r)
	}
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
