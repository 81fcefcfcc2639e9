package mapping

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/docker"
)

func base() Config {
	return Config{
		Host: "host1", Owner: "engine-1", Prefix: "SERVICE_", Address: AddressPublished, Family: FamilyIPv4, Suffix: SuffixAuto,
		HostAddress: "10.0.0.5", Health: true, HealthStarting: "critical", HealthTTL: 15 * time.Minute, DeregisterAfter: 72 * time.Hour,
	}
}

// box describes a container in a few words.
type box struct {
	image, name, mode string
	env               []string
	labels            map[string]string
	ports             string // "80=32768 53/udp=127.0.0.1:5300 9000=" (without a binding)
	networks          map[string]string
	health, output    string
	state             string
}

func (b box) container(t testing.TB) *docker.Container {
	t.Helper()
	c := &docker.Container{ID: strings.Repeat("ab12", 16), Image: b.image, Name: b.name, NetworkMode: b.mode, Env: b.env, Labels: b.labels,
		State: b.state, Published: map[docker.Port][]docker.Binding{}, Networks: map[string]docker.Endpoint{}}
	if c.Image == "" {
		c.Image = "repo.example:5000/team/nginx:1.28"
	}
	if c.Name == "" {
		c.Name = "box"
	}
	if c.NetworkMode == "" {
		c.NetworkMode = "default"
	}
	if c.State == "" {
		c.State = docker.StateRunning
	}
	if b.health != "" {
		c.Health = &docker.Health{Status: b.health, Output: b.output}
	}
	for _, f := range strings.Fields(b.ports) {
		left, right, _ := strings.Cut(f, "=")
		num, proto, ok := strings.Cut(left, "/")
		if !ok {
			proto = "tcp"
		}
		p := docker.Port{Proto: proto}
		if _, err := fmt.Sscan(num, &p.Number); err != nil {
			t.Fatal(err)
		}
		c.Exposed = append(c.Exposed, p)
		for s := range strings.SplitSeq(right, ",") {
			if s == "" {
				continue
			}
			if !strings.Contains(s, ":") {
				s = "0.0.0.0:" + s
			}
			at := netip.MustParseAddrPort(s)
			c.Published[p] = append(c.Published[p], docker.Binding{IP: at.Addr(), Port: at.Port()})
		}
	}
	for n, ips := range b.networks {
		var e docker.Endpoint
		for s := range strings.SplitSeq(ips, ",") {
			if a := netip.MustParseAddr(s); a.Is4() {
				e.IPv4 = a
			} else {
				e.IPv6 = a
			}
		}
		c.Networks[n] = e
	}
	return c
}

// brief is a verdict in a few lines: "name id address:port [tags]".
func brief(v Verdict) []string {
	out := []string{}
	for _, s := range v.Services {
		line := fmt.Sprintf("%s %s %s:%d", s.Name, s.ID, s.Address, s.Port)
		if len(s.Tags) > 0 {
			line += " [" + strings.Join(s.Tags, ",") + "]"
		}
		out = append(out, line)
	}
	return out
}

