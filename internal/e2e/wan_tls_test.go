package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// authority is a directory with what `rollcall tls` makes.
type authority struct {
	t   testing.TB
	dir string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t, t.TempDir()}
	a.run("ca", "create")
	return a
}

func (a *authority) run(args ...string) {
	a.t.Helper()
	if got := startInDir(a.t, a.dir, bins(a.t, "rollcall"), append([]string{"tls"}, args...)...); got.code != 0 {
		a.t.Fatalf("tls %v: exit %d: %s", args, got.code, got.text)
	}
}

// server makes a server's certificate for a datacenter and gives its files' prefix.
func (a *authority) server(dc string) string { return a.cert("server", dc) }

// client makes a client agent's.
func (a *authority) client(dc string) string { return a.cert("client", dc) }

func (a *authority) cert(kind, dc string, more ...string) string {
	a.t.Helper()
	base := filepath.Join(a.dir, fmt.Sprintf("%s-%s-consul", dc, kind))
	n := 0
	for exists(fmt.Sprintf("%s-%d.pem", base, n)) {
		n++
	}
	a.run(append([]string{"cert", "create", "-" + kind, "-dc=" + dc}, more...)...)
	return fmt.Sprintf("%s-%d", base, n)
}

func (a *authority) ca() string { return filepath.Join(a.dir, "consul-agent-ca.pem") }

// conf is a configuration that shows a certificate of the authority, and asks for one.
func (a *authority) conf(cert, more string) string {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), "tls.hcl")
	write(a.t, file, fmt.Sprintf(`tls { defaults { ca_file = %q, cert_file = %q, key_file = %q } internal_rpc { verify_incoming = true, verify_outgoing = true, verify_server_hostname = true } }
%s`, a.ca(), cert+".pem", cert+"-key.pem", more))
	return "-config-file=" + file
}

// Two datacenters whose agents speak TLS only and gossip encrypted: everything works, and
// who comes without, or with what is not right, is told so on both sides and gets nothing.
func TestSecrecy(t *testing.T) {
	t.Parallel()
	s := &secrecy{authority: newAuthority(t), key: strings.TrimSpace(startInDir(t, t.TempDir(), bins(t, "rollcall"), "keygen").text)}
	cert := s.server("dc1")
	s.one = startAgent(t, "one", options{}, "-server", "-bootstrap-expect=2", "-encrypt="+s.key, s.conf(cert, ""))
	s.second = startAgent(t, "second", options{}, "-server", "-bootstrap-expect=2", "-encrypt="+s.key, "-retry-join="+s.one.lan, s.conf(s.server("dc1"), ""))
	s.two = startAgent(t, "two", options{}, "-server", "-bootstrap-expect=1", "-datacenter=dc2", "-encrypt="+s.key, "-retry-join-wan="+s.one.wan, s.conf(s.server("dc2"), ""))
	s.client = startAgent(t, "client", options{}, "-retry-join="+s.one.lan, "-encrypt="+s.key, s.conf(s.authority.client("dc1"), ""))
	for _, a := range []*agent{s.one, s.second, s.two, s.client} {
		a.awaitLeader()
	}
	t.Run("works", s.works)
	t.Run("strangers", s.strangers)
	t.Run("garbage", s.garbage)
	t.Run("gossip", s.gossip)
	t.Run("renewal", func(t *testing.T) { s.renewal(t, cert) })
	t.Run("keys", s.keys)
}

type secrecy struct {
	*authority
	key                      string
	one, second, two, client *agent
}

func (s *secrecy) works(t *testing.T) {
	s.client.rollcall("kv", "put", "a", "b")
	eventually(t, soon, "a key of the other datacenter", func() error {
		out, errs, code := outcome(t, []string{"CONSUL_HTTP_ADDR=" + s.two.http}, bins(t, "rollcall"), "kv", "get", "-datacenter=dc1", "a")
		if code != 0 || out != "b\n" {
			return fmt.Errorf("%q, exit %d: %s", out, code, errs)
		}
		return nil
	})
	s.client.rollcall("snapshot", "save", filepath.Join(t.TempDir(), "a.snap"))
}

// logged waits for a line in an agent's log.
func (a *agent) logged(want ...string) {
	a.t.Helper()
	eventually(a.t, 20*time.Second, fmt.Sprintf("%s logs %q", a.name, want), func() error {
		for line := range strings.Lines(a.output()) {
			if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(line, w) }) {
				return nil
			}
		}
		return fmt.Errorf("it does not")
	})
}

