package run

import (
	"errors"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/templater/internal/apply"
	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/guard"
	"github.com/rollcall/rollcall/templater/internal/render"
)

// Status is a group as the status page shows it.
type Status struct {
	Name       string
	Files      []string
	Ready      bool // the files on disk are applied
	Generation string
	AppliedAt  time.Time
	Index      uint64 // of the catalog, that the applied files reflect
	Applies    int
	Reloads    int
	Failures   int
	LastError  string              `json:",omitempty"`
	Held       string              `json:",omitempty"` // why a set waits
	HeldUntil  time.Time           `json:",omitzero"`  // when it no longer will; zero: when the reason ends
	Stage      string              `json:",omitempty"` // where LastError came from: template, render, check, apply
	Missing    map[string][]string `json:",omitempty"` // what each file waits for
	Instances  map[string]int      `json:",omitempty"` // of each service, in the applied files
	Pinned     string              `json:",omitempty"` // the generation that a rollback holds
	WriteMode  string
	Draining   int // old workers of nginx that still served at the last look
	RenderMS   float64
	StageMS    float64
	CheckMS    float64
	SwapMS     float64
	ReloadMS   float64
	Servers    int       // in the upstreams of its files
	Places     []string  `json:"-"`         // of these servers, each once
	Services   []string  `json:"-"`         // of which its templates read instances, by name
	Waiting    time.Time `json:",omitzero"` // since when there is a newer set than the applied one
	Templates  []TemplateStatus
}

// TemplateStatus is a template with what it reads.
type TemplateStatus struct {
	Name     string
	Uses     []string
	Executed int // how often
}

func sys(s config.Signal) syscall.Signal { return syscall.Signal(s) }

func (g *group) succeeded(next *set, s apply.Stages, changed bool) {
	servers := 0
	var places []string
	for _, f := range next.files {
		if !f.Remove {
			servers += guard.Servers(f.Content)
			places = append(places, guard.Places(f.Content)...)
		}
	}
	slices.Sort(places)
	places = slices.Compact(places)
	g.mu.Lock()
	var services []string
	for _, d := range g.deps {
		if d.Kind == render.Service {
			services = append(services, d.Name)
		}
	}
	slices.Sort(services)
	g.sure = g.taken
	next.edited, g.texts = false, next.texts
	st := &g.state
	st.Ready, st.LastError, st.Stage, st.Held, st.HeldUntil = true, "", "", "", time.Time{}
	st.Generation, st.Index = apply.Generation(next.files), g.pool.Index(g.deps)
	st.Services = slices.Compact(services)
	st.Servers, st.Places, st.Instances = servers, places, next.instances.Services()
	total := s.Stage + s.Check + s.Swap + s.Reload
	if !g.since.IsZero() {
		total = time.Since(g.since)
	}
	g.since = time.Time{}
	if changed {
		st.Applies++
		if s.Reload > 0 {
			st.Reloads++
		}
		st.AppliedAt = time.Now()
		st.StageMS, st.CheckMS, st.SwapMS, st.ReloadMS = ms(s.Stage), ms(s.Check), ms(s.Swap), ms(s.Reload)
	}
	shown := *st
	g.mu.Unlock()
	if changed {
		g.log.Info("applied", "generation", shown.Generation, "index", shown.Index, "servers", shown.Servers, "render_ms", shown.RenderMS,
			"stage_ms", shown.StageMS, "check_ms", shown.CheckMS, "swap_ms", shown.SwapMS, "reload_ms", shown.ReloadMS, "total_ms", ms(total), "at", shown.AppliedAt.Format(time.RFC3339Nano))
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
		g.poke()
	}
}

func (g *group) rendered(took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.RenderMS = ms(took)
}

// uses notes what the templates read.
func (g *group) uses() {
	var list []TemplateStatus
	for _, s := range g.sources {
		list = append(list, TemplateStatus{Name: s.cfg.Name(), Uses: names(s.deps), Executed: s.executed})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Templates = list
}

func names(deps []render.Dependency) []string {
	out := []string{}
	for _, d := range deps {
		out = append(out, d.String())
	}
	return out
}

// look notes, now and then, that another process has applied something else, such as a
// rollback that was taken back at once, and has the worker see to it.
func (g *group) look(now time.Time) {
	g.mu.Lock()
	was := g.state.Generation
	due := g.state.Ready && was != "" && now.Sub(g.looked) >= lookMark
	if due {
		g.looked = now
	}
	g.mu.Unlock()
	if !due {
		return
	}
	is := g.apply.Mark(g.paths()).Generation
	g.mu.Lock()
	other := is != was && g.state.Generation == was
	if other {
		g.state.Generation = is
	}
	g.mu.Unlock()
	if other {
		g.poke()
	}
}

// pin looks whether a rollback holds the group, and wakes the worker when that changed.
func (g *group) pin() {
	pinned := g.apply.Pinned(g.paths())
	g.mu.Lock()
	changed := g.state.Pinned != pinned
	g.state.Pinned = pinned
	g.mu.Unlock()
	if changed {
		g.poke()
	}
}

func (g *group) blocked(dest string, missing []render.Dependency) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Missing[dest] = names(missing)
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
		s.Waiting = g.since
		s.Missing = maps.Clone(s.Missing)
		s.Instances = maps.Clone(s.Instances)
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
		kept := down || g.lone || g.state.LastError != "" || g.state.Held != ""
		g.mu.Unlock()
		if ready {
			continue
		}
		if !kept {
			return false
		}
		for _, s := range g.sources {
			if _, err := os.Stat(s.cfg.Destination); s.each == nil && err != nil {
				return false
			}
		}
	}
	return true
}
