package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file written for consul-template is read as it is.
func TestConsulTemplateFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ct.hcl")
	text := `
consul {
  address = "10.0.0.1:8500"
  retry {
    attempts = 12
  }
}
max_stale = "10m"
vault {
  address = "https://vault.example:8200"
}
wait {
  min = "5s"
  max = "10s"
}
template {
  source      = "/in/one"
  destination = "/out/one"
  command     = "service nginx reload"
  perms       = 0600
  backup      = true
}
template {
  contents    = "{{ key \"x\" }}"
  destination = "/out/two"
  command     = ["service nginx reload"]
  wait {
    min = "1s"
  }
}
template {
  source      = "/in/three"
  destination = "/out/three"
  exec {
    command = ["nginx", "-s", "reload"]
    timeout = "5s"
  }
}
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	in, err := ParseFlags([]string{"-config", path, "-consul-addr=10.0.0.2:8500"})
	if err != nil {
		t.Fatal(err)
	}
	c, warnings, err := in.Load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Consul.Address != "10.0.0.2:8500" || c.MaxStale != 10*time.Minute || len(c.Templates) != 3 {
		t.Errorf("address %s, max stale %v, %d templates", c.Consul.Address, c.MaxStale, len(c.Templates))
	}
	one, two, three := c.Templates[0], c.Templates[1], c.Templates[2]
	if one.Perms != 0o600 || !one.Backup || one.Command.Shell != "service nginx reload" || one.Wait != (Wait{5 * time.Second, 10 * time.Second}) {
		t.Errorf("the first template: %+v", one)
	}
	if two.Command.Shell != "service nginx reload" || two.Wait != (Wait{time.Second, 4 * time.Second}) {
		t.Errorf("the second template: %+v", two)
	}
	if strings.Join(three.Command.Argv, " ") != "nginx -s reload" || *three.Timeout != 5*time.Second {
		t.Errorf("the third template: %+v", three)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "vault") {
		t.Errorf("warnings: %v", warnings)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	in, err := ParseFlags([]string{"-nginx", "-template=a:/a", "-template=b:/b:reload x", "-template=c:/c", "-template=d:/d:reload x", "-template=e:/e:other"})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := in.Load()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range c.AllGroups() {
		line := g.Name + ":"
		for _, t := range g.Templates {
			line += t.Source
		}
		got = append(got, line)
	}
	if want := "nginx:ac reload x:bd other:e"; strings.Join(got, " ") != want {
		t.Errorf("groups: %v, want %s", got, want)
	}
	c.Nginx.Enabled = false
	if n := len(c.AllGroups()); n != 4 {
		t.Errorf("%d groups without the preset, want 4: files without a command stand alone", n)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, c := range map[string]struct {
		args  []string
		want  string
		usage bool
	}{
		"unknown flag":      {[]string{"-templat=x:y"}, "did you mean -template?", true},
		"no destination":    {[]string{"-template=x"}, "SOURCE:DESTINATION", false},
		"nowhere":           {[]string{"-template=x:"}, "SOURCE:DESTINATION", true},
		"bad wait":          {[]string{"-wait=5s:1s"}, "MAX not below MIN", true},
		"no boolean":        {[]string{"-consul-ssl=maybe"}, "want true or false", true},
		"no retry":          {[]string{"-consul-retry=maybe"}, "want true or false", true},
		"no number":         {[]string{"-consul-retry-attempts=x"}, "invalid", true},
		"no duration":       {[]string{"-consul-retry-backoff=x"}, "parse error", true},
		"no boolean there":  {[]string{"-dedup=maybe"}, "parse error", true},
		"a word":            {[]string{"runn"}, "is no command", true},
		"nothing to render": {nil, "nothing to render", false},
		"two for one file":  {[]string{"-template=a:/x", "-template=b:/x"}, "two templates write to it", false},
		"unknown key":       {[]string{"-config=" + file("a.hcl", "templte {\n}\n")}, "did you mean template?", false},
		"two sources":       {[]string{"-config=" + file("b.hcl", "template {\n  source = \"a\"\n  contents = \"b\"\n  destination = \"c\"\n}\n")}, "one of them", false},
		"no fallback":       {[]string{"-config=" + file("d.hcl", "catalog {\n  on_loss = \"fallback\"\n  max_age = \"1m\"\n}\ntemplate {\n  source = \"a\"\n  destination = \"c\"\n}\n")}, "need one another", false},
		"bad perms":         {[]string{"-config=" + file("c.json", `{"template": {"source": "a", "destination": "b", "perms": "rw"}}`)}, "octal", false},
		"cut off":           {[]string{"-config=" + file("e.json", `{"template": {"source": "a", "destination": `)}, "ends in the middle", false},
		"JSON in an HCL":    {[]string{"-config=" + file("f.hcl", `{"template": {"source": "a", "destination": "b", "perms": "rw"}}`)}, "octal", false},
		"no such file":      {[]string{"-config=/nowhere"}, "/nowhere", false},
	} {
		in, err := ParseFlags(c.args)
		if err == nil {
			if c.usage {
				t.Errorf("%s: no fault of the command line", name)
			}
			_, _, err = in.Load()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrUsage) != c.usage {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Booleans are read as Go reads them.
func TestBooleans(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{"": true, "=1": true, "=T": true, "=0": false, "=f": false, "=FALSE": false} {
		in, err := ParseFlags([]string{"-log-json" + v, "-template=a:/b"})
		if err != nil {
			t.Fatal(err)
		}
		if c, _, err := in.Load(); err != nil || c.LogJSON != want {
			t.Errorf("-log-json%s: %v, want %t", v, err, want)
		}
	}
}

// TLS is on where anything of it is said, unless it is said to be off; then the rest is
// nothing.
func TestSSL(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"": "", "-consul-ssl-verify=false": "on", "-consul-ssl-ca-cert=/x": "on", "-consul-ssl-ca-path=/x": "on", "-consul-ssl-cert=/x": "on",
		"-consul-ssl-key=/x": "on", "-consul-ssl-server-name=x": "on", "-consul-ssl": "on", "-consul-ssl=false -consul-ssl-cert=/x": "off",
	} {
		in, err := ParseFlags(append([]string{"-template=a:/b"}, strings.Fields(args)...))
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := in.Load()
		if err != nil {
			t.Fatal(err)
		}
		s, got := c.Consul.SSL, ""
		if s.Enabled != nil {
			got = map[bool]string{true: "on", false: "off"}[*s.Enabled]
		}
		if got != want {
			t.Errorf("%s: TLS %q, want %q", args, got, want)
		}
		if got == "off" && s.Cert != "" {
			t.Errorf("%s: %+v is left of it", args, s)
		}
	}
}

// Every flag of the help is one, and teaches.
func TestHelp(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	Help(&out)
	for _, want := range []string{"-template", "-nginx", "-consul-addr", "-once", "Exit codes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help lacks %s", want)
		}
	}
	for _, args := range [][]string{{"-h"}, {"help"}, {"plan", "--help"}} {
		if _, err := ParseFlags(args); !errors.Is(err, ErrHelp) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// The configurations of docs/templater.md are valid as they stand there.
func TestDocumentedConfigurations(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../docs/templater.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(b), "```hcl\n")[1:]
	if len(blocks) < 2 {
		t.Fatalf("%d configurations were found", len(blocks))
	}
	for i, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		c := Default()
		if w, err := c.ReadText("templater.md", text); err != nil || len(w) > 0 {
			t.Errorf("configuration %d: %v, %v", i, w, err)
			continue
		}
		if err := c.Validate(); err != nil {
			t.Errorf("configuration %d: %v", i, err)
		}
		c.AllGroups()
	}
}

