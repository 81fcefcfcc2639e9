package config

import (
	"bytes"
	"flag"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/reconcile"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

const uri = "consul://127.0.0.1:8500"

func TestFlags(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args string
		env  []string
		want func(c *Config) bool
	}{
		"defaults": {uri, nil, func(c *Config) bool {
			return c.Resync == 30*time.Second && c.DrainMax == 10*time.Minute && c.Mapping.Address == mapping.AddressPublished && c.Mapping.Health &&
				c.Reconcile.Drain == reconcile.DrainDeregister && c.RetryAttempts == -1 && c.Listen == "127.0.0.1:9107" && !c.ListenSet && c.URI == uri
		}},
		"the lab's": {"-internal -explicit -announce -host=registrator-host -listen=0.0.0.0:9107 consul://agent:8500", nil, func(c *Config) bool {
			return c.Mapping.Address == mapping.AddressContainer && c.Mapping.Explicit && c.Host == "registrator-host" && c.ListenSet
		}},
		"gliderlabs's": {"-ip 10.0.0.1 -tags a,b -ttl 30 -ttl-refresh 10 -resync 600 -deregister on-success -cleanup -retry-attempts 3 -retry-interval 500 -useIpFromLabel ip " + uri, nil, func(c *Config) bool {
			return c.Mapping.IP == "10.0.0.1" && c.Mapping.Tags != nil && c.Resync == 600*time.Second && c.Exits == watcher.ExitsFailed && c.Reconcile.OnExit == reconcile.ExitKeep && c.Reconcile.Cleanup &&
				c.RetryAttempts == 3 && c.RetryInterval == 500*time.Millisecond && c.Mapping.UseIPFromLabel == "ip"
		}},
		"flags after the address": {uri + " --explicit -resync=5s", nil, func(c *Config) bool { return c.Mapping.Explicit && c.Resync == 5*time.Second }},
		"two dashes":              {"--internal=true " + uri, nil, func(c *Config) bool { return c.Mapping.Address == mapping.AddressContainer }},
		"environment": {uri, []string{"REGISTRATOR_LOG_LEVEL=debug", "REGISTRATOR_EXPLICIT=true", "REGISTRATOR_USEIPFROMLABEL=x", "REGISTRATOR_META=a=1 b=2"}, func(c *Config) bool {
			return c.LogLevel == "debug" && c.Mapping.Explicit && c.Mapping.UseIPFromLabel == "x" && c.Mapping.Meta["b"] == "2"
		}},
		"flag beats environment": {"-log-level=warn " + uri, []string{"REGISTRATOR_LOG_LEVEL=debug"}, func(c *Config) bool { return c.LogLevel == "warn" }},
		"repeated": {"-meta a=1 -meta b=2 -filter label:x=y -filter name:z " + uri, nil, func(c *Config) bool {
			return len(c.Mapping.Meta) == 2 && !lets(c, "z", nil) && lets(c, "z", map[string]string{"x": "y"})
		}},
		"never": {"-resync 0 -listen off -health off -health-deregister-after 0 " + uri, nil, func(c *Config) bool {
			return c.Resync == 0 && c.Listen == "" && !c.Mapping.Health && c.Mapping.DeregisterAfter == 0
		}},
		"ended, visible": {"-on-exit critical " + uri, nil, func(c *Config) bool {
			return c.Exits == watcher.ExitsAll && c.Reconcile.OnExit == reconcile.ExitCritical && c.Reconcile.Drain == reconcile.DrainMaintenance
		}},
		"failed, visible": {"-on-exit critical -deregister on-success -docker-lost-after 5m " + uri, nil, func(c *Config) bool {
			return c.Exits == watcher.ExitsFailed && c.Reconcile.OnExit == reconcile.ExitCritical && c.Reconcile.Drain == reconcile.DrainDeregister && c.DockerLost == 5*time.Minute
		}},
		"plan":               {"plan -json " + uri, nil, func(c *Config) bool { return c.Plan && c.JSON && c.URI == uri }},
		"plan, flags first":  {"-explicit plan " + uri, nil, func(c *Config) bool { return c.Plan && c.Mapping.Explicit }},
		"healthcheck":        {"healthcheck -listen=:1234", nil, func(c *Config) bool { return c.Check && c.Listen == ":1234" }},
		"an expression":      {"-explicit " + uri, []string{"REGISTRATOR_FILTER=label:x=y && name:z"}, func(c *Config) bool { return !lets(c, "z", nil) && lets(c, "z", map[string]string{"x": "y"}) }},
		"version":            {"--version", nil, func(c *Config) bool { return c.Version }},
		"help":               {"-h", nil, func(c *Config) bool { return c.Help }},
		"help beside others": {"-explicit --help", nil, func(c *Config) bool { return c.Help }},
		"networks":           {"-internal -network lan,back* " + uri, nil, func(c *Config) bool { return len(c.Mapping.Networks) == 2 && c.Mapping.Networks[1] == "back*" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(strings.Fields(c.args), c.env)
			if err != nil {
				t.Fatalf("Parse(%s) = %v", c.args, err)
			}
			if !c.want(got) {
				t.Errorf("Parse(%s) = %+v", c.args, got)
			}
		})
	}
}

