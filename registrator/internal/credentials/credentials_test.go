package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// agent answers GET /v1/status/leader and remembers who asked, and with which token.
type agent struct {
	mu    sync.Mutex
	token string
	peer  string // common name of the client's certificate
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token, a.peer = r.Header.Get("X-Consul-Token"), ""
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		a.peer = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	_, _ = w.Write([]byte(`"127.0.0.1:8300"`))
}

func (a *agent) got() (token, peer string) { a.mu.Lock(); defer a.mu.Unlock(); return a.token, a.peer }

// put writes a file with a time of its own, as a later write has.
func put(t *testing.T, path, text string, second int) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T, cfg *consul.Config) *consul.Client {
	t.Helper()
	if err := Follow(cfg, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	c, err := consul.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// later makes the next request look at the files again.
func later(cfg *consul.Config) {
	f := cfg.HttpClient.Transport.(*follower)
	f.mu.Lock()
	f.looked = time.Time{}
	f.mu.Unlock()
}

func TestToken(t *testing.T) {
	a := &agent{}
	s := httptest.NewServer(a)
	defer s.Close()
	path := filepath.Join(t.TempDir(), "token")
	put(t, path, "one\n", 1)
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", path) // as DefaultConfig has it
	cfg := consul.DefaultConfig()
	cfg.Address = s.Listener.Addr().String()
	c := client(t, cfg)
	ask := func(own, want string) {
		t.Helper()
		if _, err := c.Status().LeaderWithQueryOptions(&consul.QueryOptions{Token: own}); err != nil {
			t.Fatal(err)
		}
		if got, _ := a.got(); got != want {
			t.Errorf("token %q, want %q", got, want)
		}
	}
	ask("", "one")
	put(t, path, "two", 2)
	later(cfg)
	ask("", "two")
	ask("service's own", "service's own")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	later(cfg)
	ask("", "two") // the last good one
	put(t, path, "three", 3)
	later(cfg)
	ask("", "three")
}

// Files are looked at once a second, not with every request.
func TestLooksNowAndThen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	put(t, path, "one", 1)
	synctest.Test(t, func(t *testing.T) {
		cfg := consul.DefaultConfig()
		cfg.TokenFile = path
		if err := Follow(cfg, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		f := cfg.HttpClient.Transport.(*follower)
		put(t, path, "two", 2)
		if got, _ := f.current(); got != "one" {
			t.Errorf("at once: %q, want the one that was read", got)
		}
		time.Sleep(lookEvery)
		if got, _ := f.current(); got != "two" {
			t.Errorf("a second later: %q", got)
		}
	})
}

func TestSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "http.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{}
	s := &http.Server{Handler: a, ReadHeaderTimeout: time.Second}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	defer func() { s.Close(); <-ended }()
	token := filepath.Join(t.TempDir(), "token")
	put(t, token, "x", 1)
	cfg := consul.DefaultConfig()
	cfg.Address, cfg.TokenFile = "unix://"+path, token
	if _, err := client(t, cfg).Status().Leader(); err != nil {
		t.Fatal(err)
	}
	if got, _ := a.got(); got != "x" {
		t.Errorf("token %q over a socket", got)
	}
}

func TestCannotBegin(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*consul.Config){
		"token file": func(c *consul.Config) { c.TokenFile = "/nonexistent/token" },
		"authority":  func(c *consul.Config) { c.TLSConfig.CAFile = "/nonexistent/ca.pem" },
	} {
		cfg := consul.DefaultConfig()
		change(cfg)
		if err := Follow(cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("a %s that is not there was taken", name)
		}
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue makes a certificate and its key.
func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}))
}

// The certificates are renewed, the server's and its authority's too, while the client
// goes on.
func TestCertificates(t *testing.T) {
	old, young := newAuthority(t), newAuthority(t)
	a := &agent{}
	var mu sync.Mutex
	var server tls.Certificate
	serve := func(by *authority) {
		cert, key := by.issue(t, "agent")
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		server = pair
		mu.Unlock()
	}
	serve(old)
	s := httptest.NewUnstartedServer(a)
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{server}}, nil
	}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	issue := func(by *authority, name string, second int) {
		cert, key := by.issue(t, name)
		put(t, file("cert"), cert, second)
		put(t, file("key"), key, second)
		put(t, file("ca"), by.pem, second)
	}
	issue(old, "first", 1)
	cfg := consul.DefaultConfig()
	cfg.Address, cfg.Scheme = s.Listener.Addr().String(), "https"
	cfg.TLSConfig = consul.TLSConfig{CAFile: file("ca"), CertFile: file("cert"), KeyFile: file("key")}
	c := client(t, cfg)
	ask := func(want string) {
		t.Helper()
		if _, err := c.Status().Leader(); err != nil {
			t.Errorf("as %s: %v", want, err)
		}
		if _, got := a.got(); got != want {
			t.Errorf("the agent saw %q, want %q", got, want)
		}
	}
	ask("first")
	put(t, file("cert"), "half a certi", 2) // in the middle of a renewal
	later(cfg)
	ask("first")
	serve(young)
	issue(young, "second", 3)
	later(cfg)
	ask("second")
}
