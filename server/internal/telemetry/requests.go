package telemetry

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/armon/go-metrics"
)

// requests is the name of what Requests measures. The library appends to a copy of it.
var requests = []string{"api", "http"}

// route is the answered requests of one verb and route. The library would spell its name
// anew for each of them, which is a good part of what a small answer costs: so they are
// added up here, in intervals like the library's, and put with its own when asked for.
type route struct {
	labels []metrics.Label

	mu        sync.Mutex
	now, last metrics.AggregateSample // guarded by mu; of this interval, of the one before
	at, prior int64                   // guarded by mu; which they are, counted from 1970
}

// Requests gives what notes the answered requests of a verb and the path of a route, told
// when each came. Routes and verbs must be few: what is made for each is kept.
func (t *Telemetry) Requests(verb, path string) func(began time.Time) {
	name := strings.ReplaceAll(strings.Trim(path, "/"), "/", "_")
	found, _ := t.routes.LoadOrStore([2]string{verb, path}, &route{labels: []metrics.Label{{Name: "method", Value: verb}, {Name: "path", Value: name}}})
	r := found.(*route)
	return func(began time.Time) {
		if !t.alone.Load() {
			t.metrics.MeasureSinceWithLabels(requests, began, r.labels)
			return
		}
		end := time.Now()
		at := end.UnixNano() / int64(interval)
		took := float64(end.Sub(began)) / float64(time.Millisecond)
		r.mu.Lock()
		if at != r.at {
			r.last, r.prior = r.now, r.at
			r.now, r.at = metrics.AggregateSample{}, at
		}
		r.now.Ingest(took, interval.Seconds())
		r.mu.Unlock()
	}
}

// with puts the requests of a summary's interval among its samples.
func (t *Telemetry) with(summary any) any {
	s, ok := summary.(metrics.MetricsSummary)
	if !ok || !t.alone.Load() {
		return summary
	}
	begin, err := time.Parse(stamp, s.Timestamp)
	if err != nil {
		return summary
	}
	at := begin.UnixNano() / int64(interval)
	name := strings.Join(append([]string{t.cfg.Prefix}, requests...), ".")
	t.routes.Range(func(_, v any) bool {
		r := v.(*route)
		r.mu.Lock()
		defer r.mu.Unlock()
		of := r.now
		switch at {
		case r.at:
		case r.prior:
			of = r.last
		default:
			return true
		}
		labels := map[string]string{}
		hash := name
		for _, l := range r.labels {
			labels[l.Name] = l.Value
			hash += ";" + l.Name + "=" + l.Value
		}
		s.Samples = append(s.Samples, metrics.SampledValue{Name: name, Hash: hash, AggregateSample: &of, Mean: of.Mean(), Stddev: of.Stddev(), DisplayLabels: labels})
		return true
	})
	slices.SortFunc(s.Samples, func(a, b metrics.SampledValue) int { return cmp.Compare(a.Hash, b.Hash) })
	return s
}

// stamp is how the library writes a summary's time.
const stamp = "2006-01-02 15:04:05 -0700 MST"
