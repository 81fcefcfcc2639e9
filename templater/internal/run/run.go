// Package run is the templater's loop: data or a template changed → render what uses it
// → hand each group's set of files to its worker → apply. It is level-triggered: each
// look computes what shall be, and a worker applies the latest of that, whatever came
// between. Nothing but its configuration ends it.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/rollcall/rollcall/templater/internal/apply"
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

// Runner renders and applies one configuration. Run may be called once.
type Runner struct {
	cfg    *config.Config
	pool   *watch.Pool
	log    *slog.Logger
	groups []*group
	files  *fsnotify.Watcher // nil where templates are not followed
	edited chan struct{}     // 1: a template may have changed
	beat   atomic.Int64      // when the loop last turned, in Unix nanoseconds
}

// source is a template with its latest outcome. Used by the loop only.
type source struct {
	cfg    *config.Template
	text   string
	tmpl   *render.Template
	deps   []render.Dependency
	clock  uint64 // the pool's, before the latest execution
	fresh  bool   // executed at least once since the text changed
	output []byte
	ready  bool
	wait   time.Time // since when data is missing
	said   bool      // that it is
}

// New prepares a configuration: it reads and parses every template.
func New(cfg *config.Config, pool *watch.Pool, log *slog.Logger) (*Runner, error) {
	r := &Runner{cfg: cfg, pool: pool, log: log.With("room", "run"), edited: make(chan struct{}, 1)}
	var errs []error
	for _, g := range cfg.Groups() {
		gr := newGroup(cfg, g, pool, r.log)
		for _, t := range g.Templates {
			s := &source{cfg: t}
			if err := s.load(); err != nil {
				errs = append(errs, err)
			}
			gr.sources = append(gr.sources, s)
		}
		r.groups = append(r.groups, gr)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

// load reads and parses the template; on an error what was parsed before stays.
func (s *source) load() error {
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
	t, err := render.Parse(render.Config{
		Name: name, Text: text, Left: s.cfg.Left, Right: s.cfg.Right, ErrMissingKey: s.cfg.ErrMissingKey,
		FunctionDenylist: s.cfg.Denylist, SandboxPath: s.cfg.Sandbox,
	})
	if err != nil {
		return err
	}
	s.text, s.tmpl, s.fresh = text, t, false
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
	if r.cfg.WatchFiles == nil || *r.cfg.WatchFiles {
		if err := r.follow(); err != nil {
			r.log.Warn("edits of templates are not followed; SIGHUP reads them", "err", err)
		}
	}
	var workers sync.WaitGroup
	defer r.pool.Wait()
	defer workers.Wait()
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
	}
}

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
		g.offer()
	}
	r.pool.Want(ctx, wanted)
	r.sayBlocked()
	return turn
}

// renderOne executes a template if what it reads has changed. A fault is the group's to
// show; the output before stays.
func (r *Runner) renderOne(g *group, s *source) {
	if s.fresh && r.pool.Changes(s.deps) <= s.clock {
		return
	}
	began := time.Now()
	// before: what changes while the template executes makes it execute again
	s.fresh, s.clock = true, r.pool.Clock()
	res, err := s.tmpl.Execute(r.pool)
	g.rendered(time.Since(began))
	s.deps = res.Used
	if err != nil {
		g.failed("render", err)
		return
	}
	if len(res.Missing) > 0 {
		if s.wait.IsZero() {
			s.wait = time.Now()
		}
		g.blocked(s.cfg.Destination, res.Missing)
		return
	}
	s.wait, s.said = time.Time{}, false
	g.unblocked(s.cfg.Destination)
	g.renders()
	s.output, s.ready = res.Output, true
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
			r.log.Warn("template waits for data", "template", s.cfg.Source, "missing", fmt.Sprint(g.missing(s.cfg.Destination)))
		}
	}
}

// reread takes over edited templates. One that does not parse keeps its old parse.
func (r *Runner) reread() {
	for _, g := range r.groups {
		for _, s := range g.sources {
			if s.cfg.Source == "" {
				continue
			}
			before := s.text
			if err := s.load(); err != nil {
				g.failed("template", err)
			} else if s.text != before {
				r.log.Info("template changed", "template", s.cfg.Source)
			} else if g.stage() == "template" {
				s.fresh = false // it was broken and is what it was again
			}
		}
	}
}

// Once renders all and applies all, and gives what went wrong.
func (r *Runner) Once(ctx context.Context, dry io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer r.pool.Wait()
	defer cancel()
	for {
		r.pass(ctx)
		ready := true
		for _, g := range r.groups {
			if err := g.fault(); err != nil {
				return err
			}
			ready = ready && g.complete()
		}
		if ready {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.pool.Changed():
		}
	}
	for _, g := range r.groups {
		if dry != nil {
			for _, f := range g.set() {
				fmt.Fprintf(dry, "> %s\n%s", f.Dest, f.Content)
			}
			continue
		}
		if err := g.once(ctx); err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
	}
	return nil
}

// files of a group before they are rendered: only the paths count.
func (g *group) paths() []apply.File {
	var out []apply.File
	for _, s := range g.sources {
		out = append(out, apply.File{Dest: s.cfg.Destination})
	}
	return out
}