// Every refusal names what was wrong and what to write.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for args, want := range map[string][]string{
		"":                               {"consul://"},
		uri + " " + uri:                  {"one catalog"},
		"-interal " + uri:                {"-interal", "-internal"},
		"-nothinglikeit " + uri:          {"-nothinglikeit", "-h"},
		"-resync=often " + uri:           {"-resync", "often", "30s"},
		"-resync=-5 " + uri:              {"-resync", "negative"},
		"-deregister=never " + uri:       {"-deregister", "on-success"},
		"-ttl=10 " + uri:                 {"-ttl-refresh"},
		"-ttl=10 -ttl-refresh=20 " + uri: {"-ttl"},
		"-retry-interval=0 " + uri:       {"-retry-interval"},
		"-on-exit=never " + uri:          {"-on-exit", "critical"},
		"-on-exit=deregister -deregister=on-success " + uri: {"-on-exit", "on-success"},
		"-docker-lost-after=-1s " + uri:                     {"-docker-lost-after"},
		"-json " + uri:                                      {"plan"},
		"-filter=(name:x " + uri:                            {"-filter", "not closed"},
		"-retry-attempts=-2 " + uri:                         {"-retry-attempts"},
		"-internal -address=host " + uri:                    {"-internal", "-address"},
		"-address=moon " + uri:                              {"-address", "container"},
		"-drain=slowly " + uri:                              {"-drain", "maintenance"},
		"-drain-max=0s " + uri:                              {"-drain-max"},
		"-health-ttl=1s " + uri:                             {"-health-ttl"},
		"-tags={{nope}} " + uri:                             {"-tags", "nope"},
		"-filter=colour:red " + uri:                         {"-filter", "label"},
		"-meta=a " + uri:                                    {"-meta", "key=value"},
		"-meta=a.b=c " + uri:                                {"-meta", "letters"},
		"-ip=nosuchnic " + uri:                              {"-ip", "nosuchnic"},
		"-listen=9107 " + uri:                               {"-listen"},
		"-docker=/run/docker.sock " + uri:                   {"-docker", "unix:///"},
		"-log-level=loud " + uri:                            {"-log-level"},
		"-drain=x -adopt=y " + uri:                          {"-drain", "-adopt"},
		"-explicit=maybe " + uri:                            {"explicit", "maybe"},
		"etcd://127.0.0.1:2379":                             {"etcd", "consul://"},
		"consulkv://127.0.0.1:8500/x":                       {"consulkv", "consul://"},
		"zookeeper://x/y":                                   {"ZooKeeper", "consul://"},
		"eureka://x":                                        {"eureka", "consul://"},
		"127.0.0.1:8500":                                    {"consul://"},
		"consul:127.0.0.1:28500":                            {"two slashes", "use consul://127.0.0.1:28500"},
		"consul:/127.0.0.1:28500":                           {"use consul://127.0.0.1:28500"},
		"consul:///127.0.0.1:28500/?insecure=1":             {"use consul://127.0.0.1:28500"},
		"consuls:agent:8501":                                {"use consuls://agent:8501"},
		"consul-tls:/agent:8501":                            {"use consul-tls://agent:8501"},
		"consul-unix://":                                    {"consul-unix:///path"},
		"consul://h:1?tokenfile=x":                          {"tokenfile", "token_file"},
		"consuls://h:1?cert=a":                              {"key="},
	} {
		_, err := Parse(strings.Fields(args), nil)
		if err == nil {
			t.Errorf("Parse(%s) succeeded", args)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("Parse(%s) = %v, want it to name %q", args, err, w)
			}
		}
	}
	if _, err := Parse([]string{uri}, []string{"REGISTRATOR_RESYNC=x"}); err == nil || !strings.Contains(err.Error(), "resync") {
		t.Errorf("a bad variable: %v", err)
	}
}

