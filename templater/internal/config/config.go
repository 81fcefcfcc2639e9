// Package config is the templater's configuration: consul-template's flags and keys,
// and ours beside them. Files are laid over defaults in their order, flags over files.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
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
	Wait      Wait          `config:"wait"`
	MaxStale  time.Duration `config:"max_stale"` // default 2s
	// BlockWait is how long one query waits at the catalog for a change; default 60s. The
	// catalog takes 10 minutes at most.
	BlockWait time.Duration `config:"block_query_wait"`
	Exec      Exec          `config:"exec"` // a program that lives as long as the templater
	// TemplateErrorFatal is accepted; a template's error never ends the daemon.
	TemplateErrorFatal *bool `config:"template_error_fatal"`
	// FailLookup ends the templater where a template has never had its data, since a key is not
	// there, for BlockWait.
	FailLookup        bool       `config:"err_on_failed_lookup"`
	DefaultDelimiters Delimiters `config:"default_delimiters"`
	LogLevel          string     `config:"log_level"` // default info
	LogFile           LogFile    `config:"log_file"`
	Syslog            Syslog     `config:"syslog"`
	PIDFile           string     `config:"pid_file"`
	ReloadSignal      *Signal    `config:"reload_signal"` // default SIGHUP; none does not reload
	KillSignal        *Signal    `config:"kill_signal"`   // default SIGINT; SIGTERM stops always
	Once              bool       `config:"once"`
	ParseOnly         bool       `config:"parse_only"` // read everything, and end

	// Ours.

	Groups         []*Group      `config:"group"`
	Nginx          Nginx         `config:"nginx"`
	LogJSON        bool          `config:"log_json"`
	Listen         string        `config:"listen"`          // status page; "" is off
	Announce       bool          `config:"announce"`        // tell the catalog how this templater is
	HTTP           HTTP          `config:"http"`            // its address again, as a block
	ReloadInterval time.Duration `config:"reload_interval"` // shortest pause between two reloads of a group; default 200ms
	Hold           time.Duration `config:"hold"`            // how long a catalog that forgot everything is not believed; default 30s
	Guard          Guard         `config:"guard"`           // of groups that have none of their own
	// RemovalDelay keeps an instance that vanished for so long, in case it comes back.
	RemovalDelay time.Duration `config:"removal_delay"`
	Catalog      Catalog       `config:"catalog"`
	WatchFiles   *bool         `config:"watch_files"` // follow edits of templates; default true

	Dry     bool          `config:"-"`
	Timeout time.Duration `config:"-"` // of Once; 0 waits for ever
}

// Consul is where the catalog is.
type Consul struct {
	Address   string    `config:"address"`
	Token     string    `config:"token"`
	TokenFile string    `config:"token_file"`
	Auth      Auth      `config:"auth"`
	SSL       SSL       `config:"ssl"`
	Retry     Retry     `config:"retry"`
	Transport Transport `config:"transport"`
}

// Environ is what commands and templates find in the environment of the catalog's settings,
// beside the templater's own environment and before it.
func (c *Consul) Environ() []string {
	var out []string
	add := func(name, v string) {
		if v != "" {
			out = append(out, name+"="+v)
		}
	}
	add("CONSUL_HTTP_ADDR", cmp.Or(c.Address, os.Getenv("CONSUL_HTTP_ADDR"))) // also to whom nothing of the environment is given
	add("CONSUL_HTTP_TOKEN", cmp.Or(c.Token, os.Getenv("CONSUL_HTTP_TOKEN")))
	add("CONSUL_HTTP_AUTH", c.Auth.String())
	if on := c.SSL.Enabled; on != nil {
		add("CONSUL_HTTP_SSL", strconv.FormatBool(*on))
		if *on {
			add("CONSUL_HTTP_SSL_VERIFY", strconv.FormatBool(c.SSL.Verify == nil || *c.SSL.Verify))
		}
	}
	return out
}

// Transport bounds the connections to the catalog. What is 0 has its default.
type Transport struct {
	DialKeepAlive       time.Duration `config:"dial_keep_alive"`         // default 30s
	DialTimeout         time.Duration `config:"dial_timeout"`            // default 30s
	DisableKeepAlives   bool          `config:"disable_keep_alives"`     // a connection for each question
	IdleConnTimeout     time.Duration `config:"idle_conn_timeout"`       // default 90s
	MaxIdleConns        int           `config:"max_idle_conns"`          // default 100
	MaxIdleConnsPerHost int           `config:"max_idle_conns_per_host"` // default 100
	MaxConnsPerHost     int           `config:"max_conns_per_host"`      // default 0: one for each watch
	TLSHandshakeTimeout time.Duration `config:"tls_handshake_timeout"`   // default 10s
}

// UnmarshalText takes the address alone, as old files have it.
func (c *Consul) UnmarshalText(b []byte) error { c.Address = string(b); return nil }