// Every command and flag of the help stands on the page, or is named with its kin.
func TestDocumentedFlags(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../docs/templater.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, c := range Commands {
		if !strings.Contains(page, "| `"+c.Name) {
			t.Errorf("command %s is not on the page", c.Name)
		}
	}
	_, help := (&Invocation{}).flags()
	for _, h := range help {
		name, _, _ := strings.Cut(h.name, " ")
		kin := false
		for _, family := range []string{"consul-", "exec-", "log-rotate", "syslog", "default-", "parse-only", "version"} {
			kin = kin || strings.HasPrefix(name, family)
		}
		if !kin && !strings.Contains(page, "-"+name) {
			t.Errorf("-%s is not on the page", name)
		}
	}
}

// Whatever is wrong with a group is said, with its name.
func TestGroupFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`group "a" {}`: "has no template",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n }\n reload {\n systemd = \"x\"\n docker = \"y\"\n }\n}":                                                 "give one of",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n }\n verify {\n mode = \"generation\"\n }\n}":                                                            "needs an address",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n }\n write_mode = \"copy\"\n}":                                                                           "want one of",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n }\n guard {\n max_shrink_percent = 120\n }\n}":                                                          "from 0 to 100",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n }\n check {\n command = \"x\"\n stage = \"dir\"\n }\n}":                                                 "want one of file, tree",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n }\n check {\n command = \"x\"\n cwd = \"here\"\n }\n}":                                                  "want an absolute path",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n }\n check {\n stage = \"tree\"\n }\n}":                                                                  "there is none",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n }\n reload {\n command = \"x\"\n retry = \"0s:1m\"\n }\n}":                                              "more than 0",
		"template {\n contents = \"x\"\n destination = \"/x\"\n}\ncatalog {\n on_loss = \"exit\"\n}":                                                                                    "needs max_age",
		"group \"a\" {\n template {\n contents = \"x\"\n destination = \"/x\"\n command = \"one\"\n }\ntemplate {\n contents = \"x\"\n destination = \"/y\"\n command = \"two\"\n }\n}": "would not run",
		"group \"a\" {\n nginx = true\n template {\n contents = \"x\"\n destination = \"/x\"\n exec {\n command = \"one\"\n }\n }\n}":                                                   "would not run",
		"group \"a\" {\n reload {\n systemd = \"x\"\n }\n template {\n contents = \"x\"\n destination = \"/x\"\n command = \"one\"\n }\n}":                                              "would not run",
		"template {\n contents = \"x\"\n destination = \"/x\"\n guard {\n max_shrink_percent = 101\n }\n}":                                                                              "from 0 to 100",
		"template {\n contents = \"x\"\n destination = \"/x\"\n}\nguard {\n max_shrink_percent = -1\n}":                                                                                 "from 0 to 100",
		"template {\n contents = \"x\"\n destination = \"/x\"\n wait {\n mim = \"5s\"\n }\n}":                                                                                           "template.wait.mim",
		"template {\n contents = \"x\"\n destination = \"/x\"\n command = 5\n}":                                                                                                         "want a command",
		"template {\n contents = \"x\"\n destination = \"/x\"\n command_timeout = \"-5s\"\n}":                                                                                           "template.command_timeout = \"-5s\"",
		"template {\n contents = \"x\"\n destination = \"/x\"\n}\nexec {\n splay = \"-1ms\"\n}":                                                                                         "exec.splay",
		"template {\n contents = \"x\"\n destination = \"/x\"\n}\nreload_signal = \"SIGNOTHING\"":                                                                                       "SIGHUP",
	} {
		c := Default()
		_, err := c.ReadText("x.hcl", text)
		if err == nil {
			err = c.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// What is hardly meant is said; the level of the log is the flag's, the file's, the
// environment's.
func TestDoubts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.hcl")
	text := "template {\n source = \"/in\"\n destination = \"/out\"\n perms = 644\n}\ntemplate {\n source = \"/in\"\n destination = \"/two\"\n perms = 420\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CT_LOG", "debug")
	for want, args := range map[string][]string{"debug": {"-config", path}, "info": {"-log-level=info", "-config", path}} {
		in, err := ParseFlags(args)
		if err != nil {
			t.Fatal(err)
		}
		c, warnings, err := in.Load()
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "1204") || c.LogLevel != want {
			t.Errorf("%v: level %q, warnings %q, %v", args, c.LogLevel, warnings, err)
		}
	}
	in, err := ParseFlags([]string{"-dry", "-template=x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.Load(); err != nil {
		t.Errorf("a look at a template without a destination: %v", err)
	}
}

