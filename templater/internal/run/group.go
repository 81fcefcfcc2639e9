package run

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/templater/internal/apply"
	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/guard"
	"github.com/rollcall/rollcall/templater/internal/render"
	"github.com/rollcall/rollcall/templater/internal/watch"
)

// Pauses of a worker.
const (
	retryLight = time.Second // at most, where a try costs nobody anything
	lookMark   = time.Second // between looks at what was applied, which another process may change
)

// group is a set of files with the worker that applies it.
type group struct {
	name    string
	cfg     *config.Config
	own     *config.Group
	pool    *watch.Pool
	log     *slog.Logger
	apply   *apply.Group
	nginx   *apply.Nginx  // nil where it is none of nginx's
	sources []*source     // used by the loop only
	wake    chan struct{} // 1: there is a set to look at
	born    time.Time
	changed func() // tells whoever waits for a set to go live; may be nil

	mu     sync.Mutex
	want   *set // guarded by mu; the latest complete one, nil before the first
	deps   []render.Dependency
	since  time.Time // guarded by mu; when want first differed from what was last applied
	last   time.Time // guarded by mu; when want last changed
	taken  time.Time // guarded by mu; last, of the set that is being applied
	sure   time.Time // guarded by mu; last, of the set that was applied; at first zero
	lone   bool      // guarded by mu; it has waited long for data that is not there
	drain  time.Time // guarded by mu; since when a set waits for old workers to end
	held   time.Time // guarded by mu; since when a set is held by the limits
	looked time.Time // guarded by mu; when the mark was last looked at
	texts  []string  // guarded by mu; of the templates in the applied set, nil before the first
	state  Status    // guarded by mu
}

// set is a group's files as they shall be.
type set struct {
	files     []apply.File
	instances guard.Counts
	texts     []string // of the templates
	// edited: a template is another one than in the applied set, or a fallback takes its
	// place; what is gone was meant to go.
	edited bool
}

func newGroup(cfg *config.Config, own *config.Group, pool *watch.Pool, log *slog.Logger) *group {
	g := &group{name: own.Name, cfg: cfg, own: own, pool: pool, log: log.With("group", own.Name), wake: make(chan struct{}, 1), born: time.Now()}
	g.apply = &apply.Group{
		Name: own.Name, Log: g.log, Links: own.WriteMode == config.WriteLink, InPlace: own.WriteMode == config.WriteInPlace,
		Keep: own.OnFailure == "keep", History: *own.History,
	}
	nginx := &apply.Nginx{Bin: cfg.Nginx.Bin, Conf: cfg.Nginx.Conf, PID: cfg.Nginx.PID, Log: g.log, Timeout: own.Verify.Timeout, CheckTimeout: own.Check.Timeout}
	concerned := own.Nginx || concernsNginx(own)
	if concerned {
		g.apply.Same = guard.Same
	}
	var checks apply.Checks
	switch {
	case own.Nginx, concerned && cfg.Nginx.Enabled: // the latter has a reload of its own
		checks = append(checks, nginx)
	case concerned:
		checks = append(checks, apply.Guard{})
	}
	if own.Nginx {
		g.nginx = nginx
	}
	environ := cfg.Consul.Environ()
	for _, w := range own.Checks() {
		c := command(w, own.Check.Timeout, config.Env{}.With(environ))
		c.Tree, c.Dir = own.Check.Stage == config.StageTree, own.Check.CWD
		checks = append(checks, c)
	}
	if len(checks) > 0 {
		g.apply.Checker = checks
	}
	g.apply.Reloader = reloader(own, nginx, environ)
	for _, t := range own.Templates {
		g.state.Files = append(g.state.Files, t.Destination)
	}
	g.state.Name, g.state.Missing, g.state.WriteMode = own.Name, map[string][]string{}, own.WriteMode
	return g
}

