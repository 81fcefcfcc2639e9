package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/armon/go-metrics"
)

// The tests do not run in parallel: Open sets the process's collector.

func open(t *testing.T, cfg Config) *Telemetry {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	if cfg.Prefix == "" {
		cfg.Prefix = "consul"
	}
	tel, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tel
}

// summary is what clients of Consul read.
type summary struct {
	Timestamp         string
	Gauges            []struct{ Name string }
	Counters, Samples []struct {
		Name   string
		Count  int
		Labels map[string]string
	}
}

func read(t *testing.T, v any) summary {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var s summary
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSummary(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	tel := open(t, Config{Rest: true, Host: true})
	ctx, stop := context.WithCancel(t.Context())
	measured := make(chan struct{})
	tel.Each(func(m *metrics.Metrics) { m.SetGauge([]string{"mine"}, 1); close(measured) })
	done := make(chan error, 1)
	go func() { done <- tel.Run(ctx) }()
	<-measured
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	metrics.IncrCounter([]string{"raft", "apply"}, 1) // as the libraries do
	tel.Requests("GET", "/v1/health/service/")(time.Now())
	v, err := tel.Summary()
	if err != nil {
		t.Fatal(err)
	}
	s := read(t, v)
	for _, want := range []string{"runtime.alloc_bytes", "mine"} {
		if !slices.ContainsFunc(s.Gauges, func(g struct{ Name string }) bool { return g.Name == "consul."+host+"."+want }) {
			t.Errorf("no gauge %s in %v", want, s.Gauges)
		}
	}
	if len(s.Counters) != 1 || s.Counters[0].Name != "consul.raft.apply" || s.Counters[0].Count != 1 {
		t.Errorf("counters %v", s.Counters)
	}
	if len(s.Samples) == 0 || s.Samples[0].Name != "consul.api.http" || s.Samples[0].Labels["path"] != "v1_health_service" || s.Samples[0].Labels["method"] != "GET" {
		t.Errorf("samples %v", s.Samples)
	}
}

func TestFilter(t *testing.T) {
	tel := open(t, Config{Filter: []string{"+consul.raft", "-consul.raft.noise"}})
	count := func(names ...string) string {
		for _, n := range names {
			metrics.IncrCounter(strings.Split(n, "."), 1)
		}
		v, err := tel.Summary()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range read(t, v).Counters {
			got = append(got, c.Name)
		}
		return strings.Join(got, " ")
	}
	if got, want := count("raft.apply", "raft.noise.x", "serf.events"), "consul.raft.apply"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	tel.Filter([]string{"+consul.serf"})
	if got, want := count("raft.later", "serf.events"), "consul.raft.apply consul.serf.events"; got != want {
		t.Errorf("after a reload: got %s, want %s", got, want)
	}
}

func TestPrometheus(t *testing.T) {
	var b bytes.Buffer
	if err := open(t, Config{Rest: true}).Prometheus(&b); !errors.Is(err, ErrNoPrometheus) {
		t.Errorf("without retention: %v", err)
	}
	tel := open(t, Config{Rest: true, Retention: time.Minute})
	tel.Requests("PUT", "/v1/kv/")(time.Now())
	metrics.SetGauge([]string{"members"}, 3)
	if err := tel.Prometheus(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"consul_members 3\n", `consul_api_http_count{method="PUT",path="v1_kv"} 1`, "go_goroutines "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// An interval is told once it is over, which the first metric of the next one shows.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := open(t, Config{Rest: true})
		pass := func() {
			metrics.IncrCounter([]string{"a"}, 1)
			synctest.Wait()
			time.Sleep(interval)
			metrics.IncrCounter([]string{"a"}, 1)
			synctest.Wait()
		}
		ctx, stop := context.WithCancel(t.Context())
		var got []summary
		done := make(chan struct{})
		metrics.IncrCounter([]string{"a"}, 1)
		go func() {
			defer close(done)
			tel.Stream(ctx, func(v any) error { got = append(got, read(t, v)); return nil })
		}()
		pass()
		stop()
		<-done
		if len(got) == 0 || len(got[0].Counters) != 1 || got[0].Counters[0].Count != 2 {
			t.Errorf("got %+v", got)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tel.Stream(t.Context(), func(any) error { return errors.New("gone") })
		}()
		pass()
		<-ended
	})
}

