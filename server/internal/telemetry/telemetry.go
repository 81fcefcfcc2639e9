// Package telemetry keeps the agent's metrics and sends them on: into memory, for the HTTP
// API, in Prometheus's form, and to statsd, statsite and dogstatsd. Names are Consul's. The
// libraries for consensus and gossip measure through it too, which is why Open sets the
// process's own collector: one agent a process.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/armon/go-metrics"
	sink "github.com/armon/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// Config is what Open needs.
type Config struct {
	// Prefix is what every name begins with. Host puts the host's name behind it, in the
	// names of gauges.
	Prefix string
	Host   bool
	// Filter are prefixes of names, with + before those to let through and - before those
	// to hold back; the longest counts. Others are let through if Rest is set.
	Filter []string
	Rest   bool
	// Statsd, Statsite and Dogstatsd are host:port, "" is off. Tags are for Dogstatsd.
	Statsd, Statsite, Dogstatsd string
	Tags                        []string
	// Retention is how long a metric that is not set any more is shown to Prometheus; 0
	// turns that form off.
	Retention time.Duration
	Log       *slog.Logger
}

// The metrics in memory are of intervals, of which the last few are kept.
const (
	interval = 10 * time.Second
	retained = time.Minute
	// everyStats is how often the process's own state is measured.
	everyStats = 5 * time.Second
)

// ErrNoPrometheus is what Prometheus gives where the configuration turns it off.
var ErrNoPrometheus = errors.New("Prometheus is not enabled since its retention time is not positive") //nolint:staticcheck // Consul's words

// Telemetry is an agent's metrics. Its methods may be called concurrently.
type Telemetry struct {
	cfg      Config
	memory   *metrics.InmemSink
	metrics  *metrics.Metrics
	registry *prometheus.Registry // nil if off
	wires    []*wire
	measure  []func(*metrics.Metrics)
	routes   sync.Map    // [2]string of verb and route → *route
	alone    atomic.Bool // memory is the only sink, and takes every name
}

// Open makes the collector and sets it as the process's. It sends nothing before Run.
func Open(cfg Config) (*Telemetry, error) {
	t := &Telemetry{cfg: cfg, memory: metrics.NewInmemSink(interval, retained)}
	sinks := metrics.FanoutSink{t.memory}
	log := cfg.Log.With("room", "telemetry")
	for _, w := range []struct {
		dialect dialect
		addr    string
	}{{statsd, cfg.Statsd}, {statsite, cfg.Statsite}, {dogstatsd, cfg.Dogstatsd}} {
		if w.addr != "" {
			wire := newWire(w.dialect, w.addr, cfg.Tags, log)
			t.wires = append(t.wires, wire)
			sinks = append(sinks, wire)
		}
	}
	if cfg.Retention > 0 {
		t.registry = prometheus.NewRegistry()
		p, err := sink.NewPrometheusSinkFrom(sink.PrometheusOpts{Expiration: cfg.Retention, Registerer: t.registry})
		if err != nil {
			return nil, fmt.Errorf("telemetry for Prometheus: %w", err)
		}
		sinks = append(sinks, p)
	}
	c := metrics.DefaultConfig(cfg.Prefix)
	c.EnableRuntimeMetrics = false // Run measures, and ends
	c.EnableHostname = cfg.Host
	c.FilterDefault = cfg.Rest
	if c.HostName == "" {
		c.HostName, _ = os.Hostname() // without a name, gauges have none
	}
	c.AllowedPrefixes, c.BlockedPrefixes = split(cfg.Filter)
	t.alone.Store(len(sinks) == 1 && len(cfg.Filter) == 0 && cfg.Rest)
	var err error
	if t.metrics, err = metrics.NewGlobal(c, sinks); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return t, nil
}

func split(filter []string) (allow, block []string) {
	for _, f := range filter {
		if name, ok := strings.CutPrefix(f, "-"); ok {
			block = append(block, name)
		} else {
			allow = append(allow, strings.TrimPrefix(f, "+"))
		}
	}
	return allow, block
}

// Each has f called in every round of measuring, to set gauges. Call it before Run.
func (t *Telemetry) Each(f func(*metrics.Metrics)) { t.measure = append(t.measure, f) }

// Run measures and sends until ctx ends.
func (t *Telemetry) Run(ctx context.Context) error {
	ended := make(chan struct{}, len(t.wires))
	for _, w := range t.wires {
		go func() {
			w.run(ctx)
			ended <- struct{}{}
		}()
	}
	tick := time.NewTicker(everyStats)
	defer tick.Stop()
	for {
		t.metrics.EmitRuntimeStats()
		for _, f := range t.measure {
			f(t.metrics)
		}
		select {
		case <-ctx.Done():
			for range t.wires {
				<-ended
			}
			return nil
		case <-tick.C:
		}
	}
}

// Filter takes over which names are let through.
func (t *Telemetry) Filter(filter []string) {
	t.metrics.UpdateFilter(split(filter))
	if len(filter) > 0 {
		t.alone.Store(false)
	}
}

// Summary gives the last full interval, in the shape of Consul's /v1/agent/metrics.
func (t *Telemetry) Summary() (any, error) {
	s, err := t.memory.DisplayMetrics(nil, nil)
	return t.with(s), err
}

// Stream calls each with the summary of every interval as it ends, until ctx ends or each
// fails.
func (t *Telemetry) Stream(ctx context.Context, each func(any) error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.memory.Stream(ctx, encoder(func(v any) error {
		err := each(t.with(v))
		if err != nil {
			cancel()
		}
		return err
	}))
}

type encoder func(any) error

func (e encoder) Encode(v any) error { return e(v) }

// Prometheus writes all metrics in Prometheus's text form, the process's own included, or
// gives ErrNoPrometheus.
func (t *Telemetry) Prometheus(w io.Writer) error {
	if t.registry == nil {
		return ErrNoPrometheus
	}
	families, err := prometheus.Gatherers{t.registry, prometheus.DefaultGatherer}.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
	}
	return nil
}
