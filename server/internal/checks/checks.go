// Package checks runs health checks and reports their results. It is level-triggered: it
// is given the checks that should run, compares them with those that do, and starts and
// stops the difference; a check whose definition did not change goes on undisturbed. One
// file holds one kind. It knows neither where definitions come from nor where results
// go.
package checks

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// Wanted is a check that should run.
type Wanted struct {
	Def *api.CheckDefinition
	// Status is the present one.
	Status string
	// Expires is when a TTL check turns critical unless it is reported on; zero for a
	// full TTL from now.
	Expires time.Time
	Output  string
}

// Config is what New needs.
type Config struct {
	// Report takes a result. It may be called concurrently and must not block for long.
	Report func(id, status, output string)
	// Splay bounds the random delay before a check's first run; default its interval.
	Splay time.Duration
	Log   *slog.Logger
}

// Runner runs checks. Run may be called once.
type Runner struct {
	cfg     Config
	log     *slog.Logger
	running map[string]*running // used by Run only
	group   sync.WaitGroup
}

type running struct {
	def     *api.CheckDefinition
	expires time.Time
	stop    context.CancelFunc
	done    chan struct{}
}

// A probe is one look at whether something is well.
type probe func(ctx context.Context) (status, output string)

// Supported refuses a kind of check that this version cannot run.
func Supported(def *api.CheckDefinition) error {
	switch kind := def.Kind(); kind {
	case "ttl", "http", "tcp":
		return nil
	default:
		return api.Errorf(api.Invalid, "checks of kind %q are not run by this version; use a TTL, HTTP or TCP check", kind)
	}
}

// New makes a runner; it starts nothing.
func New(cfg Config) *Runner {
	return &Runner{cfg: cfg, log: cfg.Log.With("room", "checks"), running: map[string]*running{}}
}

// Run keeps the checks that run equal to what desired gives, and looks again whenever
// the channel that changed gave before has closed, until ctx ends. It returns when the
// last check has ended.
func (r *Runner) Run(ctx context.Context, changed func() <-chan struct{}, desired func() map[string]Wanted) error {
	defer r.group.Wait()
	for {
		news := changed()
		r.apply(ctx, desired())
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		}
	}
}

// apply starts and stops the difference.
func (r *Runner) apply(ctx context.Context, desired map[string]Wanted) {
	for id, run := range r.running {
		w, ok := desired[id]
		if ok && reflect.DeepEqual(w.Def, run.def) && (run.expires.Equal(w.Expires) || w.Def.TTL == 0) {
			continue
		}
		run.stop()
		<-run.done // or a late result of the old one would follow the new one's
		delete(r.running, id)
	}
	for id, w := range desired {
		if r.running[id] != nil {
			continue
		}
		own, stop := context.WithCancel(ctx)
		run := &running{def: w.Def, expires: w.Expires, stop: stop, done: make(chan struct{})}
		r.running[id] = run
		r.group.Go(func() {
			defer close(run.done)
			r.run(own, id, w)
		})
	}
}

// run runs one check until ctx ends.
func (r *Runner) run(ctx context.Context, id string, w Wanted) {
	switch w.Def.Kind() {
	case "ttl":
		r.ttl(ctx, id, w)
	case "http":
		p, done := httpProbe(w.Def)
		defer done()
		r.repeat(ctx, id, w, p)
	case "tcp":
		r.repeat(ctx, id, w, tcpProbe(w.Def))
	}
}

// repeat probes at the check's interval, the first time after a random part of it, so
// that many checks registered at once do not probe at once.
func (r *Runner) repeat(ctx context.Context, id string, w Wanted, p probe) {
	interval := max(time.Duration(w.Def.Interval), api.MinInterval)
	splay := interval
	if r.cfg.Splay > 0 {
		splay = min(splay, r.cfg.Splay)
	}
	next := time.NewTimer(rand.N(splay))
	defer next.Stop()
	limit := time.Duration(w.Def.Timeout)
	if limit <= 0 {
		limit = defaultTimeout
	}
	judge := threshold{def: w.Def, status: w.Status}
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		bounded, cancel := context.WithTimeout(ctx, limit)
		status, output := p(bounded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		r.cfg.Report(id, judge.take(status), output)
		next.Reset(interval)
	}
}

// defaultTimeout bounds one probe.
const defaultTimeout = 10 * time.Second

// threshold turns single results into a status: only as many successes, or failures, in
// a row as the definition asks for change it.
type threshold struct {
	def             *api.CheckDefinition
	status          string
	passes, failing int
}

func (t *threshold) take(result string) string {
	if result != api.Critical {
		t.failing = 0
		if t.passes++; t.passes >= max(t.def.SuccessBeforePassing, 1) || t.status == result {
			t.status = result
		}
		return t.status
	}
	t.passes = 0
	t.failing++
	warn := t.def.FailuresBeforeWarning
	if warn == 0 {
		warn = t.def.FailuresBeforeCritical
	}
	switch {
	case t.failing >= max(t.def.FailuresBeforeCritical, 1):
		t.status = api.Critical
	case t.failing >= max(warn, 1) && t.status != api.Critical:
		t.status = api.Warning
	}
	return t.status
}