// lines runs a wire with a collector until it has sent what was set.
func lines(t *testing.T, d dialect, tags []string, set func(*wire)) string {
	t.Helper()
	var addr string
	var receive func() (string, error)
	if d == statsite {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addr = l.Addr().String()
		receive = func() (string, error) {
			c, err := l.Accept()
			if err != nil {
				return "", err
			}
			defer c.Close()
			b := make([]byte, 4096)
			n, err := c.Read(b)
			return string(b[:n]), err
		}
	} else {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		addr = c.LocalAddr().String()
		receive = func() (string, error) {
			b := make([]byte, 4096)
			n, _, err := c.ReadFrom(b)
			return string(b[:n]), err
		}
	}
	w := newWire(d, addr, tags, slog.New(slog.DiscardHandler))
	set(w)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.run(ctx); close(ended) }()
	got, err := receive()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	<-ended
	return got
}

func TestWires(t *testing.T) {
	set := func(w *wire) {
		w.SetGauge([]string{"consul", "my host", "x"}, 1.5)
		w.IncrCounterWithLabels([]string{"consul", "rpc"}, 2, []metrics.Label{{Name: "dc", Value: "dc,1"}})
		w.AddSample([]string{"consul", "t:m"}, 3)
		w.EmitKey([]string{"k"}, 4)
	}
	for _, c := range []struct {
		dialect dialect
		tags    []string
		want    string
	}{
		{statsd, nil, "consul.my_host.x:1.5|g\nconsul.rpc.dc,1:2|c\nconsul.t_m:3|ms\nk:4|kv\n"},
		{statsite, []string{"not:here"}, "consul.my_host.x:1.5|g\nconsul.rpc.dc,1:2|c\nconsul.t_m:3|ms\nk:4|kv\n"},
		{dogstatsd, nil, "consul.my_host.x:1.5|g\nconsul.rpc:2|c|#dc:dc_1\nconsul.t_m:3|ms\n"},
		{dogstatsd, []string{"env:a", "b"}, "consul.my_host.x:1.5|g|#env:a,b\nconsul.rpc:2|c|#env:a,b,dc:dc_1\nconsul.t_m:3|ms|#env:a,b\n"},
	} {
		if got := lines(t, c.dialect, c.tags, set); got != c.want {
			t.Errorf("dialect %d, tags %q: got\n%swant\n%s", c.dialect, c.tags, got, c.want)
		}
	}
}

// A collector that is away holds nobody up and costs a bounded queue.
func TestCollectorAway(t *testing.T) {
	w := newWire(statsite, "127.0.0.1:1", nil, slog.New(slog.DiscardHandler))
	for range 2 * queued {
		w.IncrCounter([]string{"a"}, 1)
	}
	if n := len(w.lines); n != queued {
		t.Errorf("%d lines wait, want %d", n, queued)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.run(ctx); close(ended) }()
	stop()
	<-ended
}

// BenchmarkRequest is what measuring adds to every answered request.
func BenchmarkRequest(b *testing.B) {
	for name, retention := range map[string]time.Duration{"memory": 0, "prometheus too": time.Minute} {
		b.Run(name, func(b *testing.B) {
			tel, err := Open(Config{Prefix: "consul", Rest: true, Retention: retention, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			count := tel.Requests("GET", "/v1/health/service/")
			b.ReportAllocs()
			for b.Loop() {
				count(began)
			}
		})
	}
}

// A summary has the requests of its own interval: those of the last full one, once there
// is one, and none where none came.
func TestRequestsByInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tel := open(t, Config{Rest: true})
		for _, want := range []struct{ requests, count int }{{2, 2}, {1, 2}, {0, 1}, {0, 0}, {5, 0}, {0, 5}} {
			for range want.requests {
				tel.Requests("GET", "/v1/kv/")(time.Now().Add(-3 * time.Millisecond))
			}
			v, err := tel.Summary()
			if err != nil {
				t.Fatal(err)
			}
			got, mean := 0, 0.0
			for _, s := range v.(metrics.MetricsSummary).Samples {
				if s.Name == "consul.api.http" {
					got, mean = s.Count, s.Mean
				}
			}
			if got != want.count || got > 0 && mean != 3 {
				t.Errorf("after %d more requests: %d of %g ms, want %d of 3 ms", want.requests, got, mean, want.count)
			}
			time.Sleep(interval)
		}
	})
}
