package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/server/internal/config"
)

// parsed loads the configuration of a command line in an environment.
func parsed(t *testing.T, env map[string]string, args ...string) (*config.Config, []string, error) {
	t.Helper()
	l, err := parseAgent(args, func(name string) string { return env[name] })
	if err != nil {
		return nil, nil, err
	}
	return l.config()
}

// Files, the environment of Consul's container image, and flags: the later one wins.
func TestOrderOfSources(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.json": `{"datacenter": "a", "domain": "a.", "node_name": "a", "log_level": "warn"}`,
		"b.hcl":  `datacenter = "b", domain = "b."`, "c.txt": "no configuration",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{
		"CONSUL_LOCAL_CONFIG": `{"domain": "local.", "node_name": "local"}`, "CONSUL_BIND_INTERFACE": "lo", "CONSUL_CLIENT_INTERFACE": "lo",
	}
	c, _, err := parsed(t, env, "-dev", "-config-dir", dir, "-node=flag", "-hcl", `alt_domain = "hcl."`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Datacenter != "b" || c.Domain != "local." || c.NodeName != "flag" || c.LogLevel != "warn" || c.AltDomain != "hcl." ||
		c.BindInterface != "lo" || c.ClientAddr != `{{ GetInterfaceIP "lo" }}` {
		t.Errorf("got %+v", c)
	}
	c, _, err = parsed(t, env, "-dev", "-bind=10.0.0.1", "-client=10.0.0.2")
	if err != nil || c.BindInterface != "" || c.BindAddr != "10.0.0.1" || c.ClientAddr != "10.0.0.2" {
		t.Errorf("flags over the environment: %+v, %v", c, err)
	}
	l, err := parseAgent([]string{"-config-dir", dir, "-config-file=x.hcl", "-hcl", "server = true"}, os.Getenv)
	if err != nil || strings.Join(l.paths(), " ") != dir+" x.hcl" {
		t.Errorf("paths %q, %v", l.paths(), err)
	}
}

func TestAgentFlagFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		env  map[string]string
		want string
	}{
		{[]string{"-dev", "-sevrer"}, nil, "unknown flag -sevrer (did you mean -server?)"},
		{[]string{"-dev", "extra"}, nil, `"extra" is no flag`},
		{[]string{"-dev", "-config-format=toml"}, nil, "use hcl or json"},
		{[]string{"-dev", "-http-port=x"}, nil, `-http-port: ports.http = "x": want a whole number`},
		{[]string{"-dev", "-config-file=/none/here"}, nil, "/none/here"},
		{[]string{"-dev"}, map[string]string{"CONSUL_LOCAL_CONFIG": "{\"node_nmae\": 1}"}, "CONSUL_LOCAL_CONFIG:1: invalid config key node_nmae"},
		{[]string{"-dev", "-log-rotate-bytes=-1"}, nil, "log_rotate_bytes"},
	} {
		if _, _, err := parsed(t, c.env, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

// What unit files of former days have is accepted, and said.
func TestOldFlags(t *testing.T) {
	t.Parallel()
	c, warnings, err := parsed(t, nil, "-dev", "-dc=x", "-atlas=me/infra", "-atlas-join", "-retry-join-ec2-tag-key=a", "-ui-dir", "/ui")
	if err != nil || c.Datacenter != "x" || !c.UI || len(warnings) != 4 {
		t.Errorf("got %+v, warnings %q, %v", c, warnings, err)
	}
}
