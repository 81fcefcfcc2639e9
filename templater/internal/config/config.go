// Package config is the templater's configuration: consul-template's flags and keys,
// and ours beside them. Files are laid over defaults in their order, flags over files.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/config"
	"github.com/rollcall/rollcall/internal/daemon"
)

// Config is everything that can be set.
type Config struct {
	Consul    Consul        `config:"consul"`
	Templates []*Template   `config:"template"`
	Nginx     Nginx         `config:"nginx"`
	Wait      Wait          `config:"wait"`
	MaxStale  time.Duration `config:"max_stale"` // default 2s
	// TemplateErrorFatal is accepted; a template's error never ends the daemon.
	TemplateErrorFatal *bool `config:"template_error_fatal"`

	DefaultDelimiters Delimiters    `config:"default_delimiters"`
	LogLevel          string        `config:"log_level"` // default info
	LogJSON           bool          `config:"log_json"`
	PIDFile           string        `config:"pid_file"`
	ReloadSignal      string        `config:"reload_signal"` // accepted: SIGHUP
	KillSignal        string        `config:"kill_signal"`   // accepted: SIGINT and SIGTERM both stop
	BlockQueryWait    time.Duration `config:"block_query_wait"`

	// Ours.
	Listen         string        `config:"listen"`          // status page; "" is off
	ReloadInterval time.Duration `config:"reload_interval"` // shortest pause between two reloads of a group; default 200ms
	Hold           time.Duration `config:"hold"`            // how long a catalog that forgot everything is not believed; default 30s
	WatchFiles     *bool         `config:"watch_files"`     // follow edits of templates; default true

	Once bool `config:"once"`
	Dry  bool `config:"-"`
}

// Consul is where the catalog is.
type Consul struct {
	Address   string `config:"address"`
	Token     string `config:"token"`
	TokenFile string `config:"token_file"`
	Auth      Auth   `config:"auth"`
	SSL       SSL    `config:"ssl"`
	Retry     Retry  `config:"retry"`
}

// UnmarshalText takes the address alone, as old files have it.
func (c *Consul) UnmarshalText(b []byte) error { c.Address = string(b); return nil }

// Auth is HTTP basic authentication.
type Auth struct {
	Enabled  *bool  `config:"enabled"`
	Username string `config:"username"`
	Password string `config:"password"`
}

// SSL is TLS towards the catalog.
type SSL struct {
	Enabled    bool   `config:"enabled"`
	Verify     *bool  `config:"verify"` // default true
	Cert       string `config:"cert"`
	Key        string `config:"key"`
	CACert     string `config:"ca_cert"`
	CAPath     string `config:"ca_path"`
	ServerName string `config:"server_name"`
}

// Retry is accepted; the templater retries for ever.
type Retry struct {
	Enabled    *bool         `config:"enabled"`
	Attempts   int           `config:"attempts"`
	Backoff    time.Duration `config:"backoff"`
	MaxBackoff time.Duration `config:"max_backoff"`
}

// Delimiters are the default ones of templates.
type Delimiters struct {
	Left  string `config:"left"`
	Right string `config:"right"`
}

// Nginx turns the preset on, with what is not found by itself.
type Nginx struct {
	Enabled bool   `config:"enabled"`
	Conf    string `config:"conf"`
	Bin     string `config:"bin"`
	PID     string `config:"pid"`
}

// Template is one file to render.
type Template struct {
	Source        string        `config:"source"`
	Contents      string        `config:"contents"`
	Destination   string        `config:"destination"`
	CreateDirs    *bool         `config:"create_dest_dirs"` // default true
	Command       Words         `config:"command"`
	Timeout       time.Duration `config:"command_timeout"` // default 30s
	Exec          Exec          `config:"exec"`
	Check         Words         `config:"check"` // ours: has to succeed before anything is replaced
	Perms         Mode          `config:"perms"`
	User          string        `config:"user,uid"`
	Group         string        `config:"group,gid"`
	Backup        bool          `config:"backup"`
	Left          string        `config:"left_delimiter"`
	Right         string        `config:"right_delimiter"`
	ErrMissingKey bool          `config:"error_on_missing_key"`
	ErrFatal      *bool         `config:"error_fatal"` // accepted
	Wait          Wait          `config:"wait"`
	Denylist      []string      `config:"function_denylist,function_blacklist"`
	Sandbox       string        `config:"sandbox_path"`
}

// Exec is the newer form of a command.
type Exec struct {
	Command Words         `config:"command"`
	Timeout time.Duration `config:"timeout"`
}

// Words is a command: one string for a shell, or a list.
type Words struct {
	Shell string
	Argv  []string
}

// UnmarshalJSON reads a string or a list of strings.
func (w *Words) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, &w.Argv)
	}
	return json.Unmarshal(b, &w.Shell)
}

// Empty reports whether there is no command.
func (w Words) Empty() bool { return w.Shell == "" && len(w.Argv) == 0 }

// String names the command; equal commands have equal names.
func (w Words) String() string {
	if w.Shell != "" {
		return w.Shell
	}
	return strings.Join(w.Argv, "\x00")
}

// Mode is a file mode, octal as a string or number: 0644, "644", "0o644".
type Mode os.FileMode

// UnmarshalJSON reads the mode.
func (m *Mode) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil {
		return fmt.Errorf("perms %s: want an octal mode like \"0644\"", b)
	}
	*m = Mode(n)
	return nil
}

