package fastpath

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a server with a fast path for all below /fast/.
type rig struct {
	addr   string
	fast   *Listener
	srv    *http.Server
	closed atomic.Int32
	mu     sync.Mutex
	slow   int // guarded by mu; requests that net/http read
}

// netHTTP marks the requests that came through net/http.
type netHTTP struct{}

func start(t testing.TB, h http.HandlerFunc) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{addr: l.Addr().String()}
	handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Context().Value(netHTTP{}) != nil {
			r.mu.Lock()
			r.slow++
			r.mu.Unlock()
		}
		h(w, q)
	})
	r.fast = Listen(l, Config{
		Handler: handler, Context: context.Background(), Waiting: context.Background(), FirstTime: 10 * time.Second, IdleTime: time.Minute,
		Takes: func(_, target string) (bool, bool) {
			return strings.HasPrefix(target, "/fast/"), strings.Contains(target, "late")
		},
		Closed: func(net.Conn) { r.closed.Add(1) },
	})
	r.srv = &http.Server{Handler: handler, BaseContext: func(net.Listener) context.Context {
		return context.WithValue(context.Background(), netHTTP{}, true)
	}}
	done := make(chan error, 1)
	go func() { done <- r.srv.Serve(r.fast) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(r.srv.Shutdown(ctx), r.fast.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
		<-done
	})
	return r
}

func (r *rig) throughNetHTTP() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slow
}

// talk sends bytes and reads as many answers as there are requests.
func talk(t testing.TB, addr, sent string, requests ...string) (answers []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, sent); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for _, method := range requests {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("answer %d to %q: %v", len(answers), sent, err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, fmt.Sprintf("%d %s", resp.StatusCode, b))
	}
	return answers
}

func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, b)
}

// Whatever a client sends, it is answered as by net/http; the last column says by whom.
func TestRequests(t *testing.T) {
	t.Parallel()
	const host = "Host: a\r\n"
	for name, c := range map[string]struct {
		sent    string
		want    []string
		netHTTP int
	}{
		"get":            {"GET /fast/a?b=c HTTP/1.1\r\n" + host + "\r\n", []string{"200 GET /fast/a?b=c "}, 0},
		"put":            {"PUT /fast/a HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc", []string{"200 PUT /fast/a abc"}, 0},
		"two":            {"GET /fast/a HTTP/1.1\r\n" + host + "\r\nGET /fast/b HTTP/1.1\r\n" + host + "\r\n", []string{"200 GET /fast/a ", "200 GET /fast/b "}, 0},
		"a body and one": {"PUT /fast/a HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\nxGET /fast/b HTTP/1.1\r\n" + host + "\r\n", []string{"200 PUT /fast/a x", "200 GET /fast/b "}, 0},
		"then a slow one": {"GET /fast/a HTTP/1.1\r\n" + host + "\r\nGET /slow HTTP/1.1\r\n" + host + "\r\nGET /fast/b HTTP/1.1\r\n" + host + "\r\n",
			[]string{"200 GET /fast/a ", "200 GET /slow ", "200 GET /fast/b "}, 2},
		"another method": {"DELETE /fast/a HTTP/1.1\r\n" + host + "\r\n", []string{"200 DELETE /fast/a "}, 1},
		"chunks":         {"PUT /fast/a HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", []string{"200 PUT /fast/a x"}, 1},
		"escaped":        {"GET /fast/%41 HTTP/1.1\r\n" + host + "\r\n", []string{"200 GET /fast/%41 "}, 1},
		"no host":        {"GET /fast/a HTTP/1.1\r\n\r\n", []string{"400 400 Bad Request: missing required Host header"}, 0},
		"waits":          {"GET /fast/late HTTP/1.1\r\n" + host + "\r\n", []string{"200 GET /fast/late "}, 0},
		"waits, then":    {"GET /fast/late HTTP/1.1\r\n" + host + "\r\nGET /fast/a HTTP/1.1\r\n" + host + "\r\n", []string{"200 GET /fast/late ", "200 GET /fast/a "}, 2},
		"waits, a body":  {"PUT /fast/late HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\nx", []string{"200 PUT /fast/late x"}, 1},
		"two lengths":    {"PUT /fast/a HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", []string{"400 400 Bad Request"}, 0},
		"a large body":   {"PUT /fast/a HTTP/1.1\r\n" + host + "Content-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000), []string{"200 PUT /fast/a " + strings.Repeat("x", 5000)}, 1},
		"close":          {"GET /fast/a HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", []string{"200 GET /fast/a "}, 1},
		"version 1.0":    {"GET /fast/a HTTP/1.0\r\n" + host + "\r\n", []string{"200 GET /fast/a "}, 1},
		"bare newlines":  {"GET /fast/a HTTP/1.1\n" + "Host: a\n\n", []string{"200 GET /fast/a "}, 1},
		"folded":         {"GET /fast/a HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", []string{"200 GET /fast/a "}, 1},
		"expects": {"PUT /fast/a HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
			[]string{"100 ", "200 PUT /fast/a x"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, echo)
			methods := make([]string, len(c.want))
			for i := range methods {
				methods[i] = http.MethodGet
			}
			got := talk(t, r.addr, c.sent, methods...)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if n := r.throughNetHTTP(); n != c.netHTTP {
				t.Errorf("net/http read %d requests, want %d", n, c.netHTTP)
			}
		})
	}
}

