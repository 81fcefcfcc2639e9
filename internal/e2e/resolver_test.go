package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tool is the path of a program that deploy/deps.sh installs for tests.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path := filepath.Join(dir, name); isFile(path) {
			return path
		}
	}
	t.Skipf("no %s here; make deps installs it", name)
	return ""
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// dig asks a server on loopback as people do, and gives the answers sorted, or the code
// where it is not NOERROR.
func dig(t testing.TB, port int, args ...string) string {
	t.Helper()
	all := append([]string{"@127.0.0.1", "-p", strconv.Itoa(port), "+noall", "+answer", "+comments", "+time=5", "+tries=2"}, args...)
	out, err := exec.Command(tool(t, "dig"), all...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("dig: %v: %s", err, out)
	}
	var answers []string
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, "status: "); ok && !strings.HasPrefix(rest, "NOERROR") {
			code, _, _ := strings.Cut(rest, ",")
			return code
		}
		if f := strings.Fields(line); len(f) > 4 && !strings.HasPrefix(line, ";") {
			answers = append(answers, f[0]+" "+strings.Join(f[3:], " "))
		}
	}
	slices.Sort(answers)
	return strings.Join(answers, "; ")
}

func startDNSMasq(t *testing.T, dns, ip string, port int) {
	host, at, _ := net.SplitHostPort(dns)
	start(t, tool(t, "dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-daemon", "--pid-file",
		"--listen-address="+ip, "--bind-interfaces", "--port="+strconv.Itoa(port), "--server=/consul/"+host+"#"+at, "--rev-server=10.0.0.0/8,"+host+"#"+at)
}

func startUnbound(t *testing.T, dns, ip string, port int) {
	host, at, _ := net.SplitHostPort(dns)
	conf := filepath.Join(t.TempDir(), "unbound.conf")
	// use-caps-for-id asks in a random case, and takes no answer that does not echo it
	text := fmt.Sprintf(`server:
	interface: %s
	port: %d
	username: ""
	chroot: ""
	directory: "%s"
	pidfile: ""
	use-syslog: no
	do-not-query-localhost: no
	domain-insecure: "consul"
	local-zone: "consul." nodefault
	local-zone: "10.in-addr.arpa." nodefault
	use-caps-for-id: yes
	module-config: "iterator"
remote-control:
	control-enable: no
forward-zone:
	name: "consul."
	forward-addr: %[4]s@%[5]s
forward-zone:
	name: "10.in-addr.arpa."
	forward-addr: %[4]s@%[5]s
`, ip, port, filepath.Dir(conf), host, at)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, tool(t, "unbound"), "-d", "-c", conf)
}

