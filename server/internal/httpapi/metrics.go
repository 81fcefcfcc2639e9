package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// agentMetrics gives the process's metrics, as JSON in Consul's frame or in Prometheus's
// text form.
func agentMetrics(_ context.Context, r *request) (*reply, error) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	if r.query.get("format") == "prometheus" {
		var b strings.Builder
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
				return nil, fmt.Errorf("encode metrics: %w", err)
			}
		}
		return &reply{raw: []byte(b.String()), header: http.Header{"Content-Type": {"text/plain; version=0.0.4; charset=utf-8"}}}, nil
	}
	type gauge struct {
		Name   string
		Value  float64
		Labels map[string]string
	}
	gauges := []gauge{{"consul.runtime.num_goroutines", float64(runtime.NumGoroutine()), map[string]string{}}}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch {
			case m.GetGauge() != nil:
				gauges = append(gauges, gauge{f.GetName(), m.GetGauge().GetValue(), labels})
			case m.GetCounter() != nil:
				gauges = append(gauges, gauge{f.GetName(), m.GetCounter().GetValue(), labels})
			}
		}
	}
	return &reply{value: map[string]any{
		"Timestamp": time.Now().UTC().Format("2006-01-02 15:04:05 -0700 MST"),
		"Gauges":    gauges, "Points": []any{}, "Counters": []any{}, "Samples": []any{},
	}}, nil
}
