package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// TestHTTPSNeedsACertificate: without one the port is off, as many configurations name it.
func TestHTTPSNeedsACertificate(t *testing.T) {
	t.Parallel()
	c, warnings, err := load(t, true, "ports { https = 8501 }")
	if err != nil || c.Ports.HTTPS != -1 || len(warnings) != 1 || !strings.Contains(warnings[0], "ports.https is off") {
		t.Errorf("https = %d, warnings %q, %v; want -1 and a warning", c.Ports.HTTPS, warnings, err)
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
		"server = true\nbootstrap = true\nbootstrap_expect = 3":     "exclude each other",
		"advertise_addr = \"0.0.0.0\"":                              "others cannot reach",
		"node_meta { \"consul-x\" = 1 }":                            "reserved",
		"service { port = 1 }":                                      "Missing service name",
		"performance { raft_multiplier = 11 }":                      "raft_multiplier",
		"acl { default_policy = \"maybe\" }":                        "acl.default_policy",
		"acl { down_policy = \"maybe\" }":                           "acl.down_policy",
		"acl { tokens { agnet = \"x\" } }":                          "acl.tokens.agnet (did you mean agent?)",
		"tls { https { cert_file = \"x\" } }":                       "tls.https: cert_file and key_file go together",
		"verify_incoming = true":                                    "tls.internal_rpc.verify_incoming needs the authority",
		"tls_min_version = \"tls10\"":                               "broken versions are not spoken",
		"tls_min_version = \"best\"":                                "give TLSv1_2",
		"encrypt = \"short\"":                                       "encrypt: give the base64",
		"serf_lan_allowed_cidrs = [\"10.0.0.1\"]":                   "serf_lan_allowed_cidrs",
		"http_config { allow_write_http_from = [\"x\"] }":           "allow_write_http_from",
		"unix_sockets { mode = \"rw\" }":                            "unix_sockets.mode",
		"syslog_facility = \"x\"":                                   "syslog_facility",
		"telemetry { prefix_filter = [\"a\"] }":                     "begin with +",
		"telemetry { statsd_address = \"host\" }":                   "give host:port",
		"limits { request_limits { mode = \"x\" } }":                "limits.request_limits.mode",
		"limits { kv_max_value_size = 0 }":                          "kv_max_value_size",
		"dns_config { recursor_strategy = \"x\" }":                  "recursor_strategy",
		"recursors = [\"bad host\"]":                                `recursors "bad host"`,
		"advertise_addr_ipv4 = \"::1\"":                             "advertise_addr_ipv4",
		"bind_interface = \"lo\"\nbind_addr = \"10.0.0.1\"":         "exclude each other",
		"watches = [{ type = \"key\" }]":                            "watches[0]: a watch of type key needs a key",
		"watches = [{ type = \"x\" }]":                              "watches[0]: type \"x\"",
		"watches = [{ type = \"nodes\" }]":                          "a handler is missing",
		"watches = [{ type = \"nodes\", handler_type = \"http\" }]": "http_handler_config.path",
		"default_query_time = \"0s\"":                               "default_query_time",
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
		warnings, err := f.Source(text).Decode(Default(), ignored...)
		if err != nil {
			t.Errorf("-%s: %v", f.Name, err)
		}
		if ignored := len(warnings) == 1; ignored != (f.Usage == "") {
			t.Errorf("-%s: warnings %q, usage %q: a flag has a usage or is ignored", f.Name, warnings, f.Usage)
		}
	}
}

// What files of before 1.0, 1.4 and 1.12 say becomes what the present keys mean.
func TestLegacy(t *testing.T) {
	t.Parallel()
	c, _, err := load(t, true, `
acl_datacenter = "DC9", acl_default_policy = "deny", acl_down_policy = "allow", acl_ttl = "9s"
acl_token = "t1", acl_master_token = "t2", acl_agent_token = "t3", acl_agent_master_token = "t4", acl_replication_token = "t5"
enable_acl_replication = true
ca_file = "ca", cert_file = "c", key_file = "k", verify_incoming = true, verify_incoming_https = false, verify_server_hostname = true
tls_min_version = "tls13"
statsd_addr = "s:1", dogstatsd_tags = ["a:b"]
http_api_response_headers { X-A = "1" }
recursor = "8.8.8.8", ui_content_path = "/c/"`)
	if err != nil {
		t.Fatal(err)
	}
	want := ACL{
		Enabled: true, DefaultPolicy: "deny", DownPolicy: "allow", TokenTTL: 9 * time.Second, PolicyTTL: 30 * time.Second, RoleTTL: 30 * time.Second,
		TokenReplication: true, Tokens: Tokens{Default: "t1", InitialManagement: "t2", Agent: "t3", AgentRecovery: "t4", Replication: "t5"},
	}
	if c.ACL != want || c.PrimaryDC != "dc9" {
		t.Errorf("acl: got %+v in %s, want %+v", c.ACL, c.PrimaryDC, want)
	}
	rpc, https := c.TLS.InternalRPC, c.TLS.HTTPS
	if https.CAFile != "ca" || https.CertFile != "c" || https.KeyFile != "k" || *https.VerifyIncoming || https.MinVersion != "TLSv1_3" ||
		!*rpc.VerifyIncoming || !*rpc.VerifyHostname || !*rpc.VerifyOutgoing {
		t.Errorf("tls: got %+v and %+v", rpc, https)
	}
	if c.Telemetry.Statsd != "s:1" || len(c.Telemetry.DogstatsdTags) != 1 || c.HTTP.ResponseHeaders["X-A"] != "1" || len(c.Recursors) != 1 || c.UIConfig.ContentPath != "/c/" {
		t.Errorf("got %+v", c)
	}
}

// The present key wins over the old one.
func TestLegacyLoses(t *testing.T) {
	t.Parallel()
	c, _, err := load(t, true, `acl_default_policy = "deny", acl_token = "old", ca_file = "old"
acl { default_policy = "allow", tokens { default = "new" } }
tls { defaults { ca_file = "new" } https { ca_file = "newer" } }`)
	if err != nil {
		t.Fatal(err)
	}
	if c.ACL.Tokens.Default != "new" || c.TLS.InternalRPC.CAFile != "new" || c.TLS.HTTPS.CAFile != "newer" {
		t.Errorf("got %+v, %+v", c.ACL, c.TLS)
	}
}

func TestTokensAreNotPrinted(t *testing.T) {
	t.Parallel()
	c, _, err := load(t, true, `acl { tokens { agent = "s3cret", master = "s3cret" } } watches = [{type = "nodes", args = ["x"], token = "s3cret"}]`)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, c.ACL); strings.Contains(text, "s3cret") {
			t.Errorf("%s prints %s", format, text)
		}
	}
	if text := fmt.Sprint(c.Watches[0]); strings.Contains(text, "s3cret") {
		t.Errorf("a watch prints %s", text)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		`reconnect_timeout = "1h"`:                "raised to 8h",
		`retry_join = ["provider=aws tag_key=x"]`: "not built in",
		`ui_dir = "/x"`:                           "built in",
		`session_ttl_min = "1s"`:                  "session_ttl_min",
		`telemetry { circonus_api_url = "x" }`:    "telemetry.circonus_api_url has no meaning here",
		`ports { grpc_tls = 1 }`:                  "ports.grpc_tls has no meaning here",
		`connect { x { y = [1] } }`:               "connect.x has no meaning here",
	} {
		_, warnings, err := load(t, true, file)
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], want) {
			t.Errorf("%s: warnings %q, error %v, want %q", file, warnings, err, want)
		}
	}
}
