package config

import (
	"strings"
	"testing"
)

func TestReload(t *testing.T) {
	t.Parallel()
	read := func(file string) *Config {
		c, _, err := load(t, true, file)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := read(`log_level = "warn", ports { http = 1 }, telemetry { prefix_filter = ["+a"], metrics_prefix = "p" }
node_meta { a = 1 }, acl { tokens { default = "x" } }, connect { ca_config { cluster_id = "a" } }`)
	next := read(`log_level = "info", ports { http = 2 }, telemetry { prefix_filter = ["-a"], metrics_prefix = "q" }
node_meta { a = 2 }, acl { enabled = true, tokens { default = "y" } }, limits { http_max_conns_per_client = 7 }
dns_config { only_passing = true }, service { name = "web" }, encrypt = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="`)
	got, restart := old.Reload(next)
	if got.LogLevel != "info" || got.NodeMeta["a"] != "2" || got.Telemetry.PrefixFilter[0] != "-a" || got.ACL.Tokens.Default != "y" ||
		*got.Limits.MaxConnsPerClient != 7 || !got.DNS.OnlyPassing || len(got.Services) != 1 {
		t.Errorf("not taken over: %+v", got)
	}
	if got.Ports.HTTP != 1 || got.Telemetry.Prefix != "p" || got.ACL.Enabled || got.Encrypt != "" {
		t.Errorf("taken over: %+v", got)
	}
	want := "ports.http encrypt acl.enabled connect.ca_config telemetry.metrics_prefix"
	if keys := strings.Join(restart, " "); keys != want {
		t.Errorf("for a restart: %s, want %s", keys, want)
	}
	if _, restart := old.Reload(old); len(restart) != 0 {
		t.Errorf("for a restart without a change: %q", restart)
	}
}
