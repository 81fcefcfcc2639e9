// Package run is the templater's loop: data or a template changed → render what uses it
// → hand each group's set of files to its worker → apply. It is level-triggered: each
// look computes what shall be, and a worker applies the latest of that, whatever came
// between. Nothing but its configuration ends it.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/render"
	"github.com/rollcall/rollcall/templater/internal/watch"
)

// blockedAfter is how long a template waits for data before a word is said.
const blockedAfter = 10 * time.Second

// settle is how long a template must rest after an edit: editors that write in place
// leave it empty, or half written, for a moment.
const settle = 100 * time.Millisecond

// turn is how long the loop rests at most. A loop that has not turned for a few of these
// hangs: Alive says so, and a supervisor may start the process anew.
const turn = 3 * time.Second

// ErrCatalogLost ends Run where the configuration wants that.
var ErrCatalogLost = errors.New("the catalog has not answered")

// ErrLookup ends a run, where the configuration wants that, since a key is not there.
var ErrLookup = errors.New("err_on_failed_lookup")

// Runner renders and applies one configuration. Run may be called once.
type Runner struct {
	cfg    *config.Config
	pool   *watch.Pool
	log    *slog.Logger
	groups []*group
	files  *fsnotify.Watcher // nil where templates are not followed
	edited chan struct{}     // 1: a template may have changed
	beat   atomic.Int64      // when the loop last turned, in Unix nanoseconds
	live   chan struct{}     // 1: a set went live
	// environ are the catalog's settings, as templates find them in the environment
	environ []string
}

// source is a template with its latest outcome. Used by the loop only.
type source struct {
	cfg       *config.Template
	text      string
	tmpl      *render.Template
	each      *render.Each // nil where the template makes one file
	deps      []render.Dependency
	lacks     []render.Dependency // of these, what it waits for
	clock     uint64              // the pool's, before the latest execution
	fresh     bool                // executed at least once since the text changed
	outputs   []render.Output
	instances map[string]int
	ready     bool
	rendered  string    // the text that gave the outputs
	fell      bool      // its outputs are the fallback
	executed  int       // how often
	wait      time.Time // since when data is missing
	said      bool      // that it is
}

// New prepares a configuration: it reads and parses every template.
func New(cfg *config.Config, pool *watch.Pool, log *slog.Logger) (*Runner, error) {
	r := &Runner{cfg: cfg, pool: pool, log: log.With("room", "run"), edited: make(chan struct{}, 1), live: make(chan struct{}, 1), environ: cfg.Consul.Environ()}
	var errs []error
	for _, g := range cfg.AllGroups() {
		gr := newGroup(cfg, g, pool, r.log)
		gr.changed = func() {
			select {
			case r.live <- struct{}{}:
			default:
			}
		}
		for _, t := range g.Templates {
			s := &source{cfg: t}
			if err := s.load(r.environ); err != nil {
				errs = append(errs, err)
			}
			gr.sources = append(gr.sources, s)
		}
		if len(errs) == 0 {
			gr.apply.Dir = filepath.Dir(gr.paths()[0].Dest)
		}
		r.groups = append(r.groups, gr)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

// load reads and parses the template; on an error what was parsed before stays.
func (s *source) load(environ []string) error {
	name, text := s.cfg.Source, s.cfg.Contents
	if name == "" {
		name = s.cfg.Destination
	} else {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read template: %w", err)
		}
		text = string(b)
	}
	if s.tmpl != nil && text == s.text {
		return nil
	}
	cfg := render.Config{
		Name: name, Text: text, Left: s.cfg.Left, Right: s.cfg.Right, ErrMissingKey: s.cfg.ErrMissingKey,
		FunctionDenylist: s.cfg.Denylist, SandboxPath: s.cfg.Sandbox, Environ: environ,
	}
	t, e, err := (*render.Template)(nil), (*render.Each)(nil), error(nil)
	if s.cfg.ForEach == "" {
		t, err = render.Parse(cfg)
	} else if e, err = render.ParseEach(cfg, s.cfg.ForEach, s.cfg.Destination); err == nil {
		t = e.Template
	}
	if err != nil {
		return err
	}
	s.text, s.tmpl, s.each, s.fresh = text, t, e, false
	return nil
}

// Recover undoes what a process before this one began and did not finish.
func (r *Runner) Recover() error {
	for _, g := range r.groups {
		undone, err := g.apply.Recover(g.paths())
		if err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
		if undone {
			r.log.Warn("an unfinished change was undone", "group", g.name)
		}
	}
	return nil
}

// Run works until ctx ends, and returns when all it started has.
func (r *Runner) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.cfg.WatchFiles == nil || *r.cfg.WatchFiles {
		if err := r.follow(); err != nil {
			r.log.Warn("edits of templates are not followed; SIGHUP reads them", "err", err)
		}
	}
	var workers sync.WaitGroup
	defer r.pool.Wait()
	defer workers.Wait()
	defer cancel() // first: what waits for the end then gets it
	if r.files != nil {
		workers.Go(func() { r.forward(ctx) })
	}
	for _, g := range r.groups {
		workers.Go(func() { g.work(ctx) })
	}
	again := time.NewTimer(0)
	defer again.Stop()
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	defer settled.Stop()
	for {
		r.beat.Store(time.Now().UnixNano())
		select {
		case <-ctx.Done():
			return nil
		case <-r.pool.Changed():
		case <-r.edited:
			settled.Reset(settle)
			continue
		case <-settled.C:
			r.reread()
		case <-again.C:
		}
		again.Reset(r.pass(ctx))
		if c := r.cfg.Catalog; c.OnLoss == "exit" && r.pool.DownFor() > c.MaxAge {
			return fmt.Errorf("%w for %s (catalog: on_loss)", ErrCatalogLost, c.MaxAge)
		}
		if err := r.lookup(); err != nil {
			return err
		}
	}
}

