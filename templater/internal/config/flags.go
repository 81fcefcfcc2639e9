package config

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Invocation is what the command line asks for.
type Invocation struct {
	// Command is one of Commands.
	Command string
	Args    []string // of the command
	Version bool
	Once    bool
	Dry     bool
	JSON    bool          // of status
	Redact  bool          // of plan: nothing of what the files hold
	Why     string        // of status: a template, or a part of its name
	Timeout time.Duration // of once, plan and check
	files   []string
	lay     []func(*Config) error
}

// Command is a verb of the command line.
type Command struct {
	Name, Args, Usage string
	most              int // arguments at most
}

// Commands are all verbs. A command line of flags alone is consul-template's, and runs.
var Commands = []Command{
	{"run", "", "render, and follow the catalog (what flags alone do)", 0},
	{"once", "", "render and apply once, then end (-once)", 0},
	{"plan", "", "show as a diff what would change; exit 0 nothing, 2 something, 1 fault", 0},
	{"check", "", "render, and have the check judge it, without a change; exit 0 or 1", 0},
	{"status", "", "what a running templater says of itself; -why TEMPLATE, -json", 0},
	{"watch", "", "the same as a live view", 0},
	{"rollback", "GROUP [N]", "bring back the Nth generation before the present one, and stay there; N = 0 follows again", 2},
	{"config", "validate", "read the configuration and its templates", 1},
	{"version", "", "print the version", 0},
}

// ErrUsage marks a fault of the command line itself.
var ErrUsage = errors.New("usage")

// ErrHelp: the help was asked for.
var ErrHelp = flag.ErrHelp

// a flagHelp is a line of the help.
type flagHelp struct{ name, usage string }

// ParseFlags reads the command line. Nothing is opened yet: Load does that, now and at
// each reload.
func ParseFlags(args []string) (*Invocation, error) {
	in := &Invocation{Command: "run"}
	command := Commands[0]
	if len(args) > 0 && args[0] == "help" {
		return nil, ErrHelp
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		i := slices.IndexFunc(Commands, func(c Command) bool { return c.Name == args[0] })
		if i < 0 {
			return nil, fmt.Errorf("%w: %q is no command: `templater -h` lists them", ErrUsage, args[0])
		}
		command = Commands[i]
		in.Command, args = args[0], args[1:]
	}
	fs, _ := in.flags()
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, ErrHelp
			}
			text := err.Error()
			if name, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok {
				text = "unknown flag " + name + near(fs, strings.TrimLeft(name, "-"))
			}
			return nil, fmt.Errorf("%w: %s: `templater -h` lists the flags", ErrUsage, text)
		}
		if fs.NArg() == 0 {
			break
		}
		in.Args = append(in.Args, fs.Arg(0))
		args = fs.Args()[1:]
	}
	if len(in.Args) > command.most {
		return nil, fmt.Errorf("%w: %q is no flag: `templater -h` lists them", ErrUsage, in.Args[command.most])
	}
	return in, in.verb()
}

// verb has a command set what it means, and looks at its arguments.
func (in *Invocation) verb() error {
	switch in.Command {
	case "once":
		in.Once = true
	case "version":
		in.Version = true
	case "config":
		if len(in.Args) != 1 || in.Args[0] != "validate" {
			return fmt.Errorf("%w: templater config validate -config PATH", ErrUsage)
		}
	case "rollback":
		if len(in.Args) == 0 {
			return fmt.Errorf("%w: templater rollback GROUP [N] -config PATH; `templater status` lists the groups", ErrUsage)
		}
	}
	return nil
}

// near suggests the flag that begins like a mistyped one, or that it begins like.
func near(fs *flag.FlagSet, name string) string {
	best := ""
	fs.VisitAll(func(f *flag.Flag) {
		if best == "" && (strings.HasPrefix(f.Name, name) || strings.HasPrefix(name, f.Name)) {
			best = " (did you mean -" + f.Name + "?)"
		}
	})
	return best
}

