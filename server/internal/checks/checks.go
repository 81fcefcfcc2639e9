// Package checks runs health checks and reports their results. One file holds one kind.
// A single goroutine owns all checks and one timer; a check has a goroutine of its own
// only while it looks at something. The room is told what changed, so that a change
// costs as much as it is large, and a check whose definition did not change goes on
// undisturbed. It knows neither where definitions come from nor where results go: both
// are its Source. The composition root runs it.
package checks

import (
	"context"
	"crypto/tls"
	"io"
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
	// Status is the present one, where thresholds begin.
	Status string
	// Refused, if set, says why the check may not run here; it is critical then.
	Refused error
}

// Changes are what became different.
type Changes struct {
	// Checks are definitions that are new, changed or gone (nil), by check id.
	Checks map[string]*Wanted
	// Health are the ids of services whose health may have changed; "" is the node's.
	Health []string
}

// Source is whose checks these are. Its methods are called by Run's goroutine only.
type Source interface {
	// Wake gives the channel that holds a token when there are changes.
	Wake() <-chan struct{}
	// Take gives what changed since the last call; the first call gives everything.
	Take() Changes
	// Report takes a check's result. A check that is gone is none of its concern.
	Report(id, status, output string)
	// Expire turns a TTL check critical if its last report has run out, and says when to
	// look again. The output is made from the last one.
	Expire(id string, output func(last string) string) (look time.Time)
	// ServiceChecks gives the checks that bear on a service of this agent, and whether
	// there is one of that id.
	ServiceChecks(service string) (all []*api.Check, known bool)
}

// Catalog is what alias checks of other nodes read.
type Catalog interface {
	// NodeChecks blocks until a node's checks are newer than index, or some time is over.
	NodeChecks(ctx context.Context, node string, index uint64) (all []*api.Check, next uint64, err error)
	// NodeService reports whether a node has a service of that id.
	NodeService(ctx context.Context, node, service string) (bool, error)
}

// Executor runs commands inside containers.
type Executor interface {
	Exec(ctx context.Context, container string, cmd []string, out io.Writer) (exitCode int, err error)
}

// Config is what New needs.
type Config struct {
	// Node is this agent's name.
	Node string
	// MaxOutput is how many bytes of output a check keeps, unless it wants less. Default 4096.
	MaxOutput int
	// TLS gives the base of what checks over TLS use, for an agent that shows its own
	// certificate to what it checks; nil for none. Each look asks anew.
	TLS func() *tls.Config
	// Docker runs commands for docker checks.
	Docker Executor
	// Catalog is read by alias checks.
	Catalog Catalog
	Log     *slog.Logger
}

// Runner runs checks. Run may be called once.
type Runner struct {
	cfg Config
	src Source
	log *slog.Logger

	// Used by Run's goroutine only.
	entries  map[string]*entry
	schedule schedule
	aliases  map[string]map[*entry]bool // local alias checks, by the service they follow
	begun    time.Time                  // when a new check that is critical was due last

	results chan result
	group   sync.WaitGroup
}

// entry is a check that runs.
type entry struct {
	id     string
	want   *Wanted
	said   string // the status last reported
	judge  threshold
	probe  probe         // nil for kinds that are not repeated
	pause  time.Duration // before the next look, of a new check that has not answered; else 0
	next   time.Time     // when it is due, while scheduled
	at     int           // its place in the schedule
	ctx    context.Context
	cancel context.CancelFunc
}

// result is what a probe found.
type result struct {
	entry          *entry
	status, output string
}

// A probe is one look at whether something is well. Its context ends at the check's
// timeout.
type probe func(ctx context.Context) (status, output string)

// New makes a runner; it starts nothing.
func New(cfg Config, src Source) *Runner {
	if cfg.MaxOutput == 0 {
		cfg.MaxOutput = 4096
	}
	if cfg.TLS == nil {
		cfg.TLS = func() *tls.Config { return nil }
	}
	return &Runner{
		cfg: cfg, src: src, log: cfg.Log.With("room", "checks"),
		entries: map[string]*entry{}, aliases: map[string]map[*entry]bool{}, results: make(chan result),
	}
}

// Run runs what the source wants until ctx ends. It returns when the last probe has
// ended.
func (r *Runner) Run(ctx context.Context) error {
	defer r.group.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.src.Wake():
			r.take(ctx)
		case res := <-r.results:
			r.finish(res)
		case <-timer.C:
			now := time.Now()
			for e, ok := r.schedule.due(now); ok; e, ok = r.schedule.due(now) {
				r.due(e, now)
			}
		}
		timer.Reset(r.schedule.wait(time.Now()))
	}
}

// take starts and stops what changed.
func (r *Runner) take(ctx context.Context) {
	c := r.src.Take()
	for id, want := range c.Checks {
		old := r.entries[id]
		if old != nil {
			if want != nil && undisturbed(old.want, want) {
				old.said, old.judge.status = want.Status, want.Status
				continue
			}
			r.stop(old)
		}
		if want != nil {
			r.start(ctx, id, want)
		}
	}
	r.followers(c.Health)
}

