package config

import (
	"errors"
	"strings"
	"time"
)

// Template is one file to render, or with ForEach one file for each of a list.
type Template struct {
	Source      string         `config:"source"`
	Contents    string         `config:"contents"`
	Destination string         `config:"destination"`
	CreateDirs  *bool          `config:"create_dest_dirs"` // default true
	Command     Words          `config:"command"`
	Timeout     *time.Duration `config:"command_timeout"` // default 30s; 0 does not wait for the command
	Exec        Exec           `config:"exec"`
	Perms       Mode           `config:"perms"` // 0 keeps what is there, else 0644
	User        string         `config:"user,uid"`
	Group       string         `config:"group,gid"`
	Backup      bool           `config:"backup"`
	Left        string         `config:"left_delimiter"`
	Right       string         `config:"right_delimiter"`
	// ErrMissingKey makes a map key that is not there an error.
	ErrMissingKey bool     `config:"error_on_missing_key"`
	ErrFatal      *bool    `config:"error_fatal"` // accepted: an error never ends the daemon
	Wait          Wait     `config:"wait"`
	Denylist      []string `config:"function_denylist,function_blacklist"`
	Sandbox       string   `config:"sandbox_path"`

	// Ours.

	// Check has to succeed before anything is replaced.
	Check Words `config:"check"`
	// ForEach is a pipeline that gives a list, such as `services` or `ls "sites"`: the
	// template is executed for each element, which is its dot, and Destination is a
	// template too. Files of elements that are gone are removed.
	ForEach string `config:"for_each"`
	Prune   *bool  `config:"prune"` // default true: remove files of elements that are gone
	Guard   Limits `config:"guard"` // in the place of its group's
	// Fallback is a file that takes the place of the output while the catalog is lost.
	Fallback string `config:"fallback"`
}

// Exec is the newer form of a command.
type Exec struct {
	Command      Words          `config:"command"`
	Enabled      *bool          `config:"enabled"`
	Timeout      *time.Duration `config:"timeout"`
	Env          Env            `config:"env"`
	KillSignal   Signal         `config:"kill_signal"`
	KillTimeout  time.Duration  `config:"kill_timeout"`
	ReloadSignal Signal         `config:"reload_signal"`
	Splay        time.Duration  `config:"splay"`
}

// Name is how messages call the template.
func (t *Template) Name() string {
	if t.Source != "" {
		return t.Source
	}
	return t.Destination
}

// ParseTemplate reads a flag's "IN:OUT[:CMD]". For a look alone (-dry) IN is enough.
func ParseTemplate(text string) (*Template, error) {
	parts := strings.SplitN(text, ":", 3)
	if parts[0] == "" || len(parts) > 1 && parts[1] == "" {
		return nil, errors.New("want SOURCE:DESTINATION[:COMMAND]")
	}
	t := &Template{Source: parts[0]}
	if len(parts) > 1 {
		t.Destination = parts[1]
	}
	if len(parts) > 2 {
		t.Command.Shell = parts[2]
	}
	return t, nil
}

// complete fills in what the whole configuration says for templates that do not.
func (t *Template) complete(c *Config) {
	if t.Command.Empty() && (t.Exec.Enabled == nil || *t.Exec.Enabled) {
		t.Command = t.Exec.Command
	}
	if t.Timeout == nil {
		t.Timeout = t.Exec.Timeout
	}
	if t.Left == "" {
		t.Left = c.DefaultDelimiters.Left
	}
	if t.Right == "" {
		t.Right = c.DefaultDelimiters.Right
	}
	if t.Wait == (Wait{}) {
		t.Wait = c.Wait
	}
}
