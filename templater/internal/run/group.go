package run

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
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
	retryFirst = time.Second
	retryMost  = time.Minute
)

// group is a set of files with the worker that applies it.
type group struct {
	name    string
	cfg     *config.Config
	pool    *watch.Pool
	log     *slog.Logger
	apply   *apply.Group
	sources []*source // used by the loop only
	wait    config.Wait
	wake    chan struct{} // 1: there is a set to look at
	born    time.Time

	mu    sync.Mutex
	want  []apply.File // guarded by mu; the latest complete set, nil before the first
	deps  []render.Dependency
	since time.Time // guarded by mu; when want first differed from what was last applied
	last  time.Time // guarded by mu; when want last changed
	taken time.Time // guarded by mu; last, of the set that is being applied
	sure  time.Time // guarded by mu; last, of the set that was applied; at first zero
	lone  bool      // guarded by mu; it has waited long for data that is not there
	state Status    // guarded by mu
}

// Status is a group as the status page shows it.
type Status struct {
	Name       string
	Files      []string
	Ready      bool // the files on disk are applied
	Generation string
	AppliedAt  time.Time
	Index      uint64 // of the catalog, that the applied files reflect
	Applies    int
	Failures   int
	LastError  string              `json:",omitempty"`
	HeldUntil  time.Time           `json:",omitzero"`  // the set waits: the catalog may have forgotten something
	Stage      string              `json:",omitempty"` // where LastError came from: template, render, check, apply
	Missing    map[string][]string `json:",omitempty"` // what each file waits for
	RenderMS   float64
	StageMS    float64
	CheckMS    float64
	SwapMS     float64
	ReloadMS   float64
	Servers    int // in the upstreams of its files
}

func newGroup(cfg *config.Config, g *config.Group, pool *watch.Pool, log *slog.Logger) *group {
	out := &group{name: g.Name, cfg: cfg, pool: pool, log: log.With("group", g.Name), wake: make(chan struct{}, 1), born: time.Now()}
	out.apply = &apply.Group{Name: g.Name, Log: out.log}
	nginx := &apply.Nginx{Bin: cfg.Nginx.Bin, Conf: cfg.Nginx.Conf, PID: cfg.Nginx.PID, Log: out.log}
	switch {
	case g.Nginx:
		out.apply.Checker, out.apply.Reloader = nginx, nginx
	case concernsNginx(g) && cfg.Nginx.Enabled: // with a reload of its own
		out.apply.Checker = nginx
	case concernsNginx(g):
		out.apply.Checker = apply.Guard{}
	}
	for _, t := range g.Templates {
		out.state.Files = append(out.state.Files, t.Destination)
		if t.Wait.Min > out.wait.Min {
			out.wait = t.Wait
		}
		if c := command(t.Command, t.Timeout); c != nil {
			out.apply.Reloader = c
		}
		if c := command(t.Check, 0); c != nil {
			out.apply.Checker = c
		}
	}
	out.state.Name, out.state.Missing = g.Name, map[string][]string{}
	return out
}

// concernsNginx tells, for files that are written as consul-template would, whether an
// nginx is meant: then nothing that it refuses for sure is written.
func concernsNginx(g *config.Group) bool {
	return slices.ContainsFunc(g.Templates, func(t *config.Template) bool {
		return strings.Contains(t.Command.String(), "nginx") || strings.Contains(t.Destination, "/nginx/")
	})
}

func command(w config.Words, timeout time.Duration) *apply.Command {
	switch {
	case w.Shell != "":
		return apply.ShellCommand(w.Shell, timeout)
	case len(w.Argv) > 0:
		return &apply.Command{Argv: w.Argv, Timeout: timeout}
	}
	return nil
}

// complete reports whether every template of the group has its output.
func (g *group) complete() bool {
	return !slices.ContainsFunc(g.sources, func(s *source) bool { return !s.ready })
}

// set is the group's files as they shall be.
func (g *group) set() []apply.File {
	var out []apply.File
	for _, s := range g.sources {
		t := s.cfg
		out = append(out, apply.File{
			Dest: t.Destination, Content: s.output, Perms: fs.FileMode(t.Perms), User: t.User, Group: t.Group,
			Backup: t.Backup, CreateDirs: t.CreateDirs == nil || *t.CreateDirs,
		})
	}
	return out
}

