package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Invocation is what the command line asks for.
type Invocation struct {
	Version bool
	Once    bool
	Dry     bool
	files   []string
	lay     []func(*Config) error
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
	in := &Invocation{}
	fs, _ := in.flags()
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
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%w: %q is no flag: `templater -h` lists them", ErrUsage, fs.Arg(0))
	}
	return in, nil
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
			in.lay = append(in.lay, func(c *Config) error { set(c, v != "false"); return nil })
			return nil
		})
	}
	str := func(name, usage string, to func(*Config) *string) {
		text(name, usage, func(c *Config, v string) error { *to(c) = v; return nil })
	}
	duration := func(name, usage string, to func(*Config) *time.Duration) {
		text(name, usage, func(c *Config, v string) (err error) { *to(c), err = time.ParseDuration(v); return err })
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
	boolean("consul-ssl", "use TLS", func(c *Config, v bool) { c.Consul.SSL.Enabled = v })
	boolean("consul-ssl-verify", "check the certificate (default true)", func(c *Config, v bool) { c.Consul.SSL.Verify = &v })
	str("consul-ssl-ca-cert", "CA certificate", func(c *Config) *string { return &c.Consul.SSL.CACert })
	str("consul-ssl-ca-path", "directory of CA certificates", func(c *Config) *string { return &c.Consul.SSL.CAPath })
	str("consul-ssl-cert", "client certificate", func(c *Config) *string { return &c.Consul.SSL.Cert })
	str("consul-ssl-key", "its key", func(c *Config) *string { return &c.Consul.SSL.Key })
	str("consul-ssl-server-name", "name that the certificate must bear", func(c *Config) *string { return &c.Consul.SSL.ServerName })
	duration("max-stale", "how far behind a server's answer may be (default 2s; 0 asks the leader)", func(c *Config) *time.Duration { return &c.MaxStale })
	text("wait", "MIN[:MAX] of quiet before a change goes live (default: none, at once)", func(c *Config, v string) error { return c.Wait.Set(v) })
	boolean("nginx", "check, reload and verify nginx for templates without a command", func(c *Config, v bool) { c.Nginx.Enabled = v })
	str("nginx-conf", "nginx's main configuration (default /etc/nginx/nginx.conf)", func(c *Config) *string { return &c.Nginx.Conf })
	str("nginx-bin", "nginx's binary, for the check (default nginx)", func(c *Config) *string { return &c.Nginx.Bin })
	str("nginx-pid", "nginx's master: a pid, or a pid file (default: found)", func(c *Config) *string { return &c.Nginx.PID })
	duration("reload-interval", "shortest pause between two reloads (default 200ms)", func(c *Config) *time.Duration { return &c.ReloadInterval })
	duration("hold", "how long a catalog that came back empty is not believed (default 30s)", func(c *Config) *time.Duration { return &c.Hold })
	str("listen", "address of the status page (default: off)", func(c *Config) *string { return &c.Listen })
	boolean("watch-files", "follow edits of templates (default true)", func(c *Config, v bool) { c.WatchFiles = &v })
	str("log-level", "trace, debug, info, warn or err (default info)", func(c *Config) *string { return &c.LogLevel })
	boolean("log-json", "log as JSON", func(c *Config, v bool) { c.LogJSON = v })
	str("pid-file", "file to write the process id to", func(c *Config) *string { return &c.PIDFile })
	str("default-left-delimiter", "default {{", func(c *Config) *string { return &c.DefaultDelimiters.Left })
	str("default-right-delimiter", "default }}", func(c *Config) *string { return &c.DefaultDelimiters.Right })
	help = append(help, flagHelp{"once", "render and apply once, then end"}, flagHelp{"dry", "print what would be written; run no command"}, flagHelp{"version", "print the version"})
	fs.BoolVar(&in.Once, "once", false, "")
	fs.BoolVar(&in.Dry, "dry", false, "")
	fs.BoolVar(&in.Version, "version", false, "")
	fs.BoolVar(&in.Version, "v", false, "")
	for _, name := range meaninglessBools {
		fs.BoolFunc(name, "", func(string) error { return nil })
	}
	for _, name := range meaningless {
		fs.Func(name, "", func(string) error { return nil })
	}
	return fs, help
}

// Flags of consul-template that are accepted so that a command line goes on working, and
// that have nothing to do here: retries never end, SIGHUP reloads, SIGINT and SIGTERM
// stop, and there is no Vault.
var (
	meaninglessBools = []string{
		"consul-retry", "consul-transport-disable-keep-alives", "dedup", "parse-only", "template-error-fatal",
		"vault-renew-token", "vault-retry", "vault-ssl", "vault-ssl-verify", "vault-unwrap-token",
	}
	meaningless = []string{
		"consul-retry-attempts", "consul-retry-backoff", "consul-retry-max-backoff", "consul-transport-dial-keep-alive", "consul-transport-dial-timeout",
		"consul-transport-max-idle-conns-per-host", "consul-transport-tls-handshake-timeout", "kill-signal", "reload-signal", "retry",
		"vault-addr", "vault-agent-token-file", "vault-default-lease-duration", "vault-token",
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
  templater -once -dry -template in.ctmpl:out.conf
        look at what would be written

Flags:
`)
	_, help := (&Invocation{}).flags()
	for _, h := range help {
		fmt.Fprintf(w, "  -%-30s %s\n", h.name, h.usage)
	}
	fmt.Fprint(w, "\nSignals: HUP reads the configuration again, TERM and INT stop. Exit codes: 0, 11 (other), 13 (flags), 14 (-once failed), 15 (configuration).\n")
}

// Load gives the configuration as it is now.
func (in *Invocation) Load() (*Config, []string, error) {
	c := Default()
	var warnings []string
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
	c.Once, c.Dry = c.Once || in.Once, in.Dry
	if c.Consul.Token == "" { // the client itself knows CONSUL_HTTP_TOKEN
		c.Consul.Token = os.Getenv("CONSUL_TOKEN")
	}
	if c.Consul.TokenFile == "" {
		c.Consul.TokenFile = os.Getenv("CONSUL_TOKEN_FILE")
	}
	for _, name := range []string{"CT_LOG", "CONSUL_TEMPLATE_LOG", "CONSUL_TEMPLATE_LOG_LEVEL"} {
		if v := os.Getenv(name); v != "" && c.LogLevel == Default().LogLevel {
			c.LogLevel = v
		}
	}
	if err := c.Validate(); err != nil {
		return nil, warnings, err
	}
	return c, warnings, nil
}
