package templates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shop is a catalog in which every template finds something: good, ill and hostile.
var shop = catalog{
	services: map[string][]inst{
		"web": {
			{"w1", "10.0.0.1", 8080, 1, []string{"blue", "host=shop.example", "urlprefix-shop.example/", "urlprefix-shop.example/cart"}},
			{"w2", "10.0.0.2", 8080, 3, []string{"green", "canary", "urlprefix-shop.example/"}},
		},
		"api":         {{"a1", "10.0.0.3", 9000, 1, []string{"grpc", "urlprefix-api.example/v1", "urlprefix-shop.example/api", "urlprefix-x;y/", "urlprefix-shop.example/a;b"}}},
		"db":          {{"d1", "10.0.0.4", 5432, 1, []string{"tcp=5432", "tcp=99999", "tcp=1;x"}}},
		"dns":         {{"n1", "10.0.0.5", 53, 1, []string{"udp=5353", "tcp=5432"}}},
		"gone":        {},
		"x;y} server": {{"x", "10.0.0.6", 80, 1, nil}},
	},
	keys: map[string]string{
		"nginx/web/canary": "20", "nginx/web/colour": "green", "nginx/web/allow/office": "192.0.2.0/24", "nginx/web/allow/home": "2001:db8::1",
	},
	nodes: map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2", "bad name": "10.0.0.3", "evil": "10.0.0.4\n6.6.6.6 bank.example"},
}

func with(c catalog, keys map[string]string) catalog { c.keys = keys; return c }

// Every template of the library: what it makes is golden, and nginx takes it where it is
// nginx's.
func TestLibrary(t *testing.T) {
	cert, key := pair(t)
	for name, c := range map[string]struct {
		template, block string
		catalog         catalog
		env             []string
	}{
		"paths.conf":             {"nginx-paths", "http", shop, nil},
		"paths-tls.conf":         {"nginx-paths", "http", shop, []string{"TLS_CERT=" + cert, "TLS_KEY=" + key}},
		"paths-nothing.conf":     {"nginx-paths", "http", catalog{}, nil},
		"grpc.conf":              {"nginx-grpc", "http", shop, nil},
		"stream.conf":            {"nginx-stream", "stream", shop, nil},
		"sticky.conf":            {"nginx-sticky", "http", shop, nil},
		"sticky-cookie.conf":     {"nginx-sticky", "http", shop, []string{"STICKY_COOKIE=session"}},
		"sticky-nothing.conf":    {"nginx-sticky", "http", shop, []string{"SERVICE=gone"}},
		"canary.conf":            {"nginx-canary", "http", shop, nil},
		"canary-off.conf":        {"nginx-canary", "http", with(shop, nil), nil},
		"canary-all.conf":        {"nginx-canary", "http", with(shop, map[string]string{"nginx/web/canary": "250"}), nil},
		"canary-one-side.conf":   {"nginx-canary", "http", shop, []string{"SERVICE=api"}},
		"bluegreen.conf":         {"nginx-bluegreen", "http", shop, nil},
		"bluegreen-blue.conf":    {"nginx-bluegreen", "http", with(shop, nil), nil},
		"bluegreen-nothing.conf": {"nginx-bluegreen", "http", with(shop, map[string]string{"nginx/web/colour": "red"}), nil},
		"gate.conf":              {"nginx-gate", "http", shop, nil},
		"gate-open.conf":         {"nginx-gate", "http", with(shop, nil), nil},
		"gate-maintenance.conf":  {"nginx-gate", "http", with(shop, map[string]string{"nginx/web/maintenance": `Back at 10:00"; evil`}), nil},
		"resolver.conf":          {"nginx-resolver", "resolver", shop, nil},
		"haproxy.cfg":            {"haproxy.cfg", "haproxy", shop, nil},
		"hosts":                  {"hosts", "", shop, nil},
	} {
		t.Run(name, func(t *testing.T) {
			file := c.template + ".ctmpl"
			if strings.HasPrefix(c.template, "nginx") {
				file = c.template + ".conf.ctmpl"
			}
			got, err := render(t, file, c.catalog, c.env...)
			if err != nil {
				t.Fatalf("templater: %v", err)
			}
			golden(t, name, strings.NewReplacer(cert, "/etc/tls/cert.pem", key, "/etc/tls/key.pem").Replace(got))
			switch c.block {
			case "http", "stream":
				check(t, c.block, got)
			case "resolver": // older nginx lacks the one line that this is about; the rest it takes
				check(t, "http", resolved(got))
			case "haproxy":
				haproxy(t, got)
			}
		})
	}
}

// resolved has an address in the place of names that nginx would resolve.
func resolved(conf string) string {
	var out strings.Builder
	for line := range strings.Lines(conf) {
		if strings.Contains(line, " resolve ") {
			line = "server 127.0.0.1:1;\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

// A key that is no address stops the change.
func TestGateRefuses(t *testing.T) {
	for _, value := range []string{"all; allow 0.0.0.0/0", "office", ""} {
		if out, err := render(t, "nginx-gate.conf.ctmpl", with(shop, map[string]string{"nginx/web/allow/x": value})); err == nil {
			t.Errorf("%q was let in:\n%s", value, out)
		}
	}
}

func haproxy(t *testing.T, conf string) {
	t.Helper()
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/haproxy"); err != nil {
			t.Log("no haproxy on this machine to check the file")
			return
		}
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin, "-c", "-f", path).CombinedOutput(); err != nil {
		t.Errorf("haproxy refuses it: %v\n%s", err, out)
	}
}

// pair makes a certificate for the test.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