// undisturbed reports whether a check goes on as it does: it is registered again as it
// was. Between two looks of ours it may also have been removed and come back without what
// was reported on it. What is repeated reports soon; what only reports changes begins anew.
func undisturbed(old, want *Wanted) bool {
	return want.Refused == nil && old.Refused == nil && want.Def.Kind() != "alias" && reflect.DeepEqual(want.Def, old.Def)
}

// stop ends a check. A probe that is under way may end later; its result is dropped.
func (r *Runner) stop(e *entry) {
	e.cancel()
	r.schedule.drop(e)
	r.unfollow(e)
	delete(r.entries, e.id)
}

// What has just been started does not wait an interval for its first traffic: a new check
// that is critical is looked at soon, and after pauses that grow to its interval, until
// something answers.
const (
	firstPause = 100 * time.Millisecond
	apart      = 5 * time.Millisecond // of such checks that begin at once
)

// start begins a check. The first look at one that passes is after a random part of the
// interval, so that many checks registered at once do not look at once.
func (r *Runner) start(ctx context.Context, id string, want *Wanted) {
	e := &entry{id: id, want: want, said: want.Status, judge: threshold{def: want.Def, status: want.Status}, at: unscheduled}
	e.ctx, e.cancel = context.WithCancel(ctx)
	r.entries[id] = e
	if want.Refused != nil {
		r.src.Report(id, api.Critical, want.Refused.Error())
		return
	}
	switch want.Def.Kind() {
	case "ttl":
		r.schedule.put(e, time.Now())
		return
	case "alias":
		r.follow(e)
		return
	}
	if e.probe = r.probe(want.Def); e.probe == nil {
		return
	}
	if d := time.Duration(want.Def.Interval); d < api.MinInterval {
		r.log.Warn("the interval of a check is too short; it is raised", "check", id, "interval", d.String(), "to", api.MinInterval.String())
	}
	now := time.Now()
	first := now.Add(rand.N(interval(want.Def)))
	if want.Status == api.Critical {
		e.pause = firstPause
		soon := r.begun.Add(apart)
		if soon.Before(now) {
			soon = now
		}
		if soon.Before(first) {
			first, r.begun = soon, soon
		}
	}
	r.schedule.put(e, first)
}

// probe makes the probe of a kind, nil if there is none.
func (r *Runner) probe(def *api.CheckDefinition) probe {
	switch def.Kind() {
	case "http":
		return r.httpProbe(def)
	case "tcp":
		return r.tcpProbe(def)
	case "udp":
		return udpProbe(def)
	case "grpc":
		return r.grpcProbe(def)
	case "h2ping":
		return r.h2pingProbe(def)
	case "docker":
		return r.dockerProbe(def)
	case "script":
		return r.scriptProbe(def)
	case "os_service":
		return osServiceProbe(def)
	}
	return nil
}

// due looks: at a TTL here and now, at all else in a goroutine of its own.
func (r *Runner) due(e *entry, now time.Time) {
	if e.probe == nil {
		look := r.src.Expire(e.id, expired)
		if look.IsZero() { // it is gone; should it come back, it is new
			r.stop(e)
			return
		}
		r.schedule.put(e, later(look, now))
		return
	}
	r.group.Go(func() {
		ctx, cancel := context.WithTimeoutCause(e.ctx, timeout(e.want.Def), errTimeout)
		status, output := e.probe(ctx)
		cancel()
		select {
		case r.results <- result{e, status, output}:
		case <-e.ctx.Done():
		}
	})
}

// finish takes the result of a look; the next one is an interval after it.
func (r *Runner) finish(res result) {
	e := res.entry
	if r.entries[e.id] != e {
		return // stopped while it looked
	}
	if e.probe == nil { // an alias
		r.report(e, res.status, res.output)
		return
	}
	if status, settled := e.judge.take(res.status); settled {
		r.report(e, status, res.output)
	}
	pause := interval(e.want.Def)
	if e.pause > 0 && res.status == api.Critical {
		pause = min(e.pause, pause)
		e.pause = pause + pause/2
	} else {
		e.pause = 0
	}
	r.schedule.put(e, time.Now().Add(pause))
}

// report hands on a result, and logs what it changed.
func (r *Runner) report(e *entry, status, output string) {
	if e.said != status {
		level := slog.LevelWarn
		if status == api.Passing {
			level = slog.LevelInfo
		}
		r.log.Log(e.ctx, level, "check changed", "check", e.id, "from", e.said, "to", status)
	}
	e.said = status
	r.src.Report(e.id, status, output)
}

// interval is the pause between two looks.
func interval(def *api.CheckDefinition) time.Duration {
	return max(time.Duration(def.Interval), api.MinInterval)
}

// outputSize is how many bytes of output a check keeps.
func (r *Runner) outputSize(def *api.CheckDefinition) int {
	if def.OutputMaxSize > 0 {
		return min(def.OutputMaxSize, r.cfg.MaxOutput)
	}
	return r.cfg.MaxOutput
}