// Wait is how long to wait for quiet: at least Min since the last change, at most Max
// since the first.
type Wait struct{ Min, Max time.Duration }

// UnmarshalJSON reads "1s:5s", "1s", or {min, max}.
func (w *Wait) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		return w.Set(s)
	}
	var o struct{ Min, Max string }
	if err := json.Unmarshal(b, &o); err != nil {
		return errors.New("wait: want \"MIN:MAX\" or min and max")
	}
	return w.Set(strings.Trim(o.Min+":"+o.Max, ":"))
}

// Set reads "MIN[:MAX]"; MAX is four times MIN where it is not said.
func (w *Wait) Set(s string) error {
	if s == "" {
		return nil
	}
	first, second, both := strings.Cut(s, ":")
	lo, err := time.ParseDuration(first)
	if err != nil {
		return fmt.Errorf("wait %q: want MIN or MIN:MAX, such as 500ms:5s", s)
	}
	hi := 4 * lo
	if both {
		if hi, err = time.ParseDuration(second); err != nil {
			return fmt.Errorf("wait %q: want MIN or MIN:MAX, such as 500ms:5s", s)
		}
	}
	if lo < 0 || hi < lo {
		return fmt.Errorf("wait %q: MIN may not be negative, and MAX not below MIN", s)
	}
	w.Min, w.Max = lo, hi
	return nil
}

// ignored are keys of consul-template that have no meaning here.
var ignored = []string{
	"vault", "vault.*", "nomad", "nomad.*", "deduplicate", "deduplicate.*", "syslog", "syslog.*", "log_file", "log_file.*", "exec", "exec.*",
	"parse_only", "err_on_failed_lookup", "consul.namespace", "consul.transport", "consul.transport.*",
	"template.exec.*",
}

// Default is the configuration before files and flags.
func Default() *Config {
	return &Config{MaxStale: 2 * time.Second, LogLevel: "info", ReloadInterval: 200 * time.Millisecond, Hold: 30 * time.Second}
}

// ReadFiles lays files, or whole directories, over c. Warnings are for the log.
func (c *Config) ReadFiles(paths []string) (warnings []string, err error) {
	for _, p := range paths {
		sources, err := config.ReadPath(p, "")
		if err != nil {
			return warnings, err
		}
		for _, s := range sources {
			w, err := c.lay(s)
			warnings = append(warnings, w...)
			if err != nil {
				return warnings, err
			}
		}
	}
	return warnings, nil
}

// ReadText lays a piece of configuration over c.
func (c *Config) ReadText(name, text string) ([]string, error) {
	s, err := config.Parse(name, []byte(text), "")
	if err != nil {
		return nil, err
	}
	return c.lay(s)
}

func (c *Config) lay(s *config.Source) ([]string, error) { return s.Decode(c, ignored...) }

// ParseTemplate reads a flag's "IN:OUT[:CMD]".
func ParseTemplate(text string) (*Template, error) {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return nil, fmt.Errorf("-template %q: want SOURCE:DESTINATION[:COMMAND]", text)
	}
	t := &Template{Source: parts[0], Destination: parts[1]}
	if len(parts) == 3 {
		t.Command.Shell = parts[2]
	}
	return t, nil
}

// Validate completes the configuration, and reports everything that is wrong with it.
func (c *Config) Validate() error {
	var errs []error
	if _, err := daemon.Level(c.LogLevel); err != nil {
		errs = append(errs, fmt.Errorf("log_level: %w", err))
	}
	if len(c.Templates) == 0 {
		errs = append(errs, errors.New("there is nothing to render: give -template SOURCE:DESTINATION, or a configuration with template blocks (-config)"))
	}
	seen := map[string]bool{}
	for i, t := range c.Templates {
		name := t.Source
		if name == "" {
			name = fmt.Sprintf("template %d", i+1)
		}
		if (t.Source == "") == (t.Contents == "") {
			errs = append(errs, fmt.Errorf("%s: give a source or contents, one of them", name))
		}
		if t.Destination == "" && !c.Dry {
			errs = append(errs, fmt.Errorf("%s: the destination is missing", name))
		}
		if dest := filepath.Clean(t.Destination); t.Destination != "" && seen[dest] {
			errs = append(errs, fmt.Errorf("%s: two templates write to it", dest))
		} else {
			seen[dest] = true
		}
		if t.Command.Empty() {
			t.Command = t.Exec.Command
			if t.Timeout == 0 {
				t.Timeout = t.Exec.Timeout
			}
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
	return errors.Join(errs...)
}

// Group is the templates that go live together.
type Group struct {
	Name      string
	Templates []*Template
	Nginx     bool
}

// Groups puts templates with the same command into one group, those without a command
// each into one of their own; with the nginx preset, templates without a command are
// nginx's.
func (c *Config) Groups() []*Group {
	var out []*Group
	for _, t := range c.Templates {
		key, nginx := t.Command.String(), false
		if t.Command.Empty() && c.Nginx.Enabled {
			key, nginx = "nginx", true
		}
		i := slices.IndexFunc(out, func(g *Group) bool { return key != "" && g.Name == key })
		if i < 0 {
			name := key
			if name == "" {
				name = t.Destination
			}
			out = append(out, &Group{Name: name, Nginx: nginx})
			i = len(out) - 1
		}
		out[i].Templates = append(out[i].Templates, t)
	}
	for _, g := range out { // what people see
		g.Name = strings.ReplaceAll(g.Name, "\x00", " ")
	}
	return out
}