// Names, ids, addresses, ports and tags. Cases marked = give what gliderlabs/registrator
// gives (tags excepted, whose order it reverses); the others say why not.
func TestServices(t *testing.T) {
	t.Parallel()
	set := func(f func(*Config)) func(*Config) { return f }
	internal := set(func(c *Config) { c.Address = AddressContainer })
	explicit := set(func(c *Config) { c.Explicit = true })
	for name, c := range map[string]struct {
		cfg    func(*Config)
		box    box
		want   []string
		reason string
	}{
		"= image's name, published port": {nil, box{ports: "80=32768"}, []string{"nginx host1:box:80 10.0.0.5:32768"}, ""},
		"= name by env":                  {nil, box{ports: "80=32768", env: []string{"SERVICE_NAME=web"}}, []string{"web host1:box:80 10.0.0.5:32768"}, ""},
		"= label beats env": {nil, box{ports: "80=1", env: []string{"SERVICE_NAME=env"}, labels: map[string]string{"SERVICE_NAME": "label"}},
			[]string{"label host1:box:80 10.0.0.5:1"}, ""},
		"env beats label by -env-wins": {set(func(c *Config) { c.EnvWins = true }), box{ports: "80=1", env: []string{"SERVICE_NAME=env"}, labels: map[string]string{"SERVICE_NAME": "label"}},
			[]string{"env host1:box:80 10.0.0.5:1"}, ""},
		"= two ports: port appended": {nil, box{ports: "80=1 443=2"}, []string{"nginx-80 host1:box:80 10.0.0.5:1", "nginx-443 host1:box:443 10.0.0.5:2"}, ""},
		"= name for one port": {nil, box{ports: "80=1 443=2", env: []string{"SERVICE_443_NAME=tls", "SERVICE_NAME=web"}},
			[]string{"web-80 host1:box:80 10.0.0.5:1", "tls host1:box:443 10.0.0.5:2"}, ""},
		"= ignored ports count for the suffix": {nil, box{ports: "8080=1 9090=2", env: []string{"SERVICE_9090_IGNORE=1"}},
			[]string{"nginx-8080 host1:box:8080 10.0.0.5:1"}, "IGNORE"},
		"-name-suffix=never": {set(func(c *Config) { c.Suffix = SuffixNever }), box{ports: "80=1 443=2"},
			[]string{"nginx host1:box:80 10.0.0.5:1", "nginx host1:box:443 10.0.0.5:2"}, ""},
		"-name-suffix=always":               {set(func(c *Config) { c.Suffix = SuffixAlways }), box{ports: "80=1"}, []string{"nginx-80 host1:box:80 10.0.0.5:1"}, ""},
		"= unpublished port":                {nil, box{ports: "80=1 443="}, []string{"nginx host1:box:80 10.0.0.5:1"}, "443/tcp: not published"},
		"= nothing published":               {nil, box{ports: "80="}, []string{}, "not published"},
		"= no ports":                        {nil, box{}, []string{}, "no ports"},
		"= explicit without a name":         {explicit, box{ports: "80=1"}, []string{}, "-explicit"},
		"= explicit with a name for a port": {explicit, box{ports: "80=1 443=2", env: []string{"SERVICE_80_NAME=w"}}, []string{"w host1:box:80 10.0.0.5:1"}, "443/tcp"},
		"= udp":                             {nil, box{ports: "53/udp=5300", labels: map[string]string{"SERVICE_TAGS": "a,b"}}, []string{"nginx host1:box:53:udp 10.0.0.5:5300 [a,b,udp]"}, ""},
		"= id":                              {nil, box{ports: "80=1", env: []string{"SERVICE_ID=me"}}, []string{"nginx me 10.0.0.5:1"}, ""},
		"one id for two ports: the 2nd keeps its own (gliderlabs: they overwrite each other)": {nil, box{ports: "80=1 443=2", env: []string{"SERVICE_ID=me"}},
			[]string{"nginx-80 me 10.0.0.5:1", "nginx-443 host1:box:443 10.0.0.5:2"}, ""},
		"an id that no route can name": {nil, box{ports: "80=1", env: []string{"SERVICE_ID=a//b"}}, []string{"nginx host1:box:80 10.0.0.5:1"}, ""},
		"= ignore":                     {nil, box{ports: "80=1", env: []string{"SERVICE_IGNORE=true"}}, []string{}, "SERVICE_IGNORE"},
		"ignore=false means false (gliderlabs: ignores)": {nil, box{ports: "80=1", env: []string{"SERVICE_IGNORE=false"}}, []string{"nginx host1:box:80 10.0.0.5:1"}, ""},
		"= tags escape commas, drop empties":             {nil, box{ports: "80=1", env: []string{`SERVICE_TAGS=a\,b,,c`}}, []string{"nginx host1:box:80 10.0.0.5:1 [a,b,c]"}, ""},
		"= tags for a port":                              {nil, box{ports: "80=1", env: []string{"SERVICE_80_TAGS=x", "SERVICE_TAGS=y"}}, []string{"nginx host1:box:80 10.0.0.5:1 [x]"}, ""},
		"= -tags after own": {set(func(c *Config) { c.Tags = &Tags{fixed: []string{"all"}} }), box{ports: "53/udp=1", env: []string{"SERVICE_TAGS=own"}},
			[]string{"nginx host1:box:53:udp 10.0.0.5:1 [own,all,udp]"}, ""},
		"digest in the image (gliderlabs: name@sha256)": {nil, box{image: "nginx@sha256:0123", ports: "80=1"}, []string{"nginx host1:box:80 10.0.0.5:1"}, ""},
		"protocol of a port": {nil, box{ports: "53=1 53/udp=2", env: []string{"SERVICE_53_UDP_NAME=dns-udp", "SERVICE_53_NAME=dns"}},
			[]string{"dns host1:box:53 10.0.0.5:1", "dns-udp host1:box:53:udp 10.0.0.5:2 [udp]"}, ""},
		"range of ports": {nil, box{ports: "80=1 8001=2 8002=3", labels: map[string]string{"SERVICE_8000-8010_NAME": "many", "SERVICE_8002_NAME": "one"}},
			[]string{"nginx-80 host1:box:80 10.0.0.5:1", "many-8001 host1:box:8001 10.0.0.5:2", "one host1:box:8002 10.0.0.5:3"}, ""},

		"= binding on one address": {nil, box{ports: "80=192.0.2.7:32768"}, []string{"nginx host1:box:80 192.0.2.7:32768"}, ""},
		"= -ip beats the binding":  {set(func(c *Config) { c.IP = "10.9.9.9" }), box{ports: "80=192.0.2.7:32768"}, []string{"nginx host1:box:80 10.9.9.9:32768"}, ""},
		"loopback":                 {nil, box{ports: "80=127.0.0.1:8080"}, []string{"nginx host1:box:80 127.0.0.1:8080"}, "only this host"},
		"IPv6 binding only":        {nil, box{ports: "80=[2001:db8::1]:8080"}, []string{"nginx host1:box:80 2001:db8::1:8080"}, ""},
		"both families":            {nil, box{ports: "80=[::]:9,0.0.0.0:8"}, []string{"nginx host1:box:80 10.0.0.5:8"}, ""},
		"-family=6":                {set(func(c *Config) { c.Family = FamilyIPv6 }), box{ports: "80=192.0.2.7:8,[2001:db8::1]:9"}, []string{"nginx host1:box:80 2001:db8::1:9"}, ""},
		"user's network, published (gliderlabs: mixes the container's address and the host's port)": {nil, box{mode: "lan", networks: map[string]string{"lan": "172.19.0.2"}, ports: "80=32813"},
			[]string{"nginx host1:box:80 10.0.0.5:32813"}, ""},
		"= host network: exposed ports": {nil, box{mode: "host", ports: "80="}, []string{"nginx host1:box:80 10.0.0.5:80"}, ""},
		"node's address unknown":        {set(func(c *Config) { c.HostAddress = "" }), box{ports: "80=1"}, []string{"nginx host1:box:80 :1"}, ""},

		"= -internal":                        {internal, box{networks: map[string]string{"bridge": "172.17.0.2"}, ports: "80="}, []string{"nginx host1:box:80 172.17.0.2:80"}, ""},
		"-internal, the network of its mode": {internal, box{mode: "lan", networks: map[string]string{"alpha": "10.1.0.2", "lan": "10.2.0.2"}, ports: "80="}, []string{"nginx host1:box:80 10.2.0.2:80"}, ""},
		"-internal, first by name":           {internal, box{mode: "gone", networks: map[string]string{"b": "10.1.0.2", "a": "10.2.0.2"}, ports: "80="}, []string{"nginx host1:box:80 10.2.0.2:80"}, ""},
		"-network":                           {set(func(c *Config) { c.Address, c.Networks = AddressContainer, []string{"x*", "back"} }), box{networks: map[string]string{"bridge": "172.17.0.2", "back": "10.3.0.2"}, ports: "80="}, []string{"nginx host1:box:80 10.3.0.2:80"}, ""},
		"-network, on none":                  {set(func(c *Config) { c.Address, c.Networks = AddressContainer, []string{"x*"} }), box{networks: map[string]string{"bridge": "172.17.0.2"}, ports: "80="}, []string{}, "none of the networks x*"},
		"SERVICE_NETWORK":                    {internal, box{networks: map[string]string{"bridge": "172.17.0.2", "back": "10.3.0.2"}, ports: "80=", env: []string{"SERVICE_NETWORK=back"}}, []string{"nginx host1:box:80 10.3.0.2:80"}, ""},
		"-internal, no network":              {internal, box{mode: "none", ports: "80="}, []string{}, "no address"},
		"-internal, host network":            {internal, box{mode: "host", ports: "80="}, []string{"nginx host1:box:80 10.0.0.5:80"}, ""},
		"-internal, IPv6 only":               {internal, box{networks: map[string]string{"bridge": "fd00::2"}, ports: "80="}, []string{"nginx host1:box:80 fd00::2:80"}, ""},
		"address=auto, published":            {set(func(c *Config) { c.Address = AddressAuto }), box{networks: map[string]string{"bridge": "172.17.0.2"}, ports: "80=1"}, []string{"nginx host1:box:80 10.0.0.5:1"}, ""},
		"address=auto, not published":        {set(func(c *Config) { c.Address = AddressAuto }), box{networks: map[string]string{"bridge": "172.17.0.2"}, ports: "80="}, []string{"nginx host1:box:80 172.17.0.2:80"}, ""},
		"SERVICE_ADDRESS_MODE":               {nil, box{networks: map[string]string{"bridge": "172.17.0.2"}, ports: "80=1", env: []string{"SERVICE_ADDRESS_MODE=container"}}, []string{"nginx host1:box:80 172.17.0.2:80"}, ""},
		"SERVICE_ADDRESS and SERVICE_PORT":   {nil, box{ports: "80=1", env: []string{"SERVICE_ADDRESS=lb.example", "SERVICE_PORT=443"}}, []string{"nginx host1:box:80 lb.example:443"}, ""},
		"= -useIpFromLabel":                  {set(func(c *Config) { c.UseIPFromLabel = "ip" }), box{ports: "80=1", labels: map[string]string{"ip": "10.4.0.9/24"}}, []string{"nginx host1:box:80 10.4.0.9:1"}, ""},
		"container network":                  {internal, box{mode: "container:pod", ports: "80="}, []string{"nginx host1:box:80 172.17.0.99:80"}, ""},
		"container network, published there": {nil, box{mode: "container:pod", ports: "80="}, []string{"nginx host1:box:80 10.0.0.5:8099"}, ""},
		"container network, other port":      {nil, box{mode: "container:pod", ports: "81="}, []string{"nginx host1:box:81 172.17.0.99:81"}, ""},
		"container network, gone":            {nil, box{mode: "container:x", ports: "80="}, []string{}, "network of container x"},
		"container network, circle":          {nil, box{mode: "container:self", ports: "80="}, []string{}, "circle"},
		"no ports, SERVICE_REGISTER":         {nil, box{env: []string{"SERVICE_REGISTER=true", "SERVICE_NAME=worker"}}, []string{"worker host1:box:0 10.0.0.5:0"}, ""},
		"no ports, SERVICE_PORT":             {internal, box{networks: map[string]string{"bridge": "172.17.0.2"}, env: []string{"SERVICE_PORT=9000"}}, []string{"nginx host1:box:9000 172.17.0.2:9000"}, ""},
		"SERVICE_REGISTER=false":             {nil, box{ports: "80=1", env: []string{"SERVICE_REGISTER=false"}}, []string{}, "REGISTER"},
		"-label-prefix":                      {set(func(c *Config) { c.Prefix = "APP_" }), box{ports: "80=1", env: []string{"SERVICE_NAME=a", "APP_NAME=b"}}, []string{"b host1:box:80 10.0.0.5:1"}, ""},
		"filter":                             {set(func(c *Config) { c.Filter = mustFilter("label:tier=web") }), box{ports: "80=1"}, []string{}, "label:tier=web"},
		"lower case is no setting":           {nil, box{ports: "80=1", env: []string{"service_name=a"}}, []string{"nginx host1:box:80 10.0.0.5:1"}, ""},
		"= a port's key for another port":    {nil, box{ports: "80=1", env: []string{"SERVICE_81_NAME=a"}}, []string{"nginx host1:box:80 10.0.0.5:1"}, ""},
		"= generic after port-specific":      {nil, box{ports: "80=1", env: []string{"SERVICE_80_NAME=p", "SERVICE_NAME=g"}}, []string{"p host1:box:80 10.0.0.5:1"}, ""},
		"= port-specific env beats generic label": {nil, box{ports: "80=1", env: []string{"SERVICE_80_NAME=p"}, labels: map[string]string{"SERVICE_NAME": "g"}},
			[]string{"p host1:box:80 10.0.0.5:1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := base()
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			self := c.box.container(t)
			pod := box{name: "pod", networks: map[string]string{"bridge": "172.17.0.99"}, ports: "80=8099"}.container(t)
			v := Map(&cfg, self, func(ref string) *docker.Container { return map[string]*docker.Container{"pod": pod, "self": self}[ref] })
			if diff := cmp.Diff(c.want, brief(v)); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			if got := strings.Join(v.Reasons, "; "); !strings.Contains(got, c.reason) || (c.reason == "" && got != "") {
				t.Errorf("reasons %q, want one with %q", got, c.reason)
			}
		})
	}
}

