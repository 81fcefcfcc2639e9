// Package certificate turns the files of one kind of traffic, certificate, key and
// authorities, into the TLS configuration of its listeners, and reads them again when told
// to, so that a renewed certificate is shown without a restart. Connections that are open
// keep what they began with. It opens no port and decides nothing about who may call.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Config names the files.
type Config struct {
	CertFile, KeyFile string // PEM; both or none
	CAFile, CAPath    string // PEM of the authorities: a file, a directory of files
	// MinVersion is TLSv1_2 (also if empty), TLSv1_3 or TLS_AUTO.
	MinVersion string
	// CipherSuites are names with commas between them, for TLS 1.2; empty is Go's choice.
	CipherSuites string
	// VerifyIncoming refuses clients without a certificate of the authorities.
	VerifyIncoming bool
}

// Keeper holds what was read last. Its methods may be called concurrently.
type Keeper struct {
	server atomic.Pointer[tls.Config]
}

// Open reads the files.
func Open(cfg Config) (*Keeper, error) {
	t, err := read(cfg)
	if err != nil {
		return nil, err
	}
	k := &Keeper{}
	k.server.Store(t)
	return k, nil
}

// Prepare reads the files of cfg, and gives what makes them the ones that are shown.
func (k *Keeper) Prepare(cfg Config) (use func(), err error) {
	t, err := read(cfg)
	if err != nil {
		return nil, err
	}
	return func() { k.server.Store(t) }, nil
}

func read(cfg Config) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cfg.CertFile, cfg.KeyFile, err)
	}
	t := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if cfg.MinVersion == "TLSv1_3" {
		t.MinVersion = tls.VersionTLS13
	}
	if t.CipherSuites, err = Suites(cfg.CipherSuites); err != nil {
		return nil, err
	}
	if t.ClientCAs, err = Authorities(cfg.CAFile, cfg.CAPath); err != nil {
		return nil, err
	}
	if cfg.VerifyIncoming {
		if t.ClientCAs == nil {
			return nil, errors.New("verify_incoming needs the authority to verify against: give ca_file or ca_path")
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}

// Server gives the configuration of a listener: each connection begins with what was
// read last.
func (k *Keeper) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.server.Load(), nil },
	}
}

// Authorities reads certificates to trust, of a file and of every file in a directory;
// nil if neither is named.
func Authorities(file, dir string) (*x509.CertPool, error) {
	var files []string
	if file != "" {
		files = append(files, file)
	}
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities: %s holds no certificate in PEM form", f)
		}
	}
	return pool, nil
}

// Suites reads names with commas between them; none is nil.
func Suites(names string) ([]uint16, error) {
	var out []uint16
	for name := range strings.SplitSeq(names, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		id := uint16(0)
		for _, s := range tls.CipherSuites() {
			if s.Name == name {
				id = s.ID
			}
		}
		if id == 0 {
			return nil, fmt.Errorf("tls_cipher_suites: %q is unknown or broken", name)
		}
		out = append(out, id)
	}
	return out, nil
}