// A request that comes in pieces is answered, wherever it is cut.
func TestPieces(t *testing.T) {
	t.Parallel()
	r := start(t, echo)
	sent := "PUT /fast/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
	for cut := 1; cut < len(sent); cut++ {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, sent[:cut])
		go io.WriteString(c, sent[cut:])
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || string(b) != "PUT /fast/a ok" {
			t.Errorf("cut at %d: got %q, %v", cut, b, err)
		}
		c.Close()
	}
}

// Answers are those of net/http: statuses, headers, bodies small and large, with a length
// and without, none at all.
func TestAnswers(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Odd", "a\r\nb")
		switch r.URL.RawQuery {
		case "nothing":
		case "code":
			w.WriteHeader(418)
		case "sniff":
			io.WriteString(w, "<html>")
		case "length":
			w.Header().Set("Content-Length", "4")
			io.WriteString(w, "ab")
			io.WriteString(w, "cd")
		case "large":
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			w.Header().Set("Content-Type", "x/y")
			w.Write(large[:100])
			w.Write(large[100:])
		case "deadline":
			c := http.NewResponseController(w)
			if err := errors.Join(c.SetReadDeadline(time.Now().Add(time.Minute)), c.SetWriteDeadline(time.Now().Add(time.Minute))); err != nil {
				http.Error(w, err.Error(), 500)
			}
		}
	}
	r := start(t, handler)
	for _, query := range []string{"nothing", "code", "sniff", "length", "large", "deadline", "nothing"} {
		var got [2]*http.Response
		var bodies [2][]byte
		for i, path := range []string{"/fast/", "/slow/"} {
			resp, err := http.Get("http://" + r.addr + path + "?" + query)
			if err != nil {
				t.Fatal(err)
			}
			if bodies[i], err = io.ReadAll(resp.Body); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			resp.Header.Del("Date")
			got[i] = resp
		}
		if got[0].StatusCode != got[1].StatusCode || !reflect.DeepEqual(got[0].Header, got[1].Header) || !bytes.Equal(bodies[0], bodies[1]) {
			t.Errorf("%s: got %d %v %.80q, net/http gives %d %v %.80q", query, got[0].StatusCode, got[0].Header, bodies[0], got[1].StatusCode, got[1].Header, bodies[1])
		}
	}
}

// A handler that says a length and sends less ends the connection; so does one that
// gives up.
func TestCutOff(t *testing.T) {
	t.Parallel()
	r := start(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "short")
		if q.URL.RawQuery != "" {
			panic(http.ErrAbortHandler)
		}
	})
	for _, query := range []string{"", "?abort"} {
		resp, err := http.Get("http://" + r.addr + "/fast/" + query)
		if err == nil {
			if _, err = io.ReadAll(resp.Body); err == nil {
				t.Error("half an answer was taken for a whole one")
			}
			resp.Body.Close()
		}
	}
}

// Shutdown ends idle connections, and waits for the request under way.
func TestShutdown(t *testing.T) {
	t.Parallel()
	under, release := make(chan bool), make(chan bool)
	r := start(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/fast/wait" {
			under <- true
			<-release
		}
		io.WriteString(w, "done")
	})
	idle, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	answer := make(chan string, 1)
	go func() { answer <- talk(t, r.addr, "GET /fast/wait HTTP/1.1\r\nHost: a\r\n\r\n", http.MethodGet)[0] }()
	<-under
	ended := make(chan error, 1)
	go func() { ended <- r.fast.Shutdown(context.Background()) }()
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle connection: %v, want its end", err)
	}
	select {
	case err := <-ended:
		t.Errorf("shutdown ended before the request: %v", err)
	default:
	}
	close(release)
	if got := <-answer; got != "200 done" {
		t.Errorf("the request under way: %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := r.closed.Load(); n != 2 {
		t.Errorf("%d connections were told of as closed, want 2", n)
	}
}

