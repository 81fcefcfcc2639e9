package watcher

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	events     *prometheus.CounterVec
	connected  prometheus.Gauge
	reconnects prometheus.Counter
	drift      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registrator_events_total", Help: "Events of the engine, by action."}, []string{"action"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "registrator_docker_connected", Help: "1 while the engine answers."}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registrator_docker_reconnects_total", Help: "Times the engine came back."}),
		drift: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registrator_drift_total", Help: "Changes that no event told of, found by looking."}),
	}
	reg.MustRegister(m.events, m.connected, m.reconnects, m.drift)
	return m
}
