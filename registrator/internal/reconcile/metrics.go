package reconcile

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

type metrics struct {
	containers *prometheus.GaugeVec
	services   *prometheus.GaugeVec
	written    *prometheus.CounterVec
	latency    prometheus.Histogram
	reconcile  prometheus.Histogram
	conflicts  prometheus.Counter
	connected  atomic.Bool
	standby    atomic.Bool
	seen       time.Time // owner's; gauges are renewed at most once a second
}

func newMetrics(reg prometheus.Registerer, _ *Reconciler) *metrics {
	m := &metrics{
		containers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registrator_containers", Help: "Containers, by phase."}, []string{"phase"}),
		services: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registrator_services", Help: "Services of ours, by status."}, []string{"status"}),
		written: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registrator_writes_total", Help: "Writes to the catalog, by kind and result."}, []string{"op", "result"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "registrator_event_to_catalog_seconds", Help: "From the engine's event to the answered write.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 5, 30}}),
		reconcile: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "registrator_reconcile_seconds", Help: "From a look at the agent until nothing was left to write.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 5, 30}}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registrator_conflicts_total", Help: "Entries left alone because something else writes them."}),
	}
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "registrator_catalog_connected", Help: "1 while the catalog answers."}, func() float64 {
		if m.connected.Load() {
			return 1
		}
		return 0
	})
	active := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "registrator_active", Help: "1 while it writes, 0 while it stands by (-lock)."}, func() float64 {
		if m.standby.Load() {
			return 0
		}
		return 1
	})
	reg.MustRegister(active, m.containers, m.services, m.written, m.latency, m.reconcile, m.conflicts, up)
	return m
}

func (m *metrics) writes(op string, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.written.WithLabelValues(op, result).Inc()
}

// took measures the way from an event to the write that it led to, once an event; 0 where
// there was none: an event of the life before led to nothing of this one.
func (m *metrics) took(e *entry) time.Duration {
	if e.item == nil || e.item.Event.IsZero() || e.item.Event.Equal(e.seen) || e.item.Event.Before(e.item.StartedAt) {
		return 0
	}
	e.seen = e.item.Event
	d := time.Since(e.seen)
	m.latency.Observe(d.Seconds())
	return d
}

// see renews the gauges.
func (m *metrics) see(r *Reconciler) {
	m.connected.Store(r.connected)
	m.standby.Store(r.standby != "")
	now := time.Now()
	if now.Sub(m.seen) < time.Second {
		return
	}
	m.seen = now
	for _, p := range []watcher.Phase{watcher.Running, watcher.Draining, watcher.Held, watcher.Exited, watcher.Unknown, watcher.Lost} {
		n := 0
		for _, i := range r.set {
			if i.Phase == p {
				n++
			}
		}
		m.containers.WithLabelValues(string(p)).Set(float64(n))
	}
	count := map[string]int{"registered": 0, "pending": 0, "failing": 0, "conflict": 0, "maintenance": 0}
	for _, e := range r.entries {
		if e.want == nil {
			continue
		}
		s, _ := r.status(e, e.item)
		count[s]++
	}
	for s, n := range count {
		m.services.WithLabelValues(s).Set(float64(n))
	}
}
