package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Group is templates that go live together: one wait, one check, one swap, one reload.
type Group struct {
	Name      string      `config:",label"`
	Templates []*Template `config:"template"`
	// Nginx makes the group nginx's: its check, reload and verification come of themselves.
	Nginx     bool   `config:"nginx"`
	Check     Step   `config:"check"`
	Reload    Reload `config:"reload"`
	Verify    Verify `config:"verify"`
	OnFailure string `config:"on_failure"` // rollback (default), or keep
	History   *int   `config:"history"`    // generations kept for `rollback`; default 5
	Wait      Wait   `config:"wait"`
	Guard     Guard  `config:"guard"`
	// WriteMode is how files are replaced: "rename"; "link", by which all files of the group
	// change in one instant; "in-place", for a file that is a mount of its own. Default:
	// link for several files of nginx's, else rename.
	WriteMode string `config:"write_mode"`
}

// Step is a command with a bound. It finds the staged files in TEMPLATER_STAGED.
type Step struct {
	Command Words         `config:"command"`
	Timeout time.Duration `config:"timeout"` // default 10s
	// Stage is "file" (default): the staged files alone; or "tree": also a view of the whole
	// file system as it would be, in TEMPLATER_TREE.
	Stage string `config:"stage"`
	// CWD is where the command runs. In a tree it is a folder of the tree, by default that of
	// the first destination.
	CWD string `config:"cwd"`
}

// Kinds of stage.
const (
	StageFile = "file"
	StageTree = "tree"
)

// Reload is how whoever reads the files is told of new ones: by one of a command, a
// signal to the process of a pid file, a systemd unit, or a signal to a container.
type Reload struct {
	Command Words         `config:"command"`
	Signal  Signal        `config:"signal"` // default SIGHUP
	PIDFile string        `config:"pid_file"`
	Systemd string        `config:"systemd"`
	Docker  string        `config:"docker"`
	Timeout time.Duration `config:"timeout"` // default 30s
	// MinInterval is the shortest pause between two reloads; default: reload_interval.
	MinInterval time.Duration `config:"min_interval"`
	// Retry is the pause after a first failure, and the longest that it grows to; default 1s:1m.
	Retry Wait          `config:"retry"`
	Splay time.Duration `config:"splay"` // wait up to so long at random, for many hosts not to reload at once
}

// Verify is how it is known that a reload took.
type Verify struct {
	// Mode is "workers" (new worker processes, nginx's default), "generation" (nginx itself
	// names the generation that it serves), "command", or "none".
	Mode    string        `config:"mode"`
	Address string        `config:"address"` // of "generation": host:port or unix:/path that nginx shall answer on
	Command Words         `config:"command"`
	Timeout time.Duration `config:"timeout"` // default 5s
}

// Limits are how much may be taken away from what a template shows.
type Limits struct {
	MinInstances     int `config:"min_instances"`      // of each service that is used; 0 is off
	MaxShrinkPercent int `config:"max_shrink_percent"` // of the instances of a service, at once; 0 is off
}

// Guard holds sets back that take too much away.
type Guard struct {
	MinInstances     int           `config:"min_instances"`      // as of Limits
	MaxShrinkPercent int           `config:"max_shrink_percent"` // as of Limits
	Hold             time.Duration `config:"hold"`               // give in after so long; 0 never
	OverrideFile     string        `config:"override_file"`      // while it is there, nothing is held
}

// Modes of writing.
const (
	WriteRename  = "rename"
	WriteLink    = "link"
	WriteInPlace = "in-place"
)

// OneOf reports a word that is none of those allowed.
func oneOf(key, word string, allowed ...string) error {
	if word == "" || slices.Contains(allowed, word) {
		return nil
	}
	return fmt.Errorf("%s %q: want one of %s", key, word, strings.Join(allowed, ", "))
}

func share(key string, percent int) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("%s: max_shrink_percent is from 0 to 100", key)
	}
	return nil
}

