package docker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// selfSigned gives a certificate that is its own authority, and its key.
func selfSigned(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})
}

// New TLS material in DOCKER_CERT_PATH is in use after the next Info.
func TestTLSMaterialChanges(t *testing.T) {
	cert, key := selfSigned(t, "engine")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var peer atomic.Pointer[string]
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer.Store(&r.TLS.PeerCertificates[0].Subject.CommonName)
		w.Header().Set("Api-Version", "1.41")
		if strings.HasSuffix(r.URL.Path, "/info") {
			_, _ = w.Write([]byte(`{"ID":"E1"}`))
		}
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	defer s.Close()
	dir := t.TempDir()
	put := func(name string) {
		c, k := selfSigned(t, name)
		for file, b := range map[string][]byte{"ca.pem": cert, "cert.pem": c, "key.pem": k} {
			if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("first")
	t.Setenv("DOCKER_CERT_PATH", dir)
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	c, err := New(Options{Host: "tcp://" + s.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	as := func(want string) {
		t.Helper()
		if _, err := c.Info(t.Context()); err != nil || *peer.Load() != want {
			t.Errorf("Info: %v, the engine saw %q, want %q", err, *peer.Load(), want)
		}
	}
	as("first")
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half a certi"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Info(t.Context()); err == nil {
		t.Error("half a certificate was taken")
	}
	put("second, with a longer name")
	as("second, with a longer name")
}
