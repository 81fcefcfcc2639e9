package agent

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/armon/go-metrics"

	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/host"
	"github.com/rollcall/rollcall/server/internal/logging"
	"github.com/rollcall/rollcall/server/internal/telemetry"
)

// openLog opens where the log goes.
func (a *Agent) openLog(cfg *config.Config) error {
	level, err := daemon.Level(cfg.LogLevel)
	if err != nil {
		return err
	}
	a.level.Set(level)
	a.logs, err = logging.Open(logging.Config{
		Level: a.level, JSON: cfg.LogJSON, Stream: a.opts.Stderr, Syslog: cfg.Syslog, Facility: config.Facility(cfg.SyslogFacility),
		File: logging.File{Path: cfg.LogFile, MaxBytes: cfg.LogRotateBytes, MaxAge: cfg.LogRotateDuration, Keep: cfg.LogRotateMaxFiles},
	})
	if err != nil {
		return err
	}
	a.log = a.logs.Logger()
	return nil
}

// openTelemetry opens where metrics go. It comes before gossip and consensus, which
// measure.
func (a *Agent) openTelemetry() error {
	cfg := a.cfg()
	t := &cfg.Telemetry
	var err error
	a.metrics, err = telemetry.Open(telemetry.Config{
		Prefix: t.Prefix, Host: !t.DisableHostname && !cfg.Dev, Filter: t.PrefixFilter, Rest: *t.FilterDefault,
		Statsd: t.Statsd, Statsite: t.Statsite, Dogstatsd: t.Dogstatsd, Tags: t.DogstatsdTags, Retention: t.Retention, Log: a.log,
	})
	if err != nil {
		return err
	}
	a.metrics.Each(a.measure)
	a.metrics.Each(a.dnsMeasure())
	return nil
}

// measure sets the gauges that say how this agent and its cluster are.
func (a *Agent) measure(m *metrics.Metrics) {
	gauge := func(n int, name ...string) { m.SetGauge(name, float32(n)) }
	gauge(len(a.local.Services()), "agent", "services")
	gauge(len(a.local.Checks()), "agent", "checks")
	servers, clients := 0, 0
	for _, member := range a.pool.Members() {
		if member.Tags["role"] == "consul" {
			servers++
		} else {
			clients++
		}
	}
	gauge(servers, "members", "servers")
	gauge(clients, "members", "clients")
	if a.raft == nil {
		return
	}
	leads := 0
	if a.raft.IsLeader() {
		leads = 1
	}
	gauge(leads, "server", "isLeader")
	gauge(int(a.raft.AppliedIndex()), "raft", "applied_index")
}

// insight is the agent's running as the HTTP API shows it.
type insight struct{ a *Agent }

// Level reports whether a level has that name.
func (i insight) Level(name string) bool {
	_, err := daemon.Level(name)
	return err == nil
}

// Follow hands on the log's lines from a level on.
func (i insight) Follow(ctx context.Context, level string, json bool, write func([]byte) error) error {
	l, err := daemon.Level(level)
	if err != nil {
		return err
	}
	return i.a.logs.Follow(ctx, l, json, write)
}

// Metrics gives the last interval's.
func (i insight) Metrics() (any, error) { return i.a.metrics.Summary() }

// StreamMetrics hands on every interval's.
func (i insight) StreamMetrics(ctx context.Context, each func(any) error) {
	i.a.metrics.Stream(ctx, each)
}

// Prometheus writes them in that form, unless it is off.
func (i insight) Prometheus(w io.Writer) (bool, error) {
	err := i.a.metrics.Prometheus(w)
	if errors.Is(err, telemetry.ErrNoPrometheus) {
		return false, nil
	}
	return true, err
}

// Host looks at the machine, and at the disk that has the data.
func (i insight) Host() any {
	dir := i.a.cfg().DataDir
	if dir == "" {
		dir = "/"
	}
	return host.Look(dir)
}

// Counter gives what measures the answered requests of a verb and a route.
func (i insight) Counter(verb, route string) func(began time.Time) {
	return i.a.metrics.Requests(verb, route)
}