// getent asks as every program that is linked with glibc does, with a resolv.conf and an
// nsswitch.conf of its own, and gives the addresses or names that come.
func getent(t testing.TB, server string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "resolv.conf"), "nameserver "+server+"\nsearch service.consul\noptions timeout:5\n")
	write(t, filepath.Join(dir, "nsswitch.conf"), "hosts: dns\n")
	script := `mount --bind "$0/resolv.conf" /etc/resolv.conf && mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf && exec getent "$@"`
	out, err := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, dir}, args...)...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return "not found"
	}
	if err != nil {
		return fmt.Sprintf("getent: %v: %s", err, out)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		switch f := strings.Fields(line); {
		case args[0] == "hosts":
			found = append(found, f[1])
		case f[1] == "STREAM":
			found = append(found, f[0])
		}
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

// domestic gives a loopback address whose port 53, which resolv.conf cannot change, is free.
func domestic(t testing.TB) string {
	t.Helper()
	for i := range 1000 {
		ip := fmt.Sprintf("127.53.%d.%d", os.Getpid()%250, 1+(os.Getpid()/250+i)%250)
		c, err := net.ListenPacket("udp", ip+":53")
		if errors.Is(err, os.ErrPermission) {
			t.Skip("port 53 needs root, and glibc asks no other")
		}
		if err == nil {
			c.Close()
			return ip
		}
	}
	t.Fatal("no address with a free port 53")
	return ""
}

// The resolvers that people put before Consul forward its domain to ours: all kinds of
// records, empty answers, answers too long for UDP.
func TestResolvers(t *testing.T) {
	t.Parallel()
	tool(t, "dig")
	server := startServer(t)
	register := func(node, addr, service, more string) {
		t.Helper()
		if err := server.put("/v1/catalog/register", fmt.Sprintf(`{"Node": %q, "Address": %q, "Service": {"Service": %q, "Port": 80%s}}`, node, addr, service, more)); err != nil {
			t.Fatal(err)
		}
	}
	register("n1", "10.0.0.1", "web", `, "Tags": ["v1"]`)
	register("n2", "10.0.0.2", "web", `, "Address": "192.168.0.2"`)
	register("six", "fd00::6", "six", "")
	for i := range 400 {
		register(fmt.Sprintf("many-%d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250), "many", "")
	}
	for name, start := range map[string]func(t *testing.T, dns, ip string, port int){"dnsmasq": startDNSMasq, "unbound": startUnbound} {
		t.Run(name, func(t *testing.T) {
			port := freePorts(t, 1)[0]
			start(t, server.dns, "127.0.0.1", port)
			eventually(t, soon, name+" answers", func() error {
				if got := dig(t, port, "n1.node.consul", "A"); got != "n1.node.consul. A 10.0.0.1" {
					return errors.New(got)
				}
				return nil
			})
			for _, c := range []struct{ name, qtype, want string }{
				{"web.service.consul", "A", "web.service.consul. A 10.0.0.1; web.service.consul. A 192.168.0.2"},
				{"WEB.Service.Consul", "A", "WEB.Service.Consul. A 10.0.0.1; WEB.Service.Consul. A 192.168.0.2"},
				{"v1.web.service.consul", "A", "v1.web.service.consul. A 10.0.0.1"},
				{"web.service.consul", "AAAA", ""},
				{"six.service.consul", "AAAA", "six.service.consul. AAAA fd00::6"},
				{"six.service.consul", "A", ""},
				{"_web._tcp.service.consul", "SRV", "_web._tcp.service.consul. SRV 1 1 80 c0a80002.addr.dc1.consul.; _web._tcp.service.consul. SRV 1 1 80 n1.node.dc1.consul."},
				{"c0a80002.addr.dc1.consul", "A", "c0a80002.addr.dc1.consul. A 192.168.0.2"},
				{"none.service.consul", "A", "NXDOMAIN"},
				{"web.service.elsewhere.consul", "A", "NXDOMAIN"},
				{"consul", "NS", "consul. NS server-host.node.dc1.consul."},
			} {
				if got := dig(t, port, c.name, c.qtype); !strings.EqualFold(got, c.want) {
					t.Errorf("%s %s: %q, want %q", c.name, c.qtype, got, c.want)
				}
			}
			if n := strings.Count(dig(t, port, "many.service.consul", "A"), " A "); n != 400 {
				t.Errorf("many: %d addresses, want 400: what does not fit UDP comes over TCP", n)
			}
		})
		t.Run("glibc and "+name, func(t *testing.T) {
			ip := domestic(t)
			start(t, server.dns, ip, 53)
			eventually(t, soon, name+" answers", func() error {
				if got := getent(t, ip, "ahostsv4", "n1.node.consul"); got != "10.0.0.1" {
					return errors.New(got)
				}
				return nil
			})
			for _, c := range []struct{ database, name, want string }{
				{"ahostsv4", "web.service.consul", "10.0.0.1 192.168.0.2"},
				{"ahosts", "WEB.service.consul.", "10.0.0.1 192.168.0.2"},
				{"ahostsv4", "web", "10.0.0.1 192.168.0.2"}, // by the search list
				{"ahosts", "v1.web.service.consul", "10.0.0.1"},
				{"ahostsv6", "six.service.consul", "fd00::6"},
				{"ahosts", "none.service.consul", "not found"},
				{"hosts", "10.0.0.1", "n1.node.dc1.consul"},
				{"hosts", "10.9.9.9", "not found"},
			} {
				if got := getent(t, ip, c.database, c.name); got != c.want {
					t.Errorf("getent %s %s: %q, want %q", c.database, c.name, got, c.want)
				}
			}
			if n := len(strings.Fields(getent(t, ip, "ahostsv4", "many.service.consul"))); n != 400 {
				t.Errorf("many: glibc gets %d addresses, want 400", n)
			}
		})
	}
}

// HAProxy finds instances by SRV, follows them up and down, and takes over their weights.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	port := freePorts(t, 1)[0]
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`global
	log stderr format raw local0
defaults
	mode http
	timeout connect 2s
	timeout client 5s
	timeout server 5s
resolvers rollcall
	nameserver ours %s
	accepted_payload_size 8192
	timeout resolve 200ms
	timeout retry 200ms
	hold valid 200ms
	hold obsolete 200ms
	hold nx 200ms
frontend in
	bind 127.0.0.1:%d
	stats enable
	stats uri /stats
	default_backend web
backend web
	balance roundrobin
	server-template web 6 _web._tcp.service.consul resolvers rollcall resolve-prefer ipv4 init-addr none
`, server.dns, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, tool(t, "haproxy"), "-db", "-f", conf)

	instances := map[string]int{} // name to port
	for _, name := range []string{"one", "two", "three"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
		t.Cleanup(s.Close)
		_, p, _ := net.SplitHostPort(s.Listener.Addr().String())
		instances[name], _ = strconv.Atoi(p)
	}
	register := func(name string, weight int) {
		t.Helper()
		if err := server.put("/v1/agent/service/register", fmt.Sprintf(
			`{"Name": "web", "ID": %q, "Address": "127.0.0.1", "Port": %d, "Weights": {"Passing": %d, "Warning": 1}}`, name, instances[name], weight)); err != nil {
			t.Fatal(err)
		}
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	served := func(want ...string) {
		t.Helper()
		eventually(t, soon, fmt.Sprintf("HAProxy serves %v", want), func() error {
			got := map[string]bool{}
			for range 8 {
				code, body, err := get(url)
				if err != nil {
					return err
				}
				if code != http.StatusOK {
					body = strconv.Itoa(code)
				}
				got[body] = true
			}
			if !sameSet(keys(got), want) {
				return fmt.Errorf("it serves %v", keys(got))
			}
			return nil
		})
	}
	served("503")
	register("one", 1)
	served("one")
	register("two", 1)
	register("three", 1)
	served("one", "two", "three")
	if err := server.put("/v1/agent/service/deregister/one", ""); err != nil {
		t.Fatal(err)
	}
	served("two", "three")
	if err := server.put("/v1/agent/service/maintenance/two?enable=true", ""); err != nil {
		t.Fatal(err)
	}
	served("three")
	if err := server.put("/v1/agent/service/maintenance/two?enable=false", ""); err != nil {
		t.Fatal(err)
	}
	served("two", "three")
	register("three", 25600)
	eventually(t, soon, "HAProxy takes over the weights", func() error {
		// it makes 1 to 256 of SRV's 0 to 65535
		_, body, err := get(url + "/stats;csv")
		if err != nil {
			return err
		}
		var weights []string
		for line := range strings.Lines(body) {
			if f := strings.Split(line, ","); len(f) > 18 && strings.HasPrefix(f[1], "web") && f[17] == "no check" {
				weights = append(weights, f[18])
			}
		}
		if slices.Sort(weights); !slices.Equal(weights, []string{"1", "100"}) {
			return fmt.Errorf("weights %v", weights)
		}
		return nil
	})
}

func keys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