// late is a server, in a bubble, on one connection, whose requests wait until they are
// released or their context ends.
func late(t *testing.T) (client net.Conn, l *Listener, under chan context.Context, release chan bool) {
	client, served := net.Pipe()
	under, release = make(chan context.Context), make(chan bool)
	l = &Listener{done: make(chan struct{}), open: map[*conn]bool{}, cfg: Config{
		Takes:   func(_, target string) (bool, bool) { return true, strings.Contains(target, "late") },
		Context: t.Context(), Waiting: t.Context(), FirstTime: time.Second, IdleTime: time.Minute, Closed: func(net.Conn) {},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/late" {
				under <- q.Context()
				select {
				case <-release:
				case <-q.Context().Done():
				}
			}
			io.WriteString(w, q.URL.Path)
		}),
	}}
	c := newConn(l, served)
	l.open[c] = true
	l.group.Add(1)
	go c.serve()
	return client, l, under, release
}

// A request that waits for longer than a connection may be idle is answered, and the ones
// after it; then idle time counts from the last answer.
func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, l, under, release := late(t)
		in := bufio.NewReader(client)
		ask := func(path string) {
			t.Helper()
			if _, err := io.WriteString(client, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if path == "/late" {
				ctx := <-under
				time.Sleep(150 * time.Second)
				if ctx.Err() != nil {
					t.Error("the context of a request ended while its client was there")
				}
				release <- true
			}
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != path {
				t.Errorf("%s: %q, %v", path, b, err)
			}
		}
		for range 2 {
			ask("/late")
			ask("/soon")
			time.Sleep(29 * time.Second) // its deadline moves only when half of it is gone
			ask("/late")
			time.Sleep(59 * time.Second)
		}
		began := time.Now()
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("an idle connection: %v, want its end", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("ended %s after it should be gone soon", took)
		}
		l.group.Wait()
	})
}

// A client that leaves while its request waits ends the request's context.
func TestLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, l, under, _ := late(t)
		io.WriteString(client, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
		ctx := <-under
		client.Close()
		<-ctx.Done()
		l.group.Wait()
	})
}

// A shutdown leaves it to a request that waits to end, and closes its connection then.
func TestShutdownWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, l, under, release := late(t)
		io.WriteString(client, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
		ctx := <-under
		ended := make(chan error, 1)
		go func() { ended <- l.Shutdown(t.Context()) }()
		synctest.Wait()
		if ctx.Err() != nil || len(ended) > 0 {
			t.Errorf("the request's context: %v; shutdown ended: %t", ctx.Err(), len(ended) > 0)
		}
		release <- true
		in := bufio.NewReader(client)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("after the answer: %v, want the end", err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// FuzzRequest compares what is read with what net/http reads of the same bytes. Where
// the fast path takes a request, net/http must take it too, and see the same.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET /fast/a?b=c&d HTTP/1.1\r\nHost: a:80\r\nUser-Agent: x y\r\nX-Consul-Token: t\r\n\r\n",
		"PUT /fast/a HTTP/1.1\r\nhost: [::1]:80\r\ncontent-length: 3\r\nA: 1\r\na: 2\r\n\r\nabc",
		"GET /fast/? HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: Keep-Alive\r\n\r\nGET /",
		"GET /fast/$&+:=@,;~_-. HTTP/1.1\r\nHost: a\r\n\r\n", "GET /fast/a?%zz|\"<> HTTP/1.1\r\nHost: a\r\nX:\t y \r\n\r\n",
		"PUT /fast/a HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n", "GET /fast/?? HTTP/1.1\r\nHost: -\r\nX: \r\n\r\n",
		"GET /fast/a HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", "GET /fast/a HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > size {
			return
		}
		c := &conn{l: &Listener{cfg: Config{Takes: func(string, string) (bool, bool) { return true, false }}}, header: http.Header{}, req: &http.Request{}}
		c.buf = append([]byte{}, sent...)
		for first := true; len(c.buf) > 0; first = false {
			used, ok := c.take()
			if !ok {
				return
			}
			in := bufio.NewReader(bytes.NewReader(c.buf))
			want, err := http.ReadRequest(in)
			if err != nil {
				t.Fatalf("taken, but net/http says %v", err)
			}
			wanted, err := io.ReadAll(want.Body)
			if err != nil {
				t.Fatalf("taken, but net/http reads its body: %v", err)
			}
			body, _ := io.ReadAll(c.req.Body)
			if rest := in.Buffered(); first && len(c.buf)-used != rest {
				t.Errorf("%d bytes are left, net/http leaves %d", len(c.buf)-used, rest)
			}
			type seen struct {
				method, host, uri string
				url               url.URL
				header            http.Header
				length            int64
				body              string
				close             bool
			}
			g := seen{c.req.Method, c.req.Host, c.req.RequestURI, *c.req.URL, c.req.Header, c.req.ContentLength, string(body), c.req.Close}
			w := seen{want.Method, want.Host, want.RequestURI, *want.URL, want.Header, want.ContentLength, string(wanted), want.Close}
			if !reflect.DeepEqual(g, w) {
				t.Errorf("read as\n%+v, net/http reads\n%+v", g, w)
			}
			c.buf = c.buf[used:]
		}
	})
}