// Auth is HTTP basic authentication.
type Auth struct {
	Enabled  *bool  `config:"enabled"`
	Username string `config:"username"`
	Password string `config:"password"`
}

// String is what a client takes, "" for none.
func (a Auth) String() string {
	if a.Username == "" || a.Enabled != nil && !*a.Enabled {
		return ""
	}
	return a.Username + ":" + a.Password
}

// SSL is TLS towards the catalog.
type SSL struct {
	Enabled    *bool  `config:"enabled"` // default: whether anything else of these is set
	Verify     *bool  `config:"verify"`  // default true
	Cert       string `config:"cert"`
	Key        string `config:"key"`
	CACert     string `config:"ca_cert"`
	CACertPEM  string `config:"ca_cert_bytes"` // the certificate itself
	CAPath     string `config:"ca_path"`
	ServerName string `config:"server_name"`
}

// complete fills in whether TLS is used. Where it is not, the rest means nothing.
func (s *SSL) complete() {
	on := *s != SSL{}
	if s.Enabled == nil && on {
		s.Enabled = &on
	}
	if s.Enabled != nil && !*s.Enabled {
		*s = SSL{Enabled: s.Enabled}
	}
}

// Retry bounds how often -once asks again; what stays asks for ever.
type Retry struct {
	Enabled    *bool         `config:"enabled"`     // default true
	Attempts   int           `config:"attempts"`    // after the first; 0 is for ever
	Backoff    time.Duration `config:"backoff"`     // accepted: pauses are the client's
	MaxBackoff time.Duration `config:"max_backoff"` // accepted, too
}

// Tries is how often one question may be put without an answer, 0 for ever.
func (r Retry) Tries() int {
	switch {
	case r.Enabled != nil && !*r.Enabled:
		return 1
	case r.Attempts > 0:
		return r.Attempts + 1
	}
	return 0
}

// Delimiters are the default ones of templates.
type Delimiters struct {
	Left  string `config:"left"`
	Right string `config:"right"`
}

// LogFile is a file for the log, and when it is exchanged for a new one.
type LogFile struct {
	Path     string        `config:"path"`
	Bytes    int           `config:"log_rotate_bytes"`     // at this size; 0 is off
	Duration time.Duration `config:"log_rotate_duration"`  // after so long; default 24h
	MaxFiles int           `config:"log_rotate_max_files"` // old ones to keep; 0 keeps all, -1 none
}

// Syslog sends the log there too.
type Syslog struct {
	Enabled  bool   `config:"enabled"`
	Facility string `config:"facility"` // default LOCAL0
	Name     string `config:"name"`     // default templater
}

// HTTP is the status page.
type HTTP struct {
	Listen string `config:"listen"`
}

// Catalog says what to do without one.
type Catalog struct {
	// OnLoss is keep (default): the last good files stay; exit: end after MaxAge; fallback:
	// after MaxAge templates that have one give their fallback.
	OnLoss string        `config:"on_loss"`
	MaxAge time.Duration `config:"max_age"` // how long the catalog may be away
	// StateFile keeps what the catalog said last, so that a start while it is away renders
	// that. It holds values of keys: mode 0600. Default none.
	StateFile string `config:"state_file"`
}

// Nginx turns the preset on, with what is not found by itself.
type Nginx struct {
	Enabled bool   `config:"enabled"`
	Conf    string `config:"conf"`
	Bin     string `config:"bin"`
	PID     string `config:"pid"`
	// Generation is an address, host:port or unix:/path, on which nginx shall say which
	// generation it serves, so that a reload is proven by nginx itself. Default off.
	Generation string `config:"generation"`
	// MaxDraining is how many old workers may still serve long connections before the next
	// reload waits for some to end, up to 10s. Default 16, -1 never waits.
	MaxDraining int `config:"max_draining"`
}

// ignored are keys of consul-template that have no meaning here.
var ignored = []string{
	"vault", "vault.*", "nomad", "nomad.*", "deduplicate", "deduplicate.*", "retry", "consul.namespace",
}

// Default is the configuration before files and flags.
func Default() *Config {
	return &Config{MaxStale: 2 * time.Second, LogLevel: "info", ReloadInterval: 200 * time.Millisecond, Hold: 30 * time.Second}
}

// ReadFiles lays files over c, and of directories all files in the order of their names,
// those of folders below included. Warnings are for the log.
func (c *Config) ReadFiles(paths []string) (warnings []string, err error) {
	for _, p := range paths {
		p, err := filepath.EvalSymlinks(p) // a folder that is mounted in is often a link
		if err != nil {
			return warnings, fmt.Errorf("read configuration: %w", err)
		}
		err = filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			w, err := c.ReadText(path, string(b))
			warnings = append(warnings, w...)
			return err
		})
		if err != nil {
			return warnings, fmt.Errorf("read configuration: %w", err)
		}
	}
	return warnings, nil
}