// flags defines every flag, and gives the lines of the help.
func (in *Invocation) flags() (*flag.FlagSet, []flagHelp) {
	fs := flag.NewFlagSet("templater", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	var help []flagHelp
	text := func(name, usage string, set func(*Config, string) error) {
		help = append(help, flagHelp{name + " VALUE", usage})
		fs.Func(name, usage, func(v string) error {
			if err := set(Default(), v); err != nil { // a bad value is the command line's fault
				return err
			}
			in.lay = append(in.lay, func(c *Config) error { return set(c, v) })
			return nil
		})
	}
	boolean := func(name, usage string, set func(*Config, bool)) {
		help = append(help, flagHelp{name, usage})
		fs.BoolFunc(name, usage, func(v string) error {
			on, err := strconv.ParseBool(v)
			if err != nil {
				return errBool
			}
			in.lay = append(in.lay, func(c *Config) error { set(c, on); return nil })
			return nil
		})
	}
	str := func(name, usage string, to func(*Config) *string) {
		text(name, usage, func(c *Config, v string) error { *to(c) = v; return nil })
	}
	duration := func(name, usage string, to func(*Config) *time.Duration) {
		text(name, usage, func(c *Config, v string) (err error) { *to(c), err = time.ParseDuration(v); return err })
	}
	number := func(name, usage string, to func(*Config) *int) {
		text(name, usage, func(c *Config, v string) (err error) { *to(c), err = strconv.Atoi(v); return err })
	}
	signal := func(name, usage string, to func(*Config) *Signal) {
		text(name, usage, func(c *Config, v string) error { return to(c).UnmarshalText([]byte(v)) })
	}
	words := func(name, usage string, to func(*Config) *[]string) {
		text(name, usage, func(c *Config, v string) error { *to(c) = append(*to(c), v); return nil })
	}
	text("template", "SOURCE:DESTINATION[:COMMAND]; repeat for more", func(c *Config, v string) error {
		t, err := ParseTemplate(v)
		if err == nil {
			c.Templates = append(c.Templates, t)
		}
		return err
	})
	help = append(help, flagHelp{"config PATH", "configuration file, or directory of them; repeat for more"})
	fs.Func("config", "", func(v string) error { in.files = append(in.files, v); return nil })
	str("consul-addr", "the catalog's address (default: CONSUL_HTTP_ADDR, else 127.0.0.1:8500)", func(c *Config) *string { return &c.Consul.Address })
	str("consul-token", "ACL token", func(c *Config) *string { return &c.Consul.Token })
	str("consul-token-file", "file with the ACL token", func(c *Config) *string { return &c.Consul.TokenFile })
	text("consul-auth", "USER[:PASSWORD] for HTTP", func(c *Config, v string) error {
		c.Consul.Auth.Username, c.Consul.Auth.Password, _ = strings.Cut(v, ":")
		return nil
	})
	boolean("consul-ssl", "use TLS (default: if another -consul-ssl-… is there)", func(c *Config, v bool) { c.Consul.SSL.Enabled = &v })
	boolean("consul-ssl-verify", "check the certificate (default true)", func(c *Config, v bool) { c.Consul.SSL.Verify = &v })
	str("consul-ssl-ca-cert", "CA certificate", func(c *Config) *string { return &c.Consul.SSL.CACert })
	str("consul-ssl-ca-path", "directory of CA certificates", func(c *Config) *string { return &c.Consul.SSL.CAPath })
	str("consul-ssl-cert", "client certificate", func(c *Config) *string { return &c.Consul.SSL.Cert })
	str("consul-ssl-key", "its key", func(c *Config) *string { return &c.Consul.SSL.Key })
	str("consul-ssl-server-name", "name that the certificate must bear", func(c *Config) *string { return &c.Consul.SSL.ServerName })
	boolean("consul-retry", "with -once: ask again where the catalog does not answer (default true)", func(c *Config, v bool) { c.Consul.Retry.Enabled = &v })
	number("consul-retry-attempts", "with -once: how often, then it fails (default: for ever)", func(c *Config) *int { return &c.Consul.Retry.Attempts })
	duration("consul-transport-dial-keep-alive", "between the kernel's probes of a connection (default 30s)", func(c *Config) *time.Duration { return &c.Consul.Transport.DialKeepAlive })
	duration("consul-transport-dial-timeout", "for a connection (default 30s)", func(c *Config) *time.Duration { return &c.Consul.Transport.DialTimeout })
	boolean("consul-transport-disable-keep-alives", "make a connection for each question", func(c *Config, v bool) { c.Consul.Transport.DisableKeepAlives = v })
	number("consul-transport-max-idle-conns-per-host", "connections kept without a question (default 100)", func(c *Config) *int { return &c.Consul.Transport.MaxIdleConnsPerHost })
	duration("consul-transport-tls-handshake-timeout", "for TLS (default 10s)", func(c *Config) *time.Duration { return &c.Consul.Transport.TLSHandshakeTimeout })
	duration("max-stale", "how far behind a server's answer may be (default 2s; 0 asks the leader)", func(c *Config) *time.Duration { return &c.MaxStale })
	text("wait", "MIN[:MAX] of quiet before a change goes live (default: none, at once)", func(c *Config, v string) error { return c.Wait.Set(v) })
	boolean("nginx", "check, reload and verify nginx for templates without a command", func(c *Config, v bool) { c.Nginx.Enabled = v })
	str("nginx-conf", "nginx's main configuration (default /etc/nginx/nginx.conf)", func(c *Config) *string { return &c.Nginx.Conf })
	str("nginx-bin", "nginx's binary, for the check (default nginx)", func(c *Config) *string { return &c.Nginx.Bin })
	str("nginx-pid", "nginx's master: a pid, or a pid file (default: found)", func(c *Config) *string { return &c.Nginx.PID })
	duration("reload-interval", "shortest pause between two reloads (default 200ms)", func(c *Config) *time.Duration { return &c.ReloadInterval })
	duration("hold", "how long a catalog that came back empty is not believed (default 30s)", func(c *Config) *time.Duration { return &c.Hold })
	str("listen", "address of the status page (default: off)", func(c *Config) *string { return &c.Listen })
	boolean("announce", "show in the catalog, on the web page, how this templater is (needs session:write and key:write on rollcall/agents/)", func(c *Config, v bool) { c.Announce = v })
	str("guard-override-file", "while this file is there, no guard holds anything back", func(c *Config) *string { return &c.Guard.OverrideFile })
	number("min-instances", "hold a change that leaves a service fewer instances (default 0: off)", func(c *Config) *int { return &c.Guard.MinInstances })
	number("max-shrink", "hold a change that takes more than this percentage of a service's instances at once (default 0: off)", func(c *Config) *int { return &c.Guard.MaxShrinkPercent })
	duration("removal-delay", "keep an instance that vanished for so long, in case it comes back (default 0)", func(c *Config) *time.Duration { return &c.RemovalDelay })
	boolean("watch-files", "follow edits of templates (default true)", func(c *Config, v bool) { c.WatchFiles = &v })
	str("log-level", "trace, debug, info, warn or err (default info)", func(c *Config) *string { return &c.LogLevel })
	boolean("log-json", "log as JSON", func(c *Config, v bool) { c.LogJSON = v })
	str("pid-file", "file to write the process id to", func(c *Config) *string { return &c.PIDFile })
	str("default-left-delimiter", "default {{", func(c *Config) *string { return &c.DefaultDelimiters.Left })
	str("default-right-delimiter", "default }}", func(c *Config) *string { return &c.DefaultDelimiters.Right })
	str("log-file", "file for the log", func(c *Config) *string { return &c.LogFile.Path })
	number("log-rotate-bytes", "begin a new log file at this size", func(c *Config) *int { return &c.LogFile.Bytes })
	duration("log-rotate-duration", "begin a new log file after so long (default 24h)", func(c *Config) *time.Duration { return &c.LogFile.Duration })
	number("log-rotate-max-files", "old log files to keep (default 0: all; -1: none)", func(c *Config) *int { return &c.LogFile.MaxFiles })
	boolean("syslog", "send the log to syslog", func(c *Config, v bool) { c.Syslog.Enabled = v })
	str("syslog-facility", "default LOCAL0", func(c *Config) *string { return &c.Syslog.Facility })
	str("syslog-name", "default templater", func(c *Config) *string { return &c.Syslog.Name })
	signal("reload-signal", "signal that reads the configuration again (default SIGHUP)", func(c *Config) *Signal { c.ReloadSignal = new(Signal); return c.ReloadSignal })
	signal("kill-signal", "signal that stops, beside SIGTERM (default SIGINT)", func(c *Config) *Signal { c.KillSignal = new(Signal); return c.KillSignal })
	text("exec", "program to run beside, once everything is rendered", func(c *Config, v string) error { c.Exec.Command = Words{Shell: v}; return nil })
	signal("exec-kill-signal", "signal that ends it (default SIGINT)", func(c *Config) *Signal { return &c.Exec.KillSignal })
	duration("exec-kill-timeout", "then it is killed (default 30s)", func(c *Config) *time.Duration { return &c.Exec.KillTimeout })
	signal("exec-reload-signal", "signal at a change (default: end it and start it again)", func(c *Config) *Signal { return &c.Exec.ReloadSignal })
	duration("exec-splay", "wait up to so long before that", func(c *Config) *time.Duration { return &c.Exec.Splay })
	boolean("exec-env-pristine", "give it none of the templater's environment", func(c *Config, v bool) { c.Exec.Env.Pristine = v })
	words("exec-env-custom", "NAME=VALUE for it; repeat for more", func(c *Config) *[]string { return &c.Exec.Env.Custom })
	words("exec-env-allowlist", "names that it may have; repeat for more", func(c *Config) *[]string { return &c.Exec.Env.Allowlist })
	words("exec-env-denylist", "names that it may not have; repeat for more", func(c *Config) *[]string { return &c.Exec.Env.Denylist })
	boolean("parse-only", "read configuration and templates, and end", func(c *Config, v bool) { c.ParseOnly = v })
	help = append(help, flagHelp{"once", "render and apply once, then end"}, flagHelp{"dry", "print what would be written; run no command"}, flagHelp{"version", "print the version"},
		flagHelp{"timeout VALUE", "of once, plan and check: how long to wait for data (default: once for ever, else 10s)"},
		flagHelp{"why TEMPLATE", "of status: what a template reads, waits for, and what keeps it back"}, flagHelp{"json", "of status: print JSON"},
		flagHelp{"redact", "of plan: say how many lines change, not which"})
	fs.DurationVar(&in.Timeout, "timeout", 0, "")
	fs.BoolVar(&in.JSON, "json", false, "")
	fs.BoolVar(&in.Redact, "redact", false, "")
	fs.StringVar(&in.Why, "why", "", "")
	fs.BoolVar(&in.Once, "once", false, "")
	fs.BoolVar(&in.Dry, "dry", false, "")
	fs.BoolVar(&in.Version, "version", false, "")
	fs.BoolVar(&in.Version, "v", false, "")
	for _, name := range meaninglessBools {
		fs.Bool(name, false, "")
	}
	for _, name := range meaninglessTexts {
		fs.String(name, "", "")
	}
	for _, name := range meaninglessNumbers {
		fs.Int(name, 0, "")
	}
	for _, name := range meaninglessDurations {
		fs.Duration(name, 0, "")
	}
	return fs, help
}

var errBool = errors.New("want true or false")

// Flags of consul-template that are accepted so that a command line goes on working, and
// that have nothing to do here: one watch serves all templates, and there is no Vault. Their
// values are looked at all the same.
var (
	meaninglessBools = []string{
		"dedup", "template-error-fatal",
		"vault-renew-token", "vault-retry", "vault-ssl", "vault-ssl-verify", "vault-transport-disable-keep-alives", "vault-unwrap-token",
	}
	meaninglessTexts = []string{
		"vault-addr", "vault-agent-token-file", "vault-client-user-agent", "vault-ssl-ca-cert", "vault-ssl-ca-path", "vault-ssl-cert", "vault-ssl-key",
		"vault-ssl-server-name", "vault-token",
	}
	meaninglessNumbers   = []string{"vault-retry-attempts", "vault-transport-max-conns-per-host", "vault-transport-max-idle-conns-per-host"}
	meaninglessDurations = []string{
		"consul-retry-backoff", "consul-retry-max-backoff", "retry",
		"vault-default-lease-duration", "vault-retry-backoff", "vault-retry-max-backoff",
		"vault-transport-dial-keep-alive", "vault-transport-dial-timeout", "vault-transport-tls-handshake-timeout",
	}
)

// Help writes what the flags are.
func Help(w io.Writer) {
	fmt.Fprint(w, `templater - render files from the catalog and have nginx, or any program, follow

  templater -nginx -template /etc/templater/nginx.conf.ctmpl:/etc/nginx/conf.d/default.conf
        one file for nginx: checked, swapped in, reloaded, verified, rolled back
  templater -template in.ctmpl:out.conf:"systemctl reload haproxy"
        a file and a command, as consul-template has it
  templater -config /etc/templater/templater.hcl
        configuration in HCL or JSON; consul-template's files work as they are
  templater plan -template in.ctmpl:out.conf
        look at what would change

Commands:
`)
	for _, c := range Commands {
		fmt.Fprintf(w, "  %-30s %s\n", strings.TrimSpace(c.Name+" "+c.Args), c.Usage)
	}
	fmt.Fprint(w, "\nFlags, of every command:\n")
	_, help := (&Invocation{}).flags()
	for _, h := range help {
		fmt.Fprintf(w, "  -%-30s %s\n", h.name, h.usage)
	}
	fmt.Fprint(w, "\nEnvironment: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_SSL and their kin for the catalog;\n"+
		"CT_LOCAL_CONFIG, a configuration's text, before that of -config; CT_LOG, the level of the log. Flags go before all.\n")
	fmt.Fprint(w, "\nSignals: HUP reads the configuration again, USR1 prints the status, TERM and INT stop.\n"+
		"Exit codes: 0, 11 (other), 12 (SIGINT), 13 (flags), 14 (-once failed), 15 (configuration), the code of -exec's program.\n")
}

// read lays everything over the defaults.
func (in *Invocation) read() (*Config, []string, error) {
	c := Default()
	var warnings []string
	for _, name := range []string{"CONSUL_TEMPLATE_LOG_LEVEL", "CONSUL_TEMPLATE_LOG", "CT_LOG"} { // the last goes before
		if v := os.Getenv(name); v != "" {
			c.LogLevel = v
		}
	}
	if text := os.Getenv("CT_LOCAL_CONFIG"); text != "" {
		w, err := c.ReadText("CT_LOCAL_CONFIG", text)
		warnings = append(warnings, w...)
		if err != nil {
			return nil, warnings, err
		}
	}
	w, err := c.ReadFiles(in.files)
	warnings = append(warnings, w...)
	if err != nil {
		return nil, warnings, err
	}
	for _, lay := range in.lay {
		if err := lay(c); err != nil {
			return nil, warnings, err
		}
	}
	return c, warnings, nil
}

// Load gives the configuration as it is now.
func (in *Invocation) Load() (*Config, []string, error) {
	c, warnings, err := in.read()
	if err != nil {
		return nil, warnings, err
	}
	c.Once, c.Dry, c.Timeout = c.Once || in.Once, in.Dry, in.Timeout
	if c.Consul.Token == "" { // the client itself knows CONSUL_HTTP_TOKEN
		c.Consul.Token = os.Getenv("CONSUL_TOKEN")
	}
	if c.Consul.TokenFile == "" {
		c.Consul.TokenFile = os.Getenv("CONSUL_TOKEN_FILE")
	}
	if err := c.Validate(); err != nil {
		return nil, warnings, err
	}
	return c, append(warnings, c.doubts()...), nil
}

// Address is where the status page of a templater with this configuration is, by default
// 127.0.0.1:8910. What else the configuration says does not matter for that.
func (in *Invocation) Address() (string, error) {
	c, _, err := in.read()
	if err != nil {
		return "", err
	}
	return cmp.Or(c.Listen, c.HTTP.Listen, "127.0.0.1:8910"), nil
}
