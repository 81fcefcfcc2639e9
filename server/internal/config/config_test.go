package config

import (
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/config"
)

// load reads flags ("-name", "value") and one file's text.
func load(t *testing.T, dev bool, file string, flags ...string) (*Config, []string, error) {
	t.Helper()
	src, err := config.Parse("a.hcl", []byte(file), "")
	if err != nil {
		t.Fatal(err)
	}
	sources := []*config.Source{src}
	for i := 0; i < len(flags); i += 2 {
		for _, f := range Flags {
			if "-"+f.Name == flags[i] {
				sources = append(sources, f.Source(flags[i+1]))
			}
		}
	}
	return Load(dev, sources...)
}

func TestArticle(t *testing.T) {
	t.Parallel()
	c, _, err := load(t, false, "", "-server", "true", "-bootstrap-expect", "1", "-ui", "true", "-data-dir", "/d", "-bind", "10.0.0.2",
		"-client", "0.0.0.0", "-node", "srv", "-datacenter", "DC9", "-node-meta", "rack:a:b", "-retry-join", "a", "-retry-join", "b")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Server || !c.Bootstrap || !c.UI || c.DataDir != "/d" || c.BindAddr != "10.0.0.2" || c.ClientAddr != "0.0.0.0" ||
		c.NodeName != "srv" || c.Datacenter != "dc9" || c.NodeMeta["rack"] != "a:b" || len(c.RetryJoin) != 2 {
		t.Errorf("got %+v", c)
	}
	if *c.LeaveOnTerm || !*c.SkipLeaveOnInt {
		t.Error("a server leaves on SIGTERM or SIGINT by default")
	}
}

func TestFlagsBeatFiles(t *testing.T) {
	t.Parallel()
	c, warnings, err := load(t, true, "ports { http = 1 }\nlog_level = \"warn\"\nconnect { enabled = true }", "-http-port", "2")
	if err != nil || c.Ports.HTTP != 2 || c.LogLevel != "warn" || !c.Dev {
		t.Errorf("got %+v, %v", c, err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "connect") {
		t.Errorf("warnings = %q, want connect named", warnings)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"":                                    "data_dir must be set",
		"data_dir = \"/d\"\nbootstrap = true": "bootstrap is for servers",
		"bootstrap_expect = 3":                "bootstrap_expect is for servers",
		"bind_addr = \"here\"":                `bind_addr "here": give an IP`,
		"datacenter = \"a b\"":                "datacenter",
		"ports { http = 99999 }":              "ports.http",
		"log_level = \"loud\"":                "log_level",
		"sevrer = true":                       "a.hcl:1: invalid config key sevrer (did you mean server?)",
		"server = true\nbootstrap = true\nbootstrap_expect = 3": "exclude each other",
		"advertise_addr = \"0.0.0.0\"":                          "others cannot reach",
		"node_meta { \"consul-x\" = 1 }":                        "reserved",
		"service { port = 1 }":                                  "Missing service name",
		"performance { raft_multiplier = 11 }":                  "raft_multiplier",
	} {
		if _, _, err := load(t, false, strings.ReplaceAll(file, "\"consul-x\"", "consul-x")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", file, err, want)
		}
	}
}

func TestEveryFlagHasAKey(t *testing.T) {
	t.Parallel()
	for _, f := range Flags {
		text := "1"
		switch {
		case f.Bool:
			text = "true"
		case strings.Contains(f.Name, "interval"), strings.Contains(f.Name, "time"):
			text = "1s"
		case f.Key == "node_meta":
			text = "a:b"
		}
		if _, err := f.Source(text).Decode(Default()); err != nil {
			t.Errorf("-%s: %v", f.Name, err)
		}
	}
}