// reloader puts together how the group's reader is told, and how that is proven. Commands
// find the catalog's settings in their environment.
func reloader(own *config.Group, nginx *apply.Nginx, environ []string) apply.Reloader {
	var out apply.Reloader
	r := own.Reload
	switch {
	case !r.Command.Empty():
		x := own.Templates[0].Exec
		c := command(r.Command, r.Timeout, x.Env.With(environ))
		c.KillSignal, c.KillTimeout = sys(x.KillSignal), cmp.Or(x.KillTimeout, 30*time.Second)
		c.Shown, out = true, c
	case r.PIDFile != "":
		out = &apply.Signal{PIDFile: r.PIDFile, Signal: sys(r.Signal)}
	case r.Systemd != "":
		out = &apply.Command{Argv: []string{"systemctl", "reload", r.Systemd}, Timeout: r.Timeout}
	case r.Docker != "":
		out = &apply.Docker{Container: r.Docker, Signal: sys(r.Signal)}
	case own.Nginx:
		out = nginx
	default:
		return nil
	}
	switch v := own.Verify; v.Mode {
	case "workers":
		if out != apply.Reloader(nginx) {
			out = nginx.Watched(out)
		}
	case "generation":
		out = &apply.Verified{Reloader: out, Verify: apply.Served(v.Address), Timeout: v.Timeout}
	case "command":
		verify := command(v.Command, cmp.Or(v.Timeout, 5*time.Second), config.Env{}.With(environ))
		out = &apply.Verified{Reloader: out, Verify: verify.Reload, Timeout: v.Timeout}
	}
	if r.Splay > 0 {
		out = &apply.Splayed{Reloader: out, Most: r.Splay}
	}
	return out
}

// concernsNginx tells, for files that are written as consul-template would, whether an
// nginx is meant: then nothing that it refuses for sure is written.
func concernsNginx(g *config.Group) bool {
	return slices.ContainsFunc(g.Templates, func(t *config.Template) bool {
		return strings.Contains(t.Command.String(), "nginx") || strings.Contains(t.Destination, "/nginx/")
	})
}

func command(w config.Words, timeout time.Duration, env config.Env) *apply.Command {
	var c *apply.Command
	switch {
	case w.Shell != "":
		c = apply.ShellCommand(w.Shell, timeout)
	case len(w.Argv) > 0:
		c = &apply.Command{Argv: w.Argv, Timeout: timeout}
	default:
		return nil
	}
	c.Environ = env.Of(os.Environ())
	return c
}

// complete reports whether every template of the group has its output.
func (g *group) complete() bool {
	return !slices.ContainsFunc(g.sources, func(s *source) bool { return !s.ready })
}

// compose gives the group's files as they shall be.
func (g *group) compose() *set {
	out, fell := &set{instances: guard.Counts{}}, false
	for _, s := range g.sources {
		t := s.cfg
		for _, o := range s.outputs {
			out.files = append(out.files, apply.File{
				Dest: o.Dest, Content: o.Content, Perms: fs.FileMode(t.Perms), User: t.User, Group: t.Group,
				Backup: t.Backup, CreateDirs: t.CreateDirs == nil || *t.CreateDirs,
			})
		}
		out.instances[t.Destination] = s.instances
		out.texts = append(out.texts, s.rendered)
		fell = fell || s.fell
	}
	g.mu.Lock()
	out.edited = fell || g.texts != nil && !slices.Equal(g.texts, out.texts)
	g.mu.Unlock()
	if g.own.Verify.Mode == "generation" {
		out.files = append(out.files, apply.File{
			Dest: filepath.Join(filepath.Dir(g.sources[0].cfg.Destination), "templater-generation.conf"), Stamp: true,
			Content: apply.Stamp(g.own.Verify.Address, apply.Generation(out.files)),
		})
	}
	out.files = append(out.files, g.pruned(out.files)...)
	return out
}

// pruned are files of elements that were there at the last apply and are no more.
func (g *group) pruned(files []apply.File) []apply.File {
	each := slices.ContainsFunc(g.sources, func(s *source) bool { return s.each != nil && (s.cfg.Prune == nil || *s.cfg.Prune) })
	if !each {
		return nil
	}
	var out []apply.File
	for _, dest := range g.apply.Mark(g.paths()).Files {
		there := slices.ContainsFunc(files, func(f apply.File) bool { return f.Dest == dest })
		if _, err := os.Lstat(dest); !there && err == nil {
			out = append(out, apply.File{Dest: dest, Remove: true})
		}
	}
	return out
}