// Live gives a channel that receives when another set went live since it last did.
func (r *Runner) Live() <-chan struct{} { return r.live }

// Alive reports whether the loop turns.
func (r *Runner) Alive() bool {
	return time.Since(time.Unix(0, r.beat.Load())) < 4*turn
}

// pass renders what needs it, until no new dependency appears, and gives each group its
// set. It returns when to look again though nothing changed.
func (r *Runner) pass(ctx context.Context) time.Duration {
	wanted := map[render.Dependency]bool{}
	for _, g := range r.groups {
		for _, s := range g.sources {
			r.renderOne(g, s)
			for _, d := range s.deps {
				wanted[d] = true
			}
		}
		g.uses()
		g.pin()
		g.look(time.Now())
		g.offer()
	}
	r.pool.Want(ctx, wanted)
	r.sayBlocked()
	return turn
}

// renderOne executes a template if what it reads has changed. A fault is the group's to
// show; the output before stays.
func (r *Runner) renderOne(g *group, s *source) {
	if c := r.cfg.Catalog; c.OnLoss == "fallback" && s.cfg.Fallback != "" && r.pool.DownFor() > c.MaxAge {
		r.fall(g, s)
		return
	}
	if s.fell {
		s.fell, s.fresh = false, false
	}
	if s.fresh && r.pool.Changes(s.deps) <= s.clock {
		return
	}
	began := time.Now()
	// before: what changes while the template executes makes it execute again
	s.fresh, s.clock = true, r.pool.Clock()
	outputs, res, err := s.execute(r.pool)
	s.executed++
	g.rendered(time.Since(began))
	s.deps, s.lacks = res.Used, res.Missing
	if err != nil {
		g.failed("render", err)
		return
	}
	if len(res.Missing) > 0 {
		if s.wait.IsZero() {
			s.wait = time.Now()
		}
		g.blocked(s.cfg.Destination, res.Missing)
		g.renders() // what was wrong with it is so no more
		return
	}
	s.wait, s.said = time.Time{}, false
	g.unblocked(s.cfg.Destination)
	g.renders()
	s.outputs, s.instances, s.ready, s.rendered = outputs, res.Instances, true, s.text
}

// fall gives a template's fallback in the place of its output.
func (r *Runner) fall(g *group, s *source) {
	b, err := os.ReadFile(s.cfg.Fallback)
	if err != nil {
		g.failed("render", fmt.Errorf("fallback: %w", err))
		return
	}
	if !s.fell {
		r.log.Warn("the catalog is lost; the fallback takes its place", "template", s.cfg.Name(), "fallback", s.cfg.Fallback)
	}
	s.outputs, s.instances, s.ready, s.fell = []render.Output{{Dest: s.cfg.Destination, Content: b}}, nil, true, true
	s.wait, s.said = time.Time{}, false
	g.unblocked(s.cfg.Destination)
	g.renders()
}

func (s *source) execute(from render.Source) ([]render.Output, *render.Result, error) {
	if s.each != nil {
		return s.each.ExecuteEach(from)
	}
	res, err := s.tmpl.Execute(from)
	return []render.Output{{Dest: s.cfg.Destination, Content: res.Output}}, res, err
}

// sayBlocked tells, once, which templates have been waiting for what.
func (r *Runner) sayBlocked() {
	for _, g := range r.groups {
		for _, s := range g.sources {
			if s.wait.IsZero() || s.said || time.Since(s.wait) < blockedAfter {
				continue
			}
			s.said = true
			g.stuck()
			r.log.Warn("template waits for data", "template", s.cfg.Name(), "missing", fmt.Sprint(g.missing(s.cfg.Destination)))
		}
	}
}

// lookup gives an error where the configuration wants one: a template has waited, since the
// start and for as long as a query does, for what the catalog says is not there.
func (r *Runner) lookup() error {
	if !r.cfg.FailLookup || r.pool.Down() {
		return nil
	}
	for _, g := range r.groups {
		for _, s := range g.sources {
			if s.ready || s.wait.IsZero() || time.Since(s.wait) < r.cfg.BlockWait {
				continue
			}
			for _, d := range s.lacks {
				if _, known := r.pool.Get(d); known {
					return fmt.Errorf("%w: template %s: there is no %s", ErrLookup, s.cfg.Name(), d)
				}
			}
		}
	}
	return nil
}

// reread takes over edited templates. One that does not parse keeps its old parse.
func (r *Runner) reread() {
	for _, g := range r.groups {
		for _, s := range g.sources {
			if s.cfg.Source == "" {
				continue
			}
			before := s.text
			if err := s.load(r.environ); err != nil {
				g.failed("template", err)
			} else if s.text != before {
				r.log.Info("template changed", "template", s.cfg.Source)
			} else if g.stage() == "template" {
				s.fresh = false // it was broken and is what it was again
			}
		}
	}
}
