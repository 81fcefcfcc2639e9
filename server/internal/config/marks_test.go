package config

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// TestMarks: each setting changes the mark that it belongs to and no other; secrets, and
// what each server has of its own, change none.
func TestMarks(t *testing.T) {
	yes := true
	for want, change := range map[string][]func(*Config){
		"acl":    {func(c *Config) { c.ACL.DefaultPolicy = "deny" }, func(c *Config) { c.ACL.TokenTTL = time.Hour }},
		"dns":    {func(c *Config) { c.DNS.ServiceTTL = map[string]time.Duration{"web": time.Second} }, func(c *Config) { c.Domain = "home." }},
		"limits": {func(c *Config) { c.Limits.KVMaxValueSize = 1 }},
		"raft":   {func(c *Config) { c.Performance.RaftMultiplier = 5 }},
		"gossip": {func(c *Config) { c.GossipLAN.ProbeInterval = time.Second }, func(c *Config) { c.Encrypt = "a key" }},
		"tls":    {func(c *Config) { c.TLS.InternalRPC.VerifyIncoming = &yes }},
		"": {
			func(c *Config) { c.ACL.Tokens.Agent, c.ACL.Tokens.Replication = "a secret", "another" }, func(c *Config) { c.NodeName, c.BindAddr = "n", "10.0.0.1" },
			func(c *Config) { c.TLS.InternalRPC.KeyFile = "/own.pem" }, func(c *Config) { c.RetryJoin = []string{"10.0.0.2"} },
		},
	} {
		for n, f := range change {
			before, after := new(Config), new(Config)
			f(after)
			was, now := before.Marks(), after.Marks()
			var differ []string
			for name := range was {
				if was[name] != now[name] {
					differ = append(differ, name)
				}
			}
			if want == "" && len(differ) > 0 || want != "" && !slices.Equal(differ, []string{want}) {
				t.Errorf("change %d of %q changes the marks %q", n, want, differ)
			}
			if !maps.Equal(was, new(Config).Marks()) {
				t.Error("equal settings have marks that differ")
			}
		}
	}
	one, other := &Config{Cluster: Cluster{}, Crypt: Crypt{Encrypt: "one key"}}, &Config{Crypt: Crypt{Encrypt: "another key"}}
	if !maps.Equal(one.Marks(), other.Marks()) {
		t.Error("marks tell which key gossip is sealed with")
	}
}