func mustFilter(v ...string) Filter {
	f, err := ParseFilter(v)
	if err != nil {
		panic(err)
	}
	return f
}

func TestChecks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  []string
		want []consul.AgentServiceCheck
		warn string
	}{
		"none": {nil, nil, ""},
		"= http": {[]string{"CHECK_HTTP=/health", "CHECK_INTERVAL=5s", "CHECK_TIMEOUT=1s"},
			[]consul.AgentServiceCheck{{HTTP: "http://10.0.0.5:32768/health", Interval: "5s", Timeout: "1s"}}, ""},
		"= interval by default": {[]string{"CHECK_HTTP=/"}, []consul.AgentServiceCheck{{HTTP: "http://10.0.0.5:32768/", Interval: "10s"}}, ""},
		"= method":              {[]string{"CHECK_HTTP=/", "CHECK_HTTP_METHOD=HEAD"}, []consul.AgentServiceCheck{{HTTP: "http://10.0.0.5:32768/", Interval: "10s", Method: "HEAD"}}, ""},
		"= https, for the port": {[]string{"80_CHECK_HTTPS=/x", "80_CHECK_HTTPS_METHOD=POST"}, []consul.AgentServiceCheck{{HTTP: "https://10.0.0.5:32768/x", Interval: "10s", Method: "POST"}}, ""},
		"path apart":            {[]string{"CHECK_HTTP=true", "CHECK_PATH=/up"}, []consul.AgentServiceCheck{{HTTP: "http://10.0.0.5:32768/up", Interval: "10s"}}, ""},
		"skip verify": {[]string{"CHECK_HTTPS=/", "CHECK_TLS_SKIP_VERIFY=true", "CHECK_TLS_SERVER_NAME=a.example"},
			[]consul.AgentServiceCheck{{HTTP: "https://10.0.0.5:32768/", Interval: "10s", TLSSkipVerify: true, TLSServerName: "a.example"}}, ""},
		"header, body": {[]string{"CHECK_HTTP=/", "CHECK_HEADER=Host: a.example|X-A: 1", "CHECK_BODY=ping"},
			[]consul.AgentServiceCheck{{HTTP: "http://10.0.0.5:32768/", Interval: "10s", Body: "ping", Header: map[string][]string{"Host": {"a.example"}, "X-A": {"1"}}}}, ""},
		"= tcp":             {[]string{"CHECK_TCP=true"}, []consul.AgentServiceCheck{{TCP: "10.0.0.5:32768", Interval: "10s"}}, ""},
		"tcp=false is none": {[]string{"CHECK_TCP=false"}, nil, ""},
		"= ttl":             {[]string{"CHECK_TTL=30s"}, []consul.AgentServiceCheck{{TTL: "30s"}}, ""},
		"= grpc":            {[]string{"CHECK_GRPC=true", "CHECK_GRPC_USE_TLS=true", "CHECK_TLS_SKIP_VERIFY=true"}, []consul.AgentServiceCheck{{GRPC: "10.0.0.5:32768", GRPCUseTLS: true, TLSSkipVerify: true, Interval: "10s"}}, ""},
		"udp":               {[]string{"CHECK_UDP=true"}, []consul.AgentServiceCheck{{UDP: "10.0.0.5:32768", Interval: "10s"}}, ""},
		"h2ping":            {[]string{"CHECK_H2PING=true"}, []consul.AgentServiceCheck{{H2PING: "10.0.0.5:32768", Interval: "10s"}}, ""},
		"script is split (gliderlabs: one word that no shell finds)": {[]string{`CHECK_SCRIPT=curl -sf "http://$SERVICE_IP:$SERVICE_PORT/a b"`},
			[]consul.AgentServiceCheck{{Args: []string{"curl", "-sf", "http://10.0.0.5:32768/a b"}, Interval: "10s"}}, ""},
		"= cmd": {[]string{"CHECK_CMD=/x.sh"}, []consul.AgentServiceCheck{{Args: []string{"check-cmd", "ab12ab12ab12", "80", "/x.sh"}, Interval: "10s"}}, ""},
		"in the container": {[]string{"CHECK_DOCKER=test -e /ok"},
			[]consul.AgentServiceCheck{{DockerContainerID: strings.Repeat("ab12", 16), Shell: "/bin/sh", Args: []string{"/bin/sh", "-c", "test -e /ok"}, Interval: "10s"}}, ""},
		"= status, deregister after": {[]string{"CHECK_TCP=true", "CHECK_INITIAL_STATUS=passing", "CHECK_DEREGISTER_AFTER=1h"},
			[]consul.AgentServiceCheck{{TCP: "10.0.0.5:32768", Interval: "10s", Status: "passing", DeregisterCriticalServiceAfter: "1h"}}, ""},
		"= interval alone is no check": {[]string{"CHECK_INTERVAL=1s"}, nil, ""},
		"= the first kind wins":        {[]string{"CHECK_TCP=true", "CHECK_HTTP=/"}, []consul.AgentServiceCheck{{HTTP: "http://10.0.0.5:32768/", Interval: "10s"}}, ""},
		"another port":                 {[]string{"CHECK_HTTP=/", "CHECK_PORT=9000"}, []consul.AgentServiceCheck{{HTTP: "http://10.0.0.5:32900/", Interval: "10s"}}, ""},
		"an unknown port":              {[]string{"CHECK_HTTP=/", "CHECK_PORT=7"}, []consul.AgentServiceCheck{{HTTP: "http://10.0.0.5:7/", Interval: "10s"}}, ""},
		"several": {[]string{"CHECK_TCP=true", "CHECK_2_HTTP=/b", "CHECK_1_HTTP=/a", "CHECK_1_INTERVAL=1s", "CHECK_INTERVAL=7s"},
			[]consul.AgentServiceCheck{{TCP: "10.0.0.5:32768", Interval: "7s"}, {HTTP: "http://10.0.0.5:32768/a", Interval: "1s"}, {HTTP: "http://10.0.0.5:32768/b", Interval: "7s"}}, ""},
		"thresholds": {[]string{"CHECK_TCP=1", "CHECK_SUCCESS_BEFORE_PASSING=2", "CHECK_FAILURES_BEFORE_CRITICAL=3"},
			[]consul.AgentServiceCheck{{TCP: "10.0.0.5:32768", Interval: "10s", SuccessBeforePassing: 2, FailuresBeforeCritical: 3}}, ""},
		"bad interval": {[]string{"CHECK_TCP=1", "CHECK_INTERVAL=often"}, []consul.AgentServiceCheck{{TCP: "10.0.0.5:32768", Interval: "10s"}}, "CHECK_INTERVAL"},
		"bad ttl":      {[]string{"CHECK_TTL=ever"}, nil, "CHECK_TTL"},
		"bad status":   {[]string{"CHECK_TCP=1", "CHECK_INITIAL_STATUS=good"}, []consul.AgentServiceCheck{{TCP: "10.0.0.5:32768", Interval: "10s"}}, "INITIAL_STATUS"},
		"bad port":     {[]string{"CHECK_TCP=1", "CHECK_PORT=x"}, []consul.AgentServiceCheck{{TCP: "10.0.0.5:32768", Interval: "10s"}}, "CHECK_PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := base()
			b := box{ports: "80=32768 9000=32900", env: []string{"SERVICE_9000_IGNORE=1"}}
			for _, e := range c.env {
				b.env = append(b.env, "SERVICE_"+e)
			}
			v := Map(&cfg, b.container(t), nil)
			if len(v.Services) != 1 {
				t.Fatalf("services: %v", brief(v))
			}
			var got []consul.AgentServiceCheck
			ids := map[string]bool{}
			for _, k := range v.Services[0].Checks {
				if k.CheckID == "" || ids[k.CheckID] {
					t.Errorf("check id %q is empty or used twice", k.CheckID)
				}
				ids[k.CheckID] = true
				k := *k
				k.CheckID = ""
				got = append(got, k)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("checks (-want +got):\n%s", diff)
			}
			if w := strings.Join(v.Warnings, "; "); !strings.Contains(w, c.warn) || (c.warn == "" && w != "") {
				t.Errorf("warnings %q, want one with %q", w, c.warn)
			}
			for k := range v.Services[0].Meta {
				if strings.HasPrefix(k, "check_") {
					t.Errorf("metadata has %q", k)
				}
			}
		})
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		health, output string
		want           Health
	}{
		{"starting", "", Health{"docker:host1:box:80", "critical", "starting"}},
		{"healthy", "all fine", Health{"docker:host1:box:80", "passing", "healthy"}},
		{"unhealthy", "no answer\n", Health{"docker:host1:box:80", "critical", "unhealthy: no answer"}},
	} {
		cfg := base()
		v := Map(&cfg, box{ports: "80=1", health: c.health, output: c.output, env: []string{"SERVICE_CHECK_TCP=1"}}.container(t), nil)
		s := v.Services[0]
		if s.Health == nil || *s.Health != c.want {
			t.Errorf("%s: %+v, want %+v", c.health, s.Health, c.want)
		}
		if len(s.Checks) != 2 {
			t.Fatalf("%s: %d checks, want its own and the engine's", c.health, len(s.Checks))
		}
		if k := s.Checks[1]; k.CheckID != c.want.CheckID || k.Status != c.want.Status || k.TTL != "15m0s" || k.DeregisterCriticalServiceAfter != "72h0m0s" {
			t.Errorf("%s: check %+v", c.health, k)
		}
	}
	cfg := base()
	cfg.Health = false
	if s := Map(&cfg, box{ports: "80=1", health: "healthy"}.container(t), nil).Services[0]; s.Health != nil || len(s.Checks) != 0 {
		t.Error("-health=off still makes a check")
	}
	cfg = base()
	cfg.HealthStarting = "warning"
	if s := Map(&cfg, box{ports: "80=1", health: "starting"}.container(t), nil).Services[0]; s.Health.Status != "warning" {
		t.Errorf("-health-starting=warning gives %q", s.Health.Status)
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	hash := func(b box, change func(*Config)) string {
		cfg := base()
		if change != nil {
			change(&cfg)
		}
		return Map(&cfg, b.container(t), nil).Services[0].Hash
	}
	first := hash(box{ports: "80=1", health: "starting"}, nil)
	for name, got := range map[string]string{
		"computed again":        hash(box{ports: "80=1", health: "starting"}, nil),
		"health changed":        hash(box{ports: "80=1", health: "unhealthy", output: "x"}, nil),
		"settings in any order": hash(box{ports: "80=1", health: "starting", env: []string{"PATH=/"}}, nil),
	} {
		if got != first {
			t.Errorf("%s: fingerprint changed", name)
		}
	}
	for name, got := range map[string]string{
		"port":  hash(box{ports: "80=2", health: "starting"}, nil),
		"name":  hash(box{ports: "80=1", health: "starting", env: []string{"SERVICE_NAME=x"}}, nil),
		"tag":   hash(box{ports: "80=1", health: "starting", env: []string{"SERVICE_TAGS=x"}}, nil),
		"meta":  hash(box{ports: "80=1", health: "starting", env: []string{"SERVICE_REGION=x"}}, nil),
		"check": hash(box{ports: "80=1", health: "starting", env: []string{"SERVICE_CHECK_TCP=1"}}, nil),
		"owner": hash(box{ports: "80=1", health: "starting"}, func(c *Config) { c.Owner = "other" }),
	} {
		if got == first {
			t.Errorf("%s: fingerprint did not change", name)
		}
	}
}