func (g *Group) validate() error {
	var errs []error
	if len(g.Templates) == 0 {
		errs = append(errs, errors.New("it has no template"))
	}
	ways := 0
	for _, set := range []bool{!g.Reload.Command.Empty(), g.Reload.PIDFile != "", g.Reload.Systemd != "", g.Reload.Docker != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		errs = append(errs, errors.New("reload: give one of command, pid_file, systemd and docker"))
	}
	if g.Verify.Mode == "generation" && g.Verify.Address == "" {
		errs = append(errs, errors.New("verify: mode generation needs an address that nginx can listen on, such as 127.0.0.1:8911"))
	}
	if g.Verify.Mode == "command" && g.Verify.Command.Empty() {
		errs = append(errs, errors.New("verify: mode command needs a command"))
	}
	if g.Reload.Retry.Min <= 0 && g.Reload.Retry != (Wait{}) {
		errs = append(errs, errors.New("reload: retry: MIN is more than 0"))
	}
	for _, t := range g.Templates {
		if said := t.Command.String(); !t.Command.Empty() && (g.Nginx || ways > 0 && said != g.Reload.Command.String() || said != g.Templates[0].Command.String()) {
			errs = append(errs, fmt.Errorf("%s: its command %q would not run: the group is reloaded in one way, which its reload block names", t.Name(), said))
		}
	}
	if len(g.Checks()) == 0 && (g.Check.Stage != "" || g.Check.CWD != "") {
		errs = append(errs, errors.New("check: stage and cwd are for a command, and there is none"))
	}
	if g.Check.CWD != "" && !filepath.IsAbs(g.Check.CWD) {
		errs = append(errs, fmt.Errorf("check: cwd %q: want an absolute path", g.Check.CWD))
	}
	errs = append(errs, share("guard", g.Guard.MaxShrinkPercent), oneOf("on_failure", g.OnFailure, "rollback", "keep"), oneOf("write_mode", g.WriteMode, WriteRename, WriteLink, WriteInPlace),
		oneOf("check: stage", g.Check.Stage, StageFile, StageTree),
		oneOf("verify: mode", g.Verify.Mode, "workers", "generation", "command", "none"))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("group %q: %w", g.Name, err)
	}
	return nil
}

// Checks are the commands that have to succeed before the group's files are replaced: its
// own, and its templates', each once.
func (g *Group) Checks() []Words {
	var out []Words
	add := func(w Words) {
		if !w.Empty() && !slices.ContainsFunc(out, func(o Words) bool { return o.String() == w.String() }) {
			out = append(out, w)
		}
	}
	add(g.Check.Command)
	for _, t := range g.Templates {
		add(t.Check)
	}
	return out
}

// AllGroups gives the groups that are written down, and those of the templates outside:
// templates with the same command are one group, those without a command each one of
// their own; with the nginx preset, templates without a command are nginx's.
func (c *Config) AllGroups() []*Group {
	out := slices.Clone(c.Groups)
	implicit := map[string]*Group{}
	for _, t := range c.Templates {
		key, nginx := t.Command.String(), false
		if t.Command.Empty() {
			key = ""
			if c.Nginx.Enabled {
				key, nginx = "nginx", true
			}
		}
		if g := implicit[key]; key != "" && g != nil {
			g.Templates = append(g.Templates, t)
			continue
		}
		g := &Group{Name: strings.ReplaceAll(cmp.Or(key, t.Destination), "\x00", " "), Nginx: nginx, Templates: []*Template{t}}
		implicit[key] = g
		out = append(out, g)
	}
	for _, g := range out {
		g.complete(c)
	}
	return out
}

// complete fills in what the templates and the whole configuration say.
func (g *Group) complete(c *Config) {
	for _, t := range g.Templates {
		if t.Wait.Min > g.Wait.Min {
			g.Wait = t.Wait
		}
		if g.Reload.Command.Empty() && g.Reload.PIDFile == "" && g.Reload.Systemd == "" && g.Reload.Docker == "" && !g.Nginx {
			g.Reload.Command = t.Command
			if t.Timeout != nil {
				g.Reload.Timeout = *t.Timeout
				if *t.Timeout == 0 {
					g.Reload.Timeout = -1 // do not wait
				}
			}
		}
	}
	if g.Guard == (Guard{}) {
		g.Guard = c.Guard
	}
	if g.History == nil {
		n := 5
		g.History = &n
	}
	if g.Reload.MinInterval == 0 {
		g.Reload.MinInterval = c.ReloadInterval
	}
	if g.Reload.Retry == (Wait{}) {
		g.Reload.Retry = Wait{time.Second, time.Minute}
	}
	if g.Check.Timeout == 0 {
		g.Check.Timeout = 10 * time.Second
	}
	if g.Verify.Mode == "" && g.Nginx && c.Nginx.Generation != "" {
		g.Verify.Mode, g.Verify.Address = "generation", c.Nginx.Generation
	}
	if g.WriteMode == "" {
		g.WriteMode = WriteRename
		if g.Nginx && (len(g.Templates) > 1 || g.Templates[0].ForEach != "" || g.Verify.Mode == "generation") {
			g.WriteMode = WriteLink
		}
	}
}
