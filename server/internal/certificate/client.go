package certificate

import (
	"crypto/tls"
	"fmt"
)

// Client reads the files of cfg into what this agent uses when it calls others: it shows
// its certificate, if it has one, and trusts the authorities, the system's where none are
// named.
func Client(cfg Config) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.MinVersion == "TLSv1_3" {
		t.MinVersion = tls.VersionTLS13
	}
	var err error
	if t.CipherSuites, err = Suites(cfg.CipherSuites); err != nil {
		return nil, err
	}
	if t.RootCAs, err = Authorities(cfg.CAFile, cfg.CAPath); err != nil {
		return nil, err
	}
	if cfg.CertFile == "" {
		return t, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cfg.CertFile, cfg.KeyFile, err)
	}
	t.Certificates = []tls.Certificate{cert}
	return t, nil
}