func TestMeta(t *testing.T) {
	t.Parallel()
	cfg := base()
	cfg.Meta = map[string]string{"dc": "x", "region": "default"}
	env := []string{"SERVICE_REGION=eu", "SERVICE_META_Team=Blue", "SERVICE_80_ZONE=z1", "SERVICE_CHECK_HTTP=/", "SERVICE_WEIGHT_PASSING=5",
		"SERVICE_BAD.KEY=1", "SERVICE_LONG=" + strings.Repeat("x", 513), "OTHER=1", "SERVICE_TAG_OVERRIDE=yes"}
	for n := range 70 {
		env = append(env, fmt.Sprintf("SERVICE_ZZ%02d=v", n))
	}
	v := Map(&cfg, box{ports: "80=1", env: env}.container(t), nil)
	s := v.Services[0]
	if len(s.Meta) != maxMeta {
		t.Errorf("%d pairs, want all that the catalog takes: %d", len(s.Meta), maxMeta)
	}
	for k, want := range map[string]string{"dc": "x", "region": "eu", "team": "Blue", "zone": "z1", MetaOwner: "engine-1", MetaContainer: "ab12ab12ab12", MetaImage: "repo.example:5000/team/nginx:1.28", MetaHash: s.Hash} {
		if s.Meta[k] != want {
			t.Errorf("%s = %q, want %q", k, s.Meta[k], want)
		}
	}
	for k := range s.Meta {
		if strings.HasPrefix(k, "check") || strings.HasPrefix(k, "weight") || k == "bad.key" || k == "long" {
			t.Errorf("metadata has %q", k)
		}
	}
	if s.Weights == nil || s.Weights.Passing != 5 || s.Weights.Warning != 1 || !s.EnableTagOverride {
		t.Errorf("weights %+v, tag override %v", s.Weights, s.EnableTagOverride)
	}
	for _, w := range []string{"bad.key", "long", "more than"} {
		if !strings.Contains(strings.Join(v.Warnings, "; "), w) {
			t.Errorf("no warning names %q", w)
		}
	}
}

