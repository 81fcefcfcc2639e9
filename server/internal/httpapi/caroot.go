package httpapi

import (
	"github.com/rollcall/rollcall/internal/api"

	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// caRoots is what clients that speak to a mesh wait for before they do anything else:
// Consul's list of root certificates, here always of one.
type caRoots struct {
	ActiveRootID, TrustDomain string
	Roots                     []caRoot
}

type caRoot struct {
	ID, Name                 string
	NotBefore, NotAfter      time.Time
	RootCert                 string // PEM
	IntermediateCerts        []string
	Active                   bool
	PrivateKeyType           string
	PrivateKeyBits           int
	CreateIndex, ModifyIndex uint64
}

// rootName says in the certificate itself what it is good for.
const rootName = "Rollcall root that signs nothing"

// newRoots makes the agent's root. There is no mesh and nothing is ever signed: the key is
// dropped here, once it has signed its own certificate.
func newRoots(trustDomain string, now time.Time) (*caRoots, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: rootName},
		NotBefore: now.Truncate(time.Second).UTC(), NotAfter: now.Truncate(time.Second).UTC().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	id := fingerprint(der)
	return &caRoots{ActiveRootID: id, TrustDomain: trustDomain, Roots: []caRoot{{
		ID: id, Name: rootName, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		RootCert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Active:   true, PrivateKeyType: "ec", PrivateKeyBits: 256, CreateIndex: 1, ModifyIndex: 1,
	}}}, nil
}

// fingerprint is a certificate's name, as Consul gives it: SHA-1, in pairs of digits.
func fingerprint(der []byte) string {
	var b strings.Builder
	for i, c := range sha1.Sum(der) {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02x", c)
	}
	return b.String()
}

// caRootsList answers with the root where connect { enabled = true } asks for it.
func caRootsList(_ context.Context, r *request) (*reply, error) {
	if r.server.cfg.TrustDomain == "" {
		return nil, api.Errorf(api.Internal, "Connect must be enabled in order to use this endpoint")
	}
	list, err := r.server.roots()
	if err != nil {
		return nil, fmt.Errorf("make a root certificate: %w", err)
	}
	return &reply{value: list, header: http.Header{
		"X-Consul-Index": {"1"}, "X-Consul-Knownleader": {"true"}, "X-Consul-Lastcontact": {"0"},
	}}, nil
}