// Limits of connections and waits come from files and flags.
func TestTransport(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.hcl")
	text := `
consul {
  ssl {
    enabled       = true
    ca_cert_bytes = "-----BEGIN CERTIFICATE-----"
  }
  transport {
    dial_keep_alive         = "1s"
    dial_timeout            = "2s"
    disable_keep_alives     = true
    idle_conn_timeout       = "3s"
    max_idle_conns          = 4
    max_idle_conns_per_host = 5
    max_conns_per_host      = 6
    tls_handshake_timeout   = "7s"
  }
}
block_query_wait = "8s"
catalog {
  state_file = "/var/lib/templater/catalog.json"
}
err_on_failed_lookup = true
template {
  source      = "/in"
  destination = "/out"
}
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	load := func(args ...string) (*Config, []string, error) {
		in, err := ParseFlags(append([]string{"-config", path}, args...))
		if err != nil {
			t.Fatal(err)
		}
		return in.Load()
	}
	c, warnings, err := load("-consul-transport-dial-timeout=9s", "-consul-transport-max-idle-conns-per-host=10")
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := Transport{time.Second, 9 * time.Second, true, 3 * time.Second, 4, 10, 6, 7 * time.Second}
	if c.Consul.Transport != want || c.BlockWait != 8*time.Second || c.Catalog.StateFile != "/var/lib/templater/catalog.json" {
		t.Errorf("got %+v, %s, %q, want %+v", c.Consul.Transport, c.BlockWait, c.Catalog.StateFile, want)
	}
	if c.Consul.SSL.CACertPEM != "-----BEGIN CERTIFICATE-----" || !c.FailLookup {
		t.Errorf("ca_cert_bytes %q, err_on_failed_lookup %t", c.Consul.SSL.CACertPEM, c.FailLookup)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(text, `"8s"`, `"11m"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(); err == nil || !strings.Contains(err.Error(), "block_query_wait") {
		t.Errorf("eleven minutes: %v", err)
	}
}
