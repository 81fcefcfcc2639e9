package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Pair is a certificate and its key, each as PEM.
type Pair struct{ Cert, Key []byte }

// CA describes an authority to make.
type CA struct {
	Domain     string        // names it, and with Constrain bounds it; "consul"
	Valid      time.Duration // from now
	Constrain  bool          // only names below Domain, localhost and Additional
	Additional []string
	CommonName string // "" is one with a number
}

// NewCA makes an authority.
func NewCA(ca CA) (*Pair, error) {
	key, serial, err := fresh()
	if err != nil {
		return nil, err
	}
	name := ca.CommonName
	if name == "" {
		name = fmt.Sprintf("Consul Agent CA %s", serial)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Rollcall"}},
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(ca.Valid),
	}
	if ca.Constrain {
		template.PermittedDNSDomainsCritical = true
		template.PermittedDNSDomains = append([]string{ca.Domain, "localhost"}, ca.Additional...)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return encode(der, key)
}

// Leaf describes a certificate that an authority signs.
type Leaf struct {
	CommonName     string
	DNS            []string
	IPs            []net.IP
	Valid          time.Duration // from now
	Server, Client bool          // what it may be used for
}

// Issue makes a certificate signed by ca.
func (ca *Pair) Issue(l Leaf) (*Pair, error) {
	signer, err := tls.X509KeyPair(ca.Cert, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("the CA's certificate and key: %w", err)
	}
	parent, err := x509.ParseCertificate(signer.Certificate[0])
	if err != nil {
		return nil, err
	}
	if !parent.IsCA {
		return nil, errors.New("the CA's certificate is none of an authority")
	}
	key, serial, err := fresh()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: l.CommonName}, DNSNames: l.DNS, IPAddresses: l.IPs,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(l.Valid),
	}
	if l.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if l.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer.PrivateKey)
	if err != nil {
		return nil, err
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(parent)
	if _, err := made.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("the CA may not sign this: %w", err)
	}
	return encode(der, key)
}

func fresh() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return key, serial, err
}

func encode(der []byte, key *ecdsa.PrivateKey) (*Pair, error) {
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	var cert, secret bytes.Buffer
	if err := pem.Encode(&cert, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return nil, err
	}
	if err := pem.Encode(&secret, &pem.Block{Type: "EC PRIVATE KEY", Bytes: private}); err != nil {
		return nil, err
	}
	return &Pair{cert.Bytes(), secret.Bytes()}, nil
}