func TestCatalog(t *testing.T) { // reads the environment
	for k, v := range map[string]string{"CONSUL_HTTP_ADDR": "env:1", "CONSUL_HTTP_TOKEN": "secret", "CONSUL_CACERT": "/ca", "CONSUL_CLIENT_CERT": "/cert", "CONSUL_CLIENT_KEY": "/key"} {
		t.Setenv(k, v)
	}
	for in, want := range map[string]struct{ scheme, address string }{
		"consul://agent:8500":          {"http", "agent:8500"},
		"consul:":                      {"http", "env:1"},
		"consul://":                    {"http", "env:1"},
		"consul:///":                   {"http", "env:1"},
		"consul://?insecure=1":         {"http", "env:1"},
		"consul:?insecure=1":           {"http", "env:1"},
		"consul-unix:/run/http.sock":   {"http", "unix:///run/http.sock"},
		"consuls://agent:8501":         {"https", "agent:8501"},
		"consul-tls://agent:8501":      {"https", "agent:8501"},
		"consul-unix:///run/http.sock": {"http", "unix:///run/http.sock"},
		"consul://[::1]:8500":          {"http", "[::1]:8500"},
	} {
		c, err := Catalog(in)
		if err != nil || c.Scheme != want.scheme || c.Address != want.address || c.Token != "secret" {
			t.Errorf("Catalog(%s) = %+v, %v; want %v", in, c, err, want)
		}
	}
	c, err := Catalog("consuls://a:1?ca=/x&cert=/y&key=/z&server_name=n&insecure=true&token_file=/t")
	if err != nil || c.TLSConfig.CAFile != "/x" || c.TLSConfig.CertFile != "/y" || c.TLSConfig.KeyFile != "/z" || c.TLSConfig.Address != "n" || !c.TLSConfig.InsecureSkipVerify || c.TokenFile != "/t" {
		t.Errorf("parameters: %+v, %v", c, err)
	}
}

func TestResolveIPs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"": {}, "10.0.0.1": {"10.0.0.1", ""}, "fd00::1": {"fd00::1", "fd00::1"}, "127.0.0.0/8": {"127.0.0.1", ""},
		"10.0.0.1,fd00::1": {"10.0.0.1", "fd00::1"}, "fd00::1, 10.0.0.1": {"10.0.0.1", "fd00::1"},
	} {
		if v4, v6, err := resolveIPs(in); err != nil || v4 != want[0] || v6 != want[1] {
			t.Errorf("resolveIPs(%q) = %q, %q, %v; want %q", in, v4, v6, err, want)
		}
	}
	nics, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nics {
		if n.Flags&net.FlagLoopback != 0 {
			if v4, _, err := resolveIPs(n.Name); err != nil || !netip.MustParseAddr(v4).IsLoopback() {
				t.Errorf("resolveIPs(%q) = %q, %v; want a loopback address", n.Name, v4, err)
			}
		}
	}
	for _, bad := range []string{"203.0.113.0/24", "nonsense", "10.0.0.1,10.0.0.2", "10.0.0.1,fd00::1,fd00::2"} {
		if _, _, err := resolveIPs(bad); err == nil {
			t.Errorf("resolveIPs(%q) found an address", bad)
		}
	}
}

// The help and the page name every flag.
func TestEveryFlagIsDocumented(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	Usage(&help)
	page, err := os.ReadFile("../../../docs/registrator.md")
	if err != nil {
		t.Fatal(err)
	}
	defaults().flags().VisitAll(func(f *flag.Flag) {
		if !strings.Contains(help.String(), "  -"+f.Name) {
			t.Errorf("the help lacks -%s", f.Name)
		}
		if !bytes.Contains(page, []byte("`-"+f.Name)) {
			t.Errorf("docs/registrator.md lacks -%s", f.Name)
		}
	})
}

// lets tells whether the filter lets a container through.
func lets(c *Config, name string, labels map[string]string) bool {
	ok, _ := c.Mapping.Filter.Match(&docker.Container{Name: name, Labels: labels})
	return ok
}