// offer hands the worker the present set, if it is complete and another one.
func (g *group) offer() {
	if !g.complete() {
		return
	}
	next := g.set()
	var deps []render.Dependency
	for _, s := range g.sources {
		deps = append(deps, s.deps...)
	}
	now := time.Now()
	g.mu.Lock()
	same := g.want != nil && slices.EqualFunc(g.want, next, func(a, b apply.File) bool { return bytes.Equal(a.Content, b.Content) })
	if same {
		g.deps = deps
		g.mu.Unlock()
		return
	}
	if g.since.IsZero() {
		g.since = now
	}
	g.want, g.deps, g.last = next, deps, now
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// work applies the latest set until ctx ends. A set that failed is tried again, later
// and later; a new one at once.
func (g *group) work(ctx context.Context) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = retryFirst, retryMost
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
		files, pause := g.due(time.Now(), lastApply, g.doubt())
		if files == nil {
			timer.Reset(pause)
			continue
		}
		done, err := g.step(ctx, files)
		if ctx.Err() != nil {
			return
		}
		pause = time.Hour
		if err != nil {
			pause = retry.NextBackOff()
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
		}
		timer.Reset(pause)
	}
}

// due gives the set to apply now, or how long to wait: for quiet where that is wanted,
// for the pause between reloads, and while the catalog is in doubt.
func (g *group) due(now, lastApply, doubt time.Time) ([]apply.File, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.want == nil {
		return nil, time.Hour
	}
	at := lastApply.Add(g.cfg.ReloadInterval)
	if g.wait.Min > 0 && !lastApply.IsZero() {
		quiet := g.last.Add(g.wait.Min)
		if most := g.since.Add(g.wait.Max); most.Before(quiet) {
			quiet = most
		}
		if quiet.After(at) {
			at = quiet
		}
	}
	held := doubt.After(now)
	if held && g.state.HeldUntil.IsZero() {
		g.log.Warn("the catalog may have forgotten instances; the files before stay for a while", "until", doubt.Format(time.RFC3339))
	}
	g.state.HeldUntil = time.Time{}
	if held {
		g.state.HeldUntil = doubt
		if doubt.After(at) {
			at = doubt
		}
	}
	if at.After(now) {
		return nil, at.Sub(now)
	}
	g.taken = g.last
	return g.want, 0
}

// doubt is until when the latest set waits because the catalog may not be itself: one
// that was restored or began anew may lack instances which come back in a moment. After
// an index that went back, a set waits that loses half of the servers or more; after
// contact was lost, or at the start, one that loses all. Once a set was applied the
// doubt is over; and without a reason for it even the last instance goes at once.
func (g *group) doubt() time.Time {
	reset, last := g.pool.Doubt()
	if reset.After(last) {
		last = reset
	}
	g.mu.Lock()
	want, sure := g.want, g.sure
	g.mu.Unlock()
	if sure.IsZero() && g.born.After(last) {
		last = g.born
	}
	hold := g.cfg.Hold
	if last.IsZero() || sure.After(last) || !time.Now().Before(last.Add(hold)) {
		return time.Time{}
	}
	live, next := 0, 0
	for _, f := range want {
		next += guard.Servers(f.Content)
		if b, err := os.ReadFile(f.Dest); err == nil {
			live += guard.Servers(b)
		}
	}
	switch {
	case live == 0 || next*2 > live:
		return time.Time{}
	case next == 0:
		return last.Add(hold)
	}
	return reset.Add(hold) // past, if no index went back
}

// step makes a set live if it is not. It reports whether anything was reloaded.
func (g *group) step(ctx context.Context, files []apply.File) (bool, error) {
	onDisk, applied := g.apply.Current(files)
	var s apply.Stages
	var err error
	switch {
	case applied:
		g.succeeded(files, s, false)
		return false, nil
	case onDisk:
		s, err = g.apply.Touch(ctx, files)
	default:
		s, err = g.apply.Apply(ctx, files)
	}
	if err != nil {
		stage := "apply"
		if errors.Is(err, apply.ErrRefused) {
			stage = "check"
		}
		g.failed(stage, err)
		return s.Reload > 0, err
	}
	g.succeeded(files, s, true)
	return true, nil
}