// fails wants a request through an agent to fail with a text.
func (a *agent) fails(want string) {
	a.t.Helper()
	eventually(a.t, 30*time.Second, a.name+" says why it fails", func() error {
		code, body, err := a.get("/v1/kv/a?stale")
		if err != nil || code != 500 || !strings.Contains(body, want) {
			return fmt.Errorf("%d %q, %v; want %q", code, body, err, want)
		}
		return nil
	})
}

// Agents that gossip rightly but show nothing, or the wrong thing.
func (s *secrecy) strangers(t *testing.T) {
	begun := time.Now()
	start := func(name, conf string) *agent {
		args := []string{"-retry-join=" + s.one.lan, "-encrypt=" + s.key}
		if conf != "" {
			args = append(args, conf)
		}
		return startAgent(t, name, options{}, args...)
	}
	plain := start("plain", "")
	other := newAuthority(t)
	wrongCA := start("wrong-ca", other.conf(other.client("dc1"), ""))
	mixed := filepath.Join(t.TempDir(), "mixed.hcl")
	mine := other.client("dc1") // trusts the servers, who do not trust it
	write(t, mixed, fmt.Sprintf(`tls { defaults { ca_file = %q, cert_file = %q, key_file = %q } internal_rpc { verify_outgoing = true } }`, s.ca(), mine+".pem", mine+"-key.pem"))
	untrusted := start("untrusted", "-config-file="+mixed)
	expired := s.authority.expired()
	late := start("late", s.conf(expired, ""))
	name := filepath.Join(t.TempDir(), "name.hcl")
	c := s.authority.client("dc1")
	write(t, name, fmt.Sprintf(`domain = "other." tls { defaults { ca_file = %q, cert_file = %q, key_file = %q } internal_rpc { verify_outgoing = true, verify_server_hostname = true } }`, s.ca(), c+".pem", c+"-key.pem"))
	wrongName := start("wrong-name", "-config-file="+name)

	plain.fails("takes calls with TLS only: set tls.internal_rpc.verify_outgoing")
	wrongCA.fails("certificate signed by unknown authority")
	wrongCA.logged("server not called: TLS fails", "unknown authority")
	untrusted.fails("remote error: tls:")
	untrusted.logged("server not called: TLS fails", "remote error: tls:")
	late.fails("remote error: tls: expired certificate")
	wrongName.fails("not server.dc1.other")
	wrongName.logged("server not called: TLS fails", "not server.dc1.other")

	for _, want := range []string{"it does not speak TLS, and verify_incoming wants that", "remote error: tls: bad certificate", "expired"} {
		eventually(t, 30*time.Second, fmt.Sprintf("a server logs %q", want), func() error {
			if !strings.Contains(s.one.output()+s.second.output(), want) {
				return errors.New("none does")
			}
			return nil
		})
	}
	for _, a := range []*agent{plain, wrongCA, untrusted, late, wrongName} {
		a.stop(syscall.SIGTERM) // they leave
	}
	for _, a := range []*agent{s.one, s.second} {
		// at most five kinds of refusal, each once in ten seconds
		if n, most := strings.Count(a.output(), "connection refused:"), 5*(2+int(time.Since(begun)/(10*time.Second))); n > most {
			t.Errorf("%s logs %d refusals, want %d at most", a.name, n, most)
		}
	}
}