// paths are files whose places lead to the group's store: what was rendered does not
// matter for it.
func (g *group) paths() []apply.File {
	var out []apply.File
	for _, s := range g.sources {
		dest := s.cfg.Destination
		if s.each != nil {
			dest = filepath.Join(s.each.Folder(), "each")
		}
		out = append(out, apply.File{Dest: dest})
	}
	return out
}

// offer hands the worker the present set, if it is complete and another one.
func (g *group) offer() {
	if !g.complete() {
		return
	}
	next := g.compose()
	var deps []render.Dependency
	for _, s := range g.sources {
		deps = append(deps, s.deps...)
	}
	now := time.Now()
	g.mu.Lock()
	same := g.want != nil && slices.EqualFunc(g.want.files, next.files, func(a, b apply.File) bool {
		return a.Dest == b.Dest && a.Remove == b.Remove && bytes.Equal(a.Content, b.Content)
	})
	g.deps = deps
	if same {
		g.want.instances, g.want.texts = next.instances, next.texts
		if g.state.Ready && g.since.IsZero() { // it is the applied one
			g.texts = next.texts
		}
		if g.state.Ready {
			g.state.Instances = next.instances.Services()
		}
		g.mu.Unlock()
		return
	}
	if g.since.IsZero() {
		g.since = now
	}
	g.want, g.last = next, now
	g.mu.Unlock()
	g.poke()
}

func (g *group) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// work applies the latest set until ctx ends. A set that failed is tried again, later
// and later; a new one at once.
func (g *group) work(ctx context.Context) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = g.own.Reload.Retry.Min, g.own.Reload.Retry.Max
	var lastApply time.Time
	said := "" // the error of the latest try
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
			retry.Reset()
		case <-timer.C:
		}
		next, pause := g.due(time.Now(), lastApply)
		if next == nil {
			timer.Reset(pause)
			continue
		}
		done, err := g.step(ctx, next)
		if ctx.Err() != nil {
			return
		}
		pause = time.Hour
		if err != nil {
			pause = retry.NextBackOff()
			if light(err, done) {
				pause = min(pause, retryLight)
			}
			level := slog.LevelWarn
			if err.Error() == said {
				level = slog.LevelDebug // the status page goes on saying it
			}
			g.log.Log(ctx, level, "not applied; the files before stay", "err", err, "retry_in", pause.Round(time.Millisecond).String())
			said = err.Error()
		} else {
			said = ""
		}
		if done {
			lastApply = time.Now()
			if err == nil && g.changed != nil {
				g.changed()
			}
		}
		timer.Reset(pause)
	}
}

// light reports whether a set that failed may be tried again soon: nobody was asked to
// reload, or there was nobody, and no check refused it.
func light(err error, reloaded bool) bool {
	return errors.Is(err, apply.ErrNotRunning) || !reloaded && !errors.Is(err, apply.ErrRefused)
}

// step makes a set live if it is not. It reports whether anything was reloaded.
func (g *group) step(ctx context.Context, next *set) (bool, error) {
	onDisk, applied := g.apply.Current(next.files)
	g.apply.Instances = next.instances
	var s apply.Stages
	var err error
	switch {
	case applied:
		g.succeeded(next, s, false)
		return false, nil
	case onDisk:
		s, err = g.apply.Touch(ctx, next.files)
	default:
		s, err = g.apply.Apply(ctx, next.files)
	}
	if err != nil {
		stage := "apply"
		if errors.Is(err, apply.ErrRefused) {
			stage = "check"
		}
		g.failed(stage, err)
		return s.Reload > 0, err
	}
	g.succeeded(next, s, true)
	return s.Reload > 0 || g.apply.Reloader == nil, nil
}

// once applies the set for -once, unless the limits hold it.
func (g *group) once(ctx context.Context) error {
	next := g.compose()
	if pinned := g.apply.Pinned(g.paths()); pinned != "" {
		return fmt.Errorf("generation %s is pinned by a rollback: `templater rollback %s 0` ends that", pinned, g.name)
	}
	if err := g.limits(next); err != nil {
		return fmt.Errorf("held: %w", err)
	}
	_, err := g.step(ctx, next)
	return err
}
