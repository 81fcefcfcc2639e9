package httpapi

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// seen is an Insight with two lines of log and one interval of metrics.
type seen struct {
	prometheus bool
	ended      chan error // takes how Follow ended

	mu        sync.Mutex
	requested []string // guarded by mu
}

func (s *seen) Level(name string) bool { return strings.EqualFold(name, "debug") || name == "INFO" }

func (s *seen) Follow(ctx context.Context, level string, json bool, write func([]byte) error) error {
	line := level + " one\n"
	if json {
		line = `{"@level":"` + level + "\"}\n"
	}
	err := errors.Join(write([]byte(line)), write([]byte("two\n")))
	<-ctx.Done()
	if s.ended != nil {
		s.ended <- context.Cause(ctx)
	}
	return err
}

func (s *seen) Metrics() (any, error) { return map[string]any{"Gauges": []string{"g"}}, nil }

func (s *seen) StreamMetrics(ctx context.Context, each func(any) error) {
	for range 2 {
		if err := each(map[string]int{"Points": 1}); err != nil {
			return
		}
	}
	<-ctx.Done()
}

func (s *seen) Prometheus(w io.Writer) (bool, error) {
	if !s.prometheus {
		return false, nil
	}
	_, err := io.WriteString(w, "consul_g 1\n")
	return true, err
}

func (s *seen) Host() any { return map[string]int{"CollectionTime": 1} }

func (s *seen) Counter(verb, route string) func(time.Time) {
	return func(time.Time) { s.answered(verb, route) }
}

func (s *seen) answered(verb, route string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requested = append(s.requested, verb+" "+route)
}

func TestMetrics(t *testing.T) {
	s := &seen{}
	h := newHouse(func(cfg *Config) { cfg.Insight = s })
	for _, c := range []struct {
		url, kind, body string
		code            int
		prometheus      bool
	}{
		{"/v1/agent/metrics", "application/json", `{"Gauges":["g"]}`, 200, false},
		{"/v1/agent/metrics?format=prometheus", "text/plain; charset=utf-8", "Prometheus is not enabled since its retention time is not positive", 415, false},
		{"/v1/agent/metrics?format=prometheus", "text/plain; version=0.0.4; charset=utf-8", "consul_g 1\n", 200, true},
		{"/v1/agent/host", "application/json", `{"CollectionTime":1}`, 200, false},
		{"/v1/agent/monitor?loglevel=loud", "text/plain; charset=utf-8", "Unknown log level: loud", 400, false},
	} {
		s.prometheus = c.prometheus
		r := h.do(t, http.MethodGet, c.url, "")
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != c.code || string(body) != c.body || r.Header.Get("Content-Type") != c.kind {
			t.Errorf("%s: %d %s %q, %v; want %d %s %q", c.url, r.StatusCode, r.Header.Get("Content-Type"), body, err, c.code, c.kind, c.body)
		}
	}
	h.do(t, http.MethodPut, "/v1/kv/some/key", "x")
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.requested); n != 6 || s.requested[n-1] != "PUT /v1/kv/" {
		t.Errorf("measured %q, want six requests, the last by its route", s.requested)
	}
}

// A line is with the client while the answer goes on, plain or compressed; the follower
// goes when the client does, and when the server ends.
func TestMonitor(t *testing.T) {
	for name, c := range map[string]struct {
		url, encoding, want string
	}{
		"plain":      {"/v1/agent/monitor", "identity", "INFO one\n"},
		"a level":    {"/v1/agent/monitor?loglevel=Debug", "identity", "Debug one\n"},
		"JSON":       {"/v1/agent/monitor?loglevel=debug&logjson", "identity", "{\"@level\":\"debug\"}\n"},
		"compressed": {"/v1/agent/monitor", "gzip", "INFO one\n"},
		"metrics":    {"/v1/agent/metrics/stream", "identity", "{\"Points\":1}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &seen{ended: make(chan error, 1)}
			h := newHouse(func(cfg *Config) { cfg.Insight = s })
			addr, end := serving(t, h, "tcp", "127.0.0.1:0")
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			ask := func(ctx context.Context) (*http.Response, string) {
				t.Helper()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+c.url, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept-Encoding", c.encoding)
				r, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				var in io.Reader = r.Body
				if r.Header.Get("Content-Encoding") == "gzip" {
					if in, err = gzip.NewReader(r.Body); err != nil {
						t.Fatal(err)
					}
				}
				line, err := bufio.NewReader(in).ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				return r, line
			}
			r, line := ask(ctx)
			if line != c.want || (r.Header.Get("Content-Encoding") == "gzip") != (c.encoding == "gzip") {
				t.Errorf("got %q, %v; want %q", line, r.Header, c.want)
			}
			if name == "metrics" {
				r.Body.Close()
				return
			}
			leave()
			r.Body.Close()
			<-s.ended
			r, _ = ask(t.Context())
			defer r.Body.Close()
			if err := end(); err != nil {
				t.Error(err)
			}
			if cause := <-s.ended; !errors.Is(cause, errEnding) {
				t.Errorf("at the server's end the follower is told %v", cause)
			}
		})
	}
}