// expired makes a client's certificate whose time is over.
func (a *authority) expired() string {
	a.t.Helper()
	ca, err := tls.LoadX509KeyPair(a.ca(), filepath.Join(a.dir, "consul-agent-ca-key.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	signer, err := x509.ParseCertificate(ca.Certificate[0])
	if err != nil {
		a.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(crand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{"client.dc1.consul"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, signer, &key.PublicKey, ca.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	file := filepath.Join(a.dir, "expired")
	write(a.t, file+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(a.t, file+"-key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})))
	return file
}

// Garbage on every port is refused, and the agent serves on.
func (s *secrecy) garbage(t *testing.T) {
	dice := rand.New(rand.NewSource(1))
	for _, addr := range []string{s.one.rpc, s.one.lan, s.one.wan, s.one.http} {
		for i := range 50 {
			c, err := net.DialTimeout("tcp", addr, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1+dice.Intn(4096))
			dice.Read(b)
			if i%5 == 0 {
				b = []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			}
			c.Write(b)
			if i%2 == 0 {
				c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
				io.Copy(io.Discard, c)
			}
			c.Close()
		}
		u, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			b := make([]byte, 1+dice.Intn(1400))
			dice.Read(b)
			u.Write(b)
		}
		u.Close()
	}
	s.client.rollcall("kv", "put", "a", "b")
	out := s.one.output()
	if strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
		t.Error("a fault of ours in the log")
	}
	for _, what := range []string{"agent.rpc:", "agent.gossip:"} {
		if n := strings.Count(out, what); n > 120 {
			t.Errorf("%d lines of %s", n, what)
		}
	}
	// plain HTTP to HTTPS, and the other way round
	https := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	tlsOnly := startAgent(t, "doors", options{}, "-server", "-bootstrap-expect=1", "-datacenter=dc3", "-https-port="+https[len("127.0.0.1:"):], s.conf(s.server("dc3"), ""))
	tlsOnly.awaitLeader()
	code, body, err := get("http://" + https + "/v1/status/leader")
	if err != nil || code != http.StatusBadRequest || !strings.Contains(body, "HTTP request to an HTTPS server") {
		t.Errorf("HTTP to HTTPS: %d %q, %v", code, body, err)
	}
	if c, err := tls.Dial("tcp", tlsOnly.http, &tls.Config{InsecureSkipVerify: true}); err == nil {
		c.Close()
		t.Error("TLS with the port for HTTP")
	}
}

// An agent with another gossip key, or none, is not let in; both sides say why.
func (s *secrecy) gossip(t *testing.T) {
	other := strings.TrimSpace(startInDir(t, t.TempDir(), bins(t, "rollcall"), "keygen").text)
	wrong := startAgent(t, "wrong-key", options{}, "-retry-join="+s.one.lan, "-encrypt="+other, s.conf(s.authority.client("dc1"), ""))
	none := startAgent(t, "no-key", options{}, "-retry-join="+s.one.lan, s.conf(s.authority.client("dc1"), ""))
	far := startAgent(t, "far-key", options{}, "-server", "-bootstrap-expect=1", "-datacenter=dc4", "-retry-join-wan="+s.one.wan, "-encrypt="+other, s.conf(s.server("dc4"), ""))
	wrong.logged("no agent answers yet", "the gossip keys differ")
	none.logged("no agent answers yet", "the other side has a gossip key, this one none")
	far.logged("no agent answers yet", "the gossip keys differ")
	s.one.logged("agent.gossip", "the gossip keys differ", "pool=LAN")
	s.one.logged("agent.gossip", "the other side has no gossip key", "pool=LAN")
	s.one.logged("agent.gossip", "the gossip keys differ", "pool=WAN")
	for _, args := range [][]string{{"members"}, {"members", "-wan"}} {
		if out := s.one.rollcall(args...); strings.Contains(out, "-key") {
			t.Errorf("%v has strangers:\n%s", args, out)
		}
	}
	for _, a := range []*agent{wrong, none, far} {
		a.stop(syscall.SIGKILL)
	}
}

// shown is the serial number of the certificate that a port for RPC shows.
func (s *secrecy) shown(addr string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte{3}); err != nil {
		return "", err
	}
	serial := ""
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(st tls.ConnectionState) error {
		serial = st.PeerCertificates[0].SerialNumber.String()
		return nil
	}})
	secure.Handshake() // it refuses us later: we show nothing
	if serial == "" {
		return "", fmt.Errorf("no certificate")
	}
	return serial, nil
}

// A certificate that is renewed is shown to whoever comes next: when its files change, and
// at SIGHUP. One that cannot be read changes nothing.
func (s *secrecy) renewal(t *testing.T, cert string) {
	replace := func(with string) {
		t.Helper()
		for _, end := range []string{"-key.pem", ".pem"} {
			b, err := os.ReadFile(with + end)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(cert+end+".new", b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(cert+end+".new", cert+end); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, err := s.shown(s.one.rpc)
	if err != nil {
		t.Fatal(err)
	}
	replace(s.server("dc1"))
	eventually(t, soon, "the new certificate is shown", func() error {
		if now, err := s.shown(s.one.rpc); err != nil || now == before {
			return fmt.Errorf("%s, %v", now, err)
		}
		return nil
	})
	s.one.logged("certificates renewed")
	if now, err := s.shown(s.one.rpc); err == nil {
		before = now
	}
	write(t, cert+".pem", "no certificate")
	s.one.logged("changed certificates not taken over")
	s.one.signal(syscall.SIGHUP)
	s.one.logged("reload refused")
	if now, err := s.shown(s.one.rpc); err != nil || now != before {
		t.Errorf("with a broken file: %s, %v; want %s", now, err, before)
	}
	replace(s.server("dc1"))
	s.one.signal(syscall.SIGHUP)
	eventually(t, soon, "another is shown after SIGHUP", func() error {
		if now, err := s.shown(s.one.rpc); err != nil || now == before {
			return fmt.Errorf("%s, %v", now, err)
		}
		return nil
	})
	s.client.rollcall("kv", "put", "a", "c")
}

// The gossip key is changed while everything runs, in both datacenters at once.
func (s *secrecy) keys(t *testing.T) {
	eventually(t, soon, "nobody is suspected: all have to answer", func() error {
		for _, l := range fields(s.one.rollcall("members")) {
			if l[2] != "alive" && l[2] != "left" && l[2] != "Status" {
				return fmt.Errorf("%v", l)
			}
		}
		return nil
	})
	next := strings.TrimSpace(startInDir(t, t.TempDir(), bins(t, "rollcall"), "keygen").text)
	list := func(want string) {
		t.Helper()
		out := s.client.rollcall("keyring", "-list")
		for _, pool := range []string{"WAN:", "dc1 (LAN):", "dc2 (LAN):"} {
			i := strings.Index(out, pool)
			if i < 0 {
				t.Fatalf("keyring -list lacks %s\n%s", pool, out)
			}
			block, _, _ := strings.Cut(out[i:], "\n\n")
			if !strings.Contains(block, want) {
				t.Errorf("%s lacks %q:\n%s", pool, want, out)
			}
		}
	}
	s.client.rollcall("keyring", "-install", next, "-relay-factor=2")
	list(next)
	list(s.key)
	s.client.rollcall("keyring", "-use", next)
	if out := s.client.rollcall("keyring", "-list-primary"); strings.Contains(out, s.key) || strings.Count(out, next) != 3 {
		t.Errorf("the keys in use:\n%s", out)
	}
	_, errs, code := outcome(t, []string{"CONSUL_HTTP_ADDR=" + s.client.http}, bins(t, "rollcall"), "keyring", "-remove", next)
	if code == 0 || !strings.Contains(errs, "not allowed to remove") && !strings.Contains(errs, "primary") {
		t.Errorf("removing the key in use: exit %d: %s", code, errs)
	}
	s.client.rollcall("keyring", "-remove", s.key)
	if out := s.client.rollcall("keyring", "-list"); strings.Contains(out, s.key) || strings.Count(out, next) != 3 {
		t.Errorf("after the removal:\n%s", out)
	}
	// it holds after a restart: the file beats the configuration
	s.client.stop(syscall.SIGTERM)
	s.client.run()
	s.client.awaitLeader()
	for _, file := range []string{"local", "remote"} {
		b, err := os.ReadFile(filepath.Join(s.two.dir, "serf", file+".keyring"))
		if err != nil || !bytes.Contains(b, []byte(next)) || bytes.Contains(b, []byte(s.key)) {
			t.Errorf("%s.keyring of dc2: %v, has the new key: %t", file, err, bytes.Contains(b, []byte(next)))
		}
	}
}

// Authorities come from a directory as they do from a file: whoever shows a certificate of one
// of them is let in, whoever does not is refused on both sides, until the authority's file is
// put there.
func TestAuthoritiesOfADirectory(t *testing.T) {
	t.Parallel()
	mine, second, third := newAuthority(t), newAuthority(t), newAuthority(t)
	put := func(dir, name string, a *authority) {
		t.Helper()
		b, err := os.ReadFile(a.ca())
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "new"), string(b))
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	conf := func(dir, cert string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "tls.hcl")
		write(t, file, fmt.Sprintf(`tls { internal_rpc { ca_path = %q, cert_file = %q, key_file = %q, verify_incoming = true, verify_outgoing = true, verify_server_hostname = true } }`, dir, cert+".pem", cert+"-key.pem"))
		return "-config-file=" + file
	}
	servers, clients := t.TempDir(), t.TempDir()
	put(servers, "mine.pem", mine)
	put(servers, "second.pem", second)
	put(clients, "mine.pem", mine)
	server := startAgent(t, "server", options{}, "-server", "-bootstrap-expect=1", conf(servers, mine.server("dc1")))
	server.awaitLeader()
	for name, a := range map[string]*authority{"of-mine": mine, "of-second": second} {
		client := startAgent(t, name, options{}, "-retry-join="+server.lan, conf(clients, a.client("dc1")))
		client.awaitLeader()
		client.rollcall("kv", "put", "a", name)
	}

	stranger := startAgent(t, "of-third", options{}, "-retry-join="+server.lan, conf(clients, third.client("dc1")))
	stranger.fails("remote error: tls:")
	server.logged("connection refused:", "provide a certificate") // clients show none that the server would not take
	wary := startAgent(t, "trusts-third", options{}, "-retry-join="+server.lan, third.conf(mine.client("dc1"), ""))
	wary.fails("certificate signed by unknown authority")

	put(servers, "third.pem", third)
	server.logged("certificates renewed")
	stranger.awaitLeader()
	stranger.rollcall("kv", "put", "a", "of-third")
}