// once applies the set for -once.
func (g *group) once(ctx context.Context) error {
	_, err := g.step(ctx, g.set())
	return err
}

func (g *group) succeeded(files []apply.File, s apply.Stages, changed bool) {
	g.mu.Lock()
	g.sure = g.taken
	st := &g.state
	st.Ready, st.LastError, st.Stage, st.HeldUntil = true, "", "", time.Time{}
	st.Generation, st.Index = apply.Generation(files), g.pool.Index(g.deps)
	st.Servers = 0
	for _, f := range files {
		st.Servers += guard.Servers(f.Content)
	}
	since := g.since
	g.since = time.Time{}
	if changed {
		st.Applies++
		st.AppliedAt = time.Now()
		st.StageMS, st.CheckMS, st.SwapMS, st.ReloadMS = ms(s.Stage), ms(s.Check), ms(s.Swap), ms(s.Reload)
	}
	shown := *st
	g.mu.Unlock()
	if changed {
		g.log.Info("applied", "generation", shown.Generation, "index", shown.Index, "servers", shown.Servers, "render_ms", shown.RenderMS,
			"stage_ms", shown.StageMS, "check_ms", shown.CheckMS, "swap_ms", shown.SwapMS, "reload_ms", shown.ReloadMS, "total_ms", ms(time.Since(since)), "at", shown.AppliedAt.Format(time.RFC3339Nano))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// failed notes what went wrong; the group is not ready until something goes right.
func (g *group) failed(stage string, err error) {
	g.mu.Lock()
	again := g.state.LastError == err.Error()
	g.state.Ready, g.state.LastError, g.state.Stage = false, err.Error(), stage
	g.state.Failures++
	g.mu.Unlock()
	if !again && (stage == "render" || stage == "template") {
		g.log.Warn("template not rendered; the files before stay", "stage", stage, "err", err)
	}
}

// renders notes that the templates are well again; whether the files are, the worker
// says.
func (g *group) renders() {
	g.mu.Lock()
	well := g.state.Stage == "render" || g.state.Stage == "template"
	if well {
		g.state.LastError, g.state.Stage = "", ""
	}
	g.mu.Unlock()
	if well {
		select {
		case g.wake <- struct{}{}:
		default:
		}
	}
}

func (g *group) rendered(took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.RenderMS = ms(took)
}

func (g *group) blocked(dest string, missing []render.Dependency) {
	var names []string
	for _, d := range missing {
		names = append(names, d.String())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Missing[dest] = names
}

func (g *group) unblocked(dest string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.state.Missing, dest)
	g.lone = false
}

func (g *group) stuck() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lone = true
}

func (g *group) missing(dest string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Missing[dest]
}

func (g *group) stage() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Stage
}

func (g *group) fault() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.LastError == "" {
		return nil
	}
	return errors.New(g.state.LastError)
}

// Status gives every group as it stands.
func (r *Runner) Status() []Status {
	out := []Status{}
	for _, g := range r.groups {
		g.mu.Lock()
		s := g.state
		s.Missing = maps.Clone(s.Missing)
		g.mu.Unlock()
		out = append(out, s)
	}
	return out
}

// Adopted reports whether every group's files are applied, or are on disk from before
// while something keeps the new ones away: the catalog, a fault, a guard. Then the last
// good state serves.
func (r *Runner) Adopted() bool {
	down := r.pool.Down()
	for _, g := range r.groups {
		g.mu.Lock()
		ready := g.state.Ready
		kept := down || g.lone || g.state.LastError != "" || !g.state.HeldUntil.IsZero()
		g.mu.Unlock()
		if ready {
			continue
		}
		if !kept {
			return false
		}
		for _, f := range g.paths() {
			if _, err := os.Stat(f.Dest); err != nil {
				return false
			}
		}
	}
	return true
}
