package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	n    int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("authority", nil, nil)
	a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) sign(name string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: parent == nil, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, by = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue writes a certificate and its key over the last ones of that name.
func (a *authority) issue(file, name string) (cert, key string) {
	c, k := a.sign(name, a.cert, a.key)
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(file+".pem", "CERTIFICATE", c.Raw), a.write(file+"-key.pem", "EC PRIVATE KEY", der)
}

// shake carries out a handshake and a byte, and gives the name that the server showed.
func shake(t *testing.T, k *Keeper, client *tls.Config) (string, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := tls.NewListener(l, k.Server()).Accept()
		if err == nil {
			c.Write([]byte("x")) // its error is the client's
			c.Close()
		}
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return "", err
	}
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue("server", "first")
	cfg := Config{CertFile: cert, KeyFile: key}
	k, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := Authorities(filepath.Join(a.dir, "ca.pem"), "")
	if err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{RootCAs: roots}
	if name, err := shake(t, k, client); err != nil || name != "first" {
		t.Fatalf("shown: %q, %v", name, err)
	}
	a.issue("server", "second")
	if name, err := shake(t, k, client); err != nil || name != "first" {
		t.Errorf("before the reload: %q, %v", name, err)
	}
	use, err := k.Prepare(cfg)
	if err != nil {
		t.Fatal(err)
	}
	use()
	if name, err := shake(t, k, client); err != nil || name != "second" {
		t.Errorf("after the reload: %q, %v", name, err)
	}
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Prepare(cfg); err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("a broken file: %v, want its name", err)
	}
	if name, err := shake(t, k, client); err != nil || name != "second" {
		t.Errorf("after a refused reload: %q, %v", name, err)
	}
}

func TestVerifyIncoming(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	cert, key := a.issue("server", "server")
	k, err := Open(Config{CertFile: cert, KeyFile: key, CAPath: onlyCA(t, a), VerifyIncoming: true, MinVersion: "TLSv1_2"})
	if err != nil {
		t.Fatal(err)
	}
	roots, err := Authorities(filepath.Join(a.dir, "ca.pem"), "")
	if err != nil {
		t.Fatal(err)
	}
	pair := func(a *authority) []tls.Certificate {
		c, err := tls.LoadX509KeyPair(a.issue("client", "client"))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	if _, err := shake(t, k, &tls.Config{RootCAs: roots, Certificates: pair(a)}); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if _, err := shake(t, k, &tls.Config{RootCAs: roots}); err == nil {
		t.Error("without a certificate: let in")
	}
	if _, err := shake(t, k, &tls.Config{RootCAs: roots, Certificates: pair(other)}); err == nil {
		t.Error("with another authority's: let in")
	}
	if _, err := shake(t, k, &tls.Config{RootCAs: roots, Certificates: pair(a), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1: let in")
	}
}

// onlyCA is a directory with the authority's certificate alone.
func onlyCA(t *testing.T, a *authority) string {
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join(a.dir, "ca.pem"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ca.pem"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFaults(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue("server", "server")
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"no file":       {Config{CertFile: "/none", KeyFile: key}, "/none"},
		"another's key": {Config{CertFile: filepath.Join(a.dir, "ca.pem"), KeyFile: key}, "private key does not match"},
		"a broken CA":   {Config{CertFile: cert, KeyFile: key, CAFile: key}, "holds no certificate"},
		"no CA":         {Config{CertFile: cert, KeyFile: key, VerifyIncoming: true}, "give ca_file"},
		"no directory":  {Config{CertFile: cert, KeyFile: key, CAPath: "/none"}, "/none"},
		"a suite":       {Config{CertFile: cert, KeyFile: key, CipherSuites: "TLS_RSA_WITH_RC4_128_SHA"}, "unknown or broken"},
	} {
		if _, err := Open(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := Suites("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"); err != nil {
		t.Error(err)
	}
}