// ReadText lays a piece of configuration over c.
func (c *Config) ReadText(name, text string) ([]string, error) {
	format := "hcl" // whatever it is called, as consul-template does
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		format = "json"
	}
	s, err := config.Parse(name, []byte(text), format)
	if err != nil {
		return nil, err
	}
	return s.Decode(c, ignored...)
}

// Validate completes the configuration, and reports everything that is wrong with it.
func (c *Config) Validate() error {
	errs := negative("", reflect.ValueOf(c).Elem())
	if _, err := daemon.Level(c.LogLevel); err != nil {
		errs = append(errs, fmt.Errorf("log_level: %w", err))
	}
	c.Consul.SSL.complete()
	if c.Listen == "" {
		c.Listen = c.HTTP.Listen
	}
	if w := c.BlockWait; w < 0 || w > 10*time.Minute {
		errs = append(errs, fmt.Errorf("block_query_wait %s: want up to 10m", w))
	} else if w == 0 {
		c.BlockWait = time.Minute
	}
	errs = append(errs, oneOf("catalog: on_loss", c.Catalog.OnLoss, "keep", "exit", "fallback"))
	if how := c.Catalog.OnLoss; (how == "exit" || how == "fallback") && c.Catalog.MaxAge <= 0 {
		errs = append(errs, fmt.Errorf("catalog: on_loss %s needs max_age, such as \"10m\"", how))
	}
	if !slices.ContainsFunc(c.All(), func(t *Template) bool { return t.Fallback != "" }) == (c.Catalog.OnLoss == "fallback") {
		errs = append(errs, errors.New("catalog: on_loss fallback and a template's fallback need one another"))
	}
	errs = append(errs, c.validateTemplates(), share("guard", c.Guard.MaxShrinkPercent)) // which completes them
	names := map[string]bool{}
	for _, g := range c.Groups {
		if g.Name == "" {
			errs = append(errs, errors.New("a group needs a name: group \"edge\" { … }"))
		} else if names[g.Name] {
			errs = append(errs, fmt.Errorf("group %q: there are two of that name", g.Name))
		}
		names[g.Name] = true
		errs = append(errs, g.validate())
	}
	return errors.Join(errs...)
}

// negative reports each duration below zero, by its key.
func negative(path string, v reflect.Value) (errs []error) {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		return negative(path, v.Elem())
	case v.Type() == reflect.TypeFor[time.Duration]() && v.Int() < 0:
		return []error{fmt.Errorf("%s = %q: a duration may not be negative", path, time.Duration(v.Int()))}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			errs = append(errs, negative(path, v.Index(i))...)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("config"), ","); name != "" && name != "-" {
				errs = append(errs, negative(strings.TrimPrefix(path+"."+name, "."), v.Field(i))...)
			}
		}
	}
	return errs
}

// doubts are what is hardly meant.
func (c *Config) doubts() (warnings []string) {
	for _, t := range c.All() {
		if n := t.Perms; n > 0o777 {
			warnings = append(warnings, fmt.Sprintf("%s: perms %d is, as a decimal number, mode %04o: write an octal mode like \"0644\"", t.Name(), n, n))
		}
	}
	return warnings
}

// All gives every template, those in groups too.
func (c *Config) All() []*Template {
	all := append([]*Template{}, c.Templates...)
	for _, g := range c.Groups {
		all = append(all, g.Templates...)
	}
	return all
}

func (c *Config) validateTemplates() error {
	var errs []error
	all := c.All()
	if len(all) == 0 && c.Exec.Command.Empty() {
		errs = append(errs, errors.New("there is nothing to render: give -template SOURCE:DESTINATION, or a configuration with template blocks (-config)"))
	}
	seen := map[string]bool{}
	for i, t := range all {
		name := t.Source
		if name == "" {
			name = fmt.Sprintf("template %d", i+1)
		}
		if (t.Source == "") == (t.Contents == "") {
			errs = append(errs, fmt.Errorf("%s: give a source or contents, one of them", name))
		}
		if t.Destination == "" && !c.Dry {
			errs = append(errs, fmt.Errorf("%s: the destination is missing (-template SOURCE:DESTINATION[:COMMAND])", name))
		}
		if dest := filepath.Clean(t.Destination); t.Destination != "" && seen[dest] {
			errs = append(errs, fmt.Errorf("%s: two templates write to it", dest))
		} else {
			seen[dest] = true
		}
		if t.Fallback != "" && t.ForEach != "" {
			errs = append(errs, fmt.Errorf("%s: fallback is one file, for_each makes several", name))
		}
		if err := share("guard", t.Guard.MaxShrinkPercent); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		t.complete(c)
	}
	return errors.Join(errs...)
}