func TestDual(t *testing.T) {
	t.Parallel()
	cfg := base()
	cfg.Address, cfg.Family = AddressContainer, FamilyDual
	s := Map(&cfg, box{ports: "80=", networks: map[string]string{"bridge": "172.17.0.2,fd00::2"}}.container(t), nil).Services[0]
	want := map[string]consul.ServiceAddress{"lan_ipv4": {Address: "172.17.0.2", Port: 80}, "lan_ipv6": {Address: "fd00::2", Port: 80}}
	if diff := cmp.Diff(want, s.TaggedAddresses); diff != "" || s.Address != "172.17.0.2" {
		t.Errorf("address %s, tagged (-want +got):\n%s", s.Address, diff)
	}
}

func TestPaused(t *testing.T) {
	t.Parallel()
	cfg := base()
	if s := Map(&cfg, box{ports: "80=1", state: docker.StatePaused}.container(t), nil).Services[0]; s.Maintenance == "" {
		t.Error("a paused container takes traffic")
	}
}

func TestTagsTemplate(t *testing.T) {
	t.Parallel()
	raw := `{"Id":"abc","Name":"/web-1","Config":{"Hostname":"h1","Env":["A=1","ZONE=eu-1"],"Labels":{"team":"blue"}}}`
	for tmpl, want := range map[string][]string{
		"plain,second":                     {"plain", "second"},
		"{{.Config.Hostname}},x":           {"h1", "x"},
		`{{index .Config.Labels "team"}}`:  {"blue"},
		`{{mIndex .Config.Labels "team"}}`: {"blue"},
		`{{splitIndex (matchFirstElement .Config.Env "^ZONE=") "=" -1}}`: {"eu-1"},
		`{{toUpper (sIndex .Config.Env 0)}}`:                             {"A=1"},
		`{{join (matchAllElements .Config.Env "=") ","}}`:                {"A=1", "ZONE=eu-1"},
		`{{strSlice .ID 0 4}}`:                                           {"ab12"},
		`{{jsonParse "{\"a\":{\"b\":\"c\"}}" "a::b"}}`:                   {"c"},
		`{{.No}}`: nil,
	} {
		tags, err := ParseTags(tmpl)
		if err != nil {
			t.Errorf("%s: %v", tmpl, err)
			continue
		}
		c := box{}.container(t)
		c.Raw = []byte(raw)
		got, err := tags.Execute(c)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s = %q, %v; want %q", tmpl, got, err, want)
		}
	}
	if _, err := ParseTags(`{{httpGet "http://x"}}`); err == nil {
		t.Error("a template may ask the network")
	}
	cfg := base()
	cfg.Tags, _ = ParseTags(`{{index .Config.Env 99}}`)
	c := box{ports: "80=1"}.container(t)
	c.Raw = []byte(raw)
	if v := Map(&cfg, c, nil); len(v.Services) != 1 || len(v.Warnings) != 1 {
		t.Errorf("a template that fails: %v, warnings %q", brief(v), v.Warnings)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	c := box{name: "web-1", image: "repo.example/team/nginx:1",
		labels:   map[string]string{"tier": "web", "note": "a b", "com.docker.compose.project": "shop", "com.docker.swarm.service.name": "shop_cart"},
		networks: map[string]string{"lan": "10.0.0.2"}}.container(t)
	for text, want := range map[string]bool{
		"label:tier": true, "label:tier=web": true, "label:tier=w*": true, "label:tier=db": false, "!label:tier=db": true, "name:web-*": true, "name:db": false,
		"image:nginx": true, "image:repo.example/team/nginx:1": true, "network:l*": true, "!network:l*": false, "project:shop": true,
		"service:shop_*": true, "service:web": false, `label:note="a b"`: true, `label:note="a c"`: false,
		"name:web-*,label:tier=db": false, "name:web-* label:tier=web": true, "name:x || label:tier=web": true, "name:x || name:y": false,
		"name:x && name:y || name:web-1": true, "name:x && (name:y || name:web-1)": false, "!(name:x || name:y)": true, "!!name:web-1": true,
		"(label:tier=web||label:tier=db)&&!project:bank": true, "": true, " ": true,
	} {
		f, err := ParseFilter([]string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, why := f.Match(c); got != want {
			t.Errorf("%s: %v (%s), want %v", text, got, why, want)
		}
	}
	if _, why := mustFilter("name:web-1 && label:tier=db").Match(c); why != "label:tier=db does not match" {
		t.Errorf("reason %q names not the one term", why)
	}
	for _, bad := range []string{"tier", "colour:red", "name:", "name:[", "name:a ||", "|| name:a", "(name:a", "name:a)", "!", "&&", `label:a="b`,
		strings.Repeat("(", 100) + "name:a" + strings.Repeat(")", 100)} {
		if _, err := ParseFilter([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"label:a=b", "!(name:a || image:b) && c", `label:x="y z"`, "((", "!!!"} {
		f.Add(s)
	}
	c := box{}.container(f)
	f.Fuzz(func(t *testing.T, s string) {
		if parsed, err := ParseFilter([]string{s}); err == nil {
			parsed.Match(c)
		}
	})
}

// Several services on one port: the port's own, and those with an index and a name.
func TestFurtherServices(t *testing.T) {
	t.Parallel()
	cfg := base()
	v := Map(&cfg, box{ports: "80=1 53/udp=2 9000=3", env: []string{
		"SERVICE_NAME=web", "SERVICE_TAGS=all", "SERVICE_80_CHECK_TCP=1",
		"SERVICE_80_1_NAME=admin", "SERVICE_80_1_TAGS=inner", "SERVICE_80_2_NAME=api", "SERVICE_80_2_ID=api-1", "SERVICE_80_3_TAGS=nameless",
		"SERVICE_53_UDP_1_NAME=dns", "SERVICE_8999-9000_1_NAME=ranged",
	}}.container(t), nil)
	want := []string{
		"web-53 host1:box:53:udp 10.0.0.5:2 [all,udp]", "dns host1:box:53:udp:1 10.0.0.5:2 [all,udp]",
		"web-80 host1:box:80 10.0.0.5:1 [all]", "admin host1:box:80:1 10.0.0.5:1 [inner]", "api api-1 10.0.0.5:1 [all]",
		"web-9000 host1:box:9000 10.0.0.5:3 [all]", "ranged host1:box:9000:1 10.0.0.5:3 [all]",
	}
	if got := brief(v); !slices.Equal(got, want) {
		t.Errorf("got %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "SERVICE_80_3_NAME") {
		t.Errorf("warnings %q", v.Warnings)
	}
	for _, s := range v.Services {
		if strings.Contains(s.ID, ":80") && len(s.Checks) != 1 {
			t.Errorf("%s: %d checks, want the port's", s.ID, len(s.Checks))
		}
		for k := range s.Meta {
			if !strings.HasPrefix(k, "registrator-") {
				t.Errorf("%s: metadata %s", s.ID, k)
			}
		}
	}
}

// Ids that collide whatever one does never make one service out of two.
func TestIDsCollide(t *testing.T) {
	t.Parallel()
	cfg := base()
	v := Map(&cfg, box{ports: "80=1 443=2", env: []string{"SERVICE_80_ID=host1:box:443"}}.container(t), nil)
	want := []string{"nginx-80 host1:box:443 10.0.0.5:1", "nginx-443 host1:box:443:2 10.0.0.5:2"}
	if got := brief(v); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Labels in the form registrator.<key> say the same, and yield to SERVICE_ labels.
func TestAliases(t *testing.T) {
	t.Parallel()
	cfg := base()
	of := func(labels map[string]string, env ...string) Verdict {
		return Map(&cfg, box{ports: "80=1 443=2", labels: labels, env: env}.container(t), nil)
	}
	alias := of(map[string]string{"registrator.name": "web", "registrator.443.name": "tls", "registrator.80.tcp.tags": "a,b",
		"registrator.check.http": "/up", "registrator.80-90.region": "eu", "registrator.80.1.name": "admin"}, "SERVICE_NAME=env")
	full := of(map[string]string{"SERVICE_NAME": "web", "SERVICE_443_NAME": "tls", "SERVICE_80_TCP_TAGS": "a,b",
		"SERVICE_CHECK_HTTP": "/up", "SERVICE_80-90_REGION": "eu", "SERVICE_80_1_NAME": "admin"})
	if d := cmp.Diff(full.Services, alias.Services); d != "" || len(full.Services) != 3 {
		t.Errorf("%d services; -full +alias:\n%s", len(full.Services), d)
	}
	if v := of(map[string]string{"registrator.name": "a", "SERVICE_NAME": "b"}); v.Services[0].Name != "b-80" {
		t.Errorf("name %q, want that of SERVICE_NAME", v.Services[0].Name)
	}
}

// Where a container comes from stands in the metadata; what somebody set himself wins.
func TestOrigins(t *testing.T) {
	t.Parallel()
	cfg := base()
	v := Map(&cfg, box{ports: "80=1", labels: map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "cart",
		"com.docker.stack.namespace": strings.Repeat("x", 600), "SERVICE_META_compose-service": "basket"}}.container(t), nil)
	m := v.Services[0].Meta
	if m["compose-project"] != "shop" || m["compose-service"] != "basket" || m["swarm-stack"] != "" {
		t.Errorf("metadata %v", m)
	}
}

// Both families of a published port, each with its own port, and -ip for one or both.
func TestDualStackPublished(t *testing.T) {
	t.Parallel()
	at := func(a string, p int) consul.ServiceAddress { return consul.ServiceAddress{Address: a, Port: p} }
	for name, c := range map[string]struct {
		cfg     func(*Config)
		ports   string
		address string
		tagged  map[string]consul.ServiceAddress
	}{
		"both bound": {nil, "80=192.0.2.7:1,[2001:db8::1]:2", "192.0.2.7:1", map[string]consul.ServiceAddress{"lan_ipv4": at("192.0.2.7", 1), "lan_ipv6": at("2001:db8::1", 2)}},
		"to all, -ip of both": {func(c *Config) { c.IP, c.IP6 = "192.0.2.1", "2001:db8::9" }, "80=0.0.0.0:1,[::]:2", "192.0.2.1:1",
			map[string]consul.ServiceAddress{"lan_ipv4": at("192.0.2.1", 1), "lan_ipv6": at("2001:db8::9", 2)}},
		"IPv6 alone, to all": {func(c *Config) { c.IP6 = "2001:db8::9" }, "80=[::]:2", "2001:db8::9:2", map[string]consul.ServiceAddress{"lan_ipv6": at("2001:db8::9", 2)}},
		"the node has IPv6":  {func(c *Config) { c.HostAddress = "2001:db8::5" }, "80=[::]:2", "2001:db8::5:2", map[string]consul.ServiceAddress{"lan_ipv6": at("2001:db8::5", 2)}},
		"-ip of one leaves the other": {func(c *Config) { c.IP = "192.0.2.1" }, "80=0.0.0.0:1,[2001:db8::1]:2", "192.0.2.1:1",
			map[string]consul.ServiceAddress{"lan_ipv4": at("192.0.2.1", 1), "lan_ipv6": at("2001:db8::1", 2)}},
	} {
		cfg := base()
		cfg.Family = FamilyDual
		if c.cfg != nil {
			c.cfg(&cfg)
		}
		v := Map(&cfg, box{ports: c.ports}.container(t), nil)
		if len(v.Services) != 1 {
			t.Errorf("%s: %v", name, v.Reasons)
			continue
		}
		s := v.Services[0]
		if got := fmt.Sprintf("%s:%d", s.Address, s.Port); got != c.address {
			t.Errorf("%s: %s, want %s", name, got, c.address)
		}
		if d := cmp.Diff(c.tagged, s.TaggedAddresses); d != "" {
			t.Errorf("%s: tagged addresses, -want +got:\n%s", name, d)
		}
	}
}

// Networks that are the host's own register what stands in them; those of swarm's own
// plumbing come last.
func TestDrivers(t *testing.T) {
	t.Parallel()
	on := func(networks map[string]string, drivers map[string]string, env ...string) *docker.Container {
		c := box{ports: "80=", mode: "x", networks: networks, env: env}.container(t)
		for n, d := range drivers {
			e := c.Networks[n]
			e.Driver = d
			c.Networks[n] = e
		}
		return c
	}
	cfg := base()
	internal := base()
	internal.Address = AddressContainer
	task := on(map[string]string{"ingress": "10.0.0.9", "shop": "10.0.1.9"}, nil)
	unknown := on(map[string]string{"ingress": "10.0.0.9"}, nil)
	unknown.IngressUnknown = true
	said := on(map[string]string{"ingress": "10.0.0.9"}, nil, "SERVICE_80_PORT=30000")
	said.IngressUnknown = true
	for name, c := range map[string]struct {
		cfg  Config
		box  *docker.Container
		want string // a service, or what the reason says
	}{
		"macvlan":            {cfg, on(map[string]string{"lan": "192.168.1.9"}, map[string]string{"lan": "macvlan"}), "nginx host1:box:80 192.168.1.9:80"},
		"ipvlan":             {cfg, on(map[string]string{"lan": "192.168.1.9"}, map[string]string{"lan": "ipvlan"}), "nginx host1:box:80 192.168.1.9:80"},
		"macvlan and bridge": {cfg, on(map[string]string{"a": "172.18.0.2", "lan": "192.168.1.9"}, map[string]string{"a": "bridge", "lan": "macvlan"}), "not published"},
		"bridge":             {cfg, on(map[string]string{"lan": "172.18.0.2"}, map[string]string{"lan": "bridge"}), "not published"},
		"a swarm's task":     {internal, task, "nginx host1:box:80 10.0.1.9:80"},
		"ingress, a worker":  {cfg, unknown, "SERVICE_80_PORT"},
		"ingress, told":      {cfg, said, "nginx host1:box:80 10.0.0.5:30000"},
	} {
		v := Map(&c.cfg, c.box, nil)
		got := strings.Join(append(brief(v), v.Reasons...), "; ")
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// An image's label that silences the operator's variable is told; tokens are not.
func TestContradictions(t *testing.T) {
	t.Parallel()
	cfg := base()
	b := box{ports: "80=1", labels: map[string]string{"SERVICE_NAME": "image", "SERVICE_80_TAGS": "a", "SERVICE_REGION": "eu", "SERVICE_TOKEN": "one"},
		env: []string{"SERVICE_name=operator", "SERVICE_80_TAGS=a", "SERVICE_8080_REGION=us", "SERVICE_TOKEN=two"}}
	v := Map(&cfg, b.container(t), nil)
	want := `SERVICE_NAME is "image" as a label and "operator" in the environment: the label counts, not the environment (see -env-wins)`
	if len(v.Warnings) != 1 || v.Warnings[0] != want || v.Services[0].Name != "image" {
		t.Errorf("%s, warnings %q; want %s", v.Services[0].Name, v.Warnings, want)
	}
	cfg.EnvWins = true
	if v := Map(&cfg, b.container(t), nil); len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "the environment counts") || v.Services[0].Name != "operator" {
		t.Errorf("-env-wins: %s, warnings %q", v.Services[0].Name, v.Warnings)
	}
}

// Whatever labels and ports say: no panic, and nothing that the catalog would refuse.
func FuzzMap(f *testing.F) {
	f.Add("SERVICE_80_NAME", "x", "SERVICE_TAGS", "a,b", "80=1 443=2", "default")
	f.Add("SERVICE_CHECK_1_SCRIPT", "a 'b", "SERVICE_99999_NAME", "", "53/udp=", "container:x")
	f.Add("SERVICE_8-9_", "", "SERVICE_PORT", "-1", "", "host")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, ports, mode string) {
		c := box{mode: mode, env: []string{k1 + "=" + v1}, labels: map[string]string{k2: v2}, health: "starting"}.container(t)
		for _, p := range strings.Fields(ports) {
			var n uint16
			if _, err := fmt.Sscanf(p, "%d=", &n); err == nil {
				port := docker.Port{Number: n, Proto: "tcp"}
				c.Exposed = append(c.Exposed, port)
				c.Published[port] = []docker.Binding{{IP: netip.IPv4Unspecified(), Port: n}}
			}
		}
		for _, mode := range []string{AddressPublished, AddressContainer, AddressAuto} {
			cfg := base()
			cfg.Address = mode
			v := Map(&cfg, c, func(string) *docker.Container { return c })
			ids := map[string]bool{}
			for _, s := range v.Services {
				if ids[s.ID] {
					t.Errorf("id %q twice", s.ID)
				}
				ids[s.ID] = true
				if len(s.Meta) > maxMeta {
					t.Errorf("%d pairs of metadata", len(s.Meta))
				}
				for _, k := range slices.Collect(maps.Keys(s.Meta)) {
					if why := ValidMeta(k, s.Meta[k]); why != "" {
						t.Errorf("metadata %q: %s", k, why)
					}
				}
				if _, err := json.Marshal(s.AgentServiceRegistration); err != nil {
					t.Errorf("marshal: %v", err)
				}
			}
		}
	})
}

func BenchmarkMap(b *testing.B) {
	cfg := base()
	c := box{ports: "80=32768 443=32769", env: []string{"PATH=/bin", "SERVICE_NAME=web", "SERVICE_TAGS=a,b", "SERVICE_CHECK_HTTP=/"}, health: "healthy"}.container(b)
	b.ReportAllocs()
	for b.Loop() {
		Map(&cfg, c, nil)
	}
}
