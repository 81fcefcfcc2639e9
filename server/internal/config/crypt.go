package config

import "strings"

// Crypt is how traffic is kept from others: the gossip key, and TLS.
type Crypt struct {
	Encrypt         string `config:"encrypt"`                 // base64 of 16, 24 or 32 bytes
	EncryptIncoming *bool  `config:"encrypt_verify_incoming"` // default true
	EncryptOutgoing *bool  `config:"encrypt_verify_outgoing"` // default true
	NoKeyringFile   bool   `config:"disable_keyring_file"`

	TLS        TLS    `config:"tls"`
	ServerName string `config:"server_name"` // what this agent's certificate is called, if not by the node's name

	// The flat keys of before 1.12; settle folds them into TLS.
	flatTLS
}

// TLS is the certificates of each kind of traffic. After Load, the others have taken what
// Defaults says and they do not.
type TLS struct {
	Defaults    Certificate `config:"defaults"`
	InternalRPC Certificate `config:"internal_rpc"`
	HTTPS       Certificate `config:"https"`
	GRPC        Certificate `config:"grpc"` // accepted: there is no gRPC door
}

// Certificate is what one kind of traffic shows and asks for.
type Certificate struct {
	CAFile         string `config:"ca_file"` // PEM of the authorities to trust
	CAPath         string `config:"ca_path"` // a directory of such files
	CertFile       string `config:"cert_file"`
	KeyFile        string `config:"key_file"`
	MinVersion     string `config:"tls_min_version"`   // TLSv1_2 (default) or TLSv1_3; older ones are refused
	CipherSuites   string `config:"tls_cipher_suites"` // names with commas between them, for TLS 1.2
	VerifyIncoming *bool  `config:"verify_incoming"`   // clients must show a certificate of the authority
	VerifyOutgoing *bool  `config:"verify_outgoing"`   // TLS to others, and their certificates are verified
	VerifyHostname *bool  `config:"verify_server_hostname"`
}

type flatTLS struct {
	CAFile              string `config:"ca_file"`
	CAPath              string `config:"ca_path"`
	CertFile            string `config:"cert_file"`
	KeyFile             string `config:"key_file"`
	VerifyIncoming      *bool  `config:"verify_incoming"`
	VerifyIncomingRPC   *bool  `config:"verify_incoming_rpc"`
	VerifyIncomingHTTPS *bool  `config:"verify_incoming_https"`
	VerifyOutgoing      *bool  `config:"verify_outgoing"`
	VerifyHostname      *bool  `config:"verify_server_hostname"`
	MinVersion          string `config:"tls_min_version"`
	CipherSuites        string `config:"tls_cipher_suites"`
}

// settle folds the flat keys in, and hands the defaults down.
func (c *Crypt) settle() {
	d, f := &c.TLS.Defaults, &c.flatTLS
	first(&d.CAFile, f.CAFile)
	first(&d.CAPath, f.CAPath)
	first(&d.CertFile, f.CertFile)
	first(&d.KeyFile, f.KeyFile)
	first(&d.MinVersion, f.MinVersion)
	first(&d.CipherSuites, f.CipherSuites)
	first(&d.VerifyIncoming, f.VerifyIncoming)
	first(&d.VerifyOutgoing, f.VerifyOutgoing)
	first(&c.TLS.InternalRPC.VerifyIncoming, f.VerifyIncomingRPC)
	first(&c.TLS.HTTPS.VerifyIncoming, f.VerifyIncomingHTTPS)
	first(&c.TLS.InternalRPC.VerifyHostname, f.VerifyHostname)
	for _, t := range []*Certificate{&c.TLS.InternalRPC, &c.TLS.HTTPS, &c.TLS.GRPC} {
		first(&t.CAFile, d.CAFile)
		first(&t.CAPath, d.CAPath)
		first(&t.CertFile, d.CertFile)
		first(&t.KeyFile, d.KeyFile)
		first(&t.MinVersion, d.MinVersion)
		first(&t.CipherSuites, d.CipherSuites)
		first(&t.VerifyIncoming, d.VerifyIncoming)
		first(&t.VerifyOutgoing, d.VerifyOutgoing)
		first(&t.VerifyHostname, d.VerifyHostname)
		t.MinVersion = tlsVersion(t.MinVersion)
		defaultTo(&t.VerifyIncoming, false)
		defaultTo(&t.VerifyOutgoing, false)
		defaultTo(&t.VerifyHostname, false)
	}
	if *c.TLS.InternalRPC.VerifyHostname { // as Consul has it: the name means nothing without the rest
		*c.TLS.InternalRPC.VerifyOutgoing = true
	}
	defaultTo(&c.EncryptIncoming, true)
	defaultTo(&c.EncryptOutgoing, true)
}

// tlsVersion gives a version in its present spelling; before 1.12 it was "tls12".
func tlsVersion(s string) string {
	switch strings.ToLower(s) {
	case "":
		return "TLSv1_2"
	case "tls10", "tls11", "tls12", "tls13":
		return "TLSv1_" + s[4:]
	}
	return s
}

func (t *Certificate) faults(key string, fault func(bool, string, ...any)) {
	fault(t.MinVersion == "TLSv1_0" || t.MinVersion == "TLSv1_1", "%s.tls_min_version %q: broken versions are not spoken; give TLSv1_2 or TLSv1_3", key, t.MinVersion)
	switch t.MinVersion {
	case "TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3", "TLS_AUTO":
	default:
		fault(true, "%s.tls_min_version %q: give TLSv1_2 or TLSv1_3", key, t.MinVersion)
	}
	fault((t.CertFile == "") != (t.KeyFile == ""), "%s: cert_file and key_file go together: give both", key)
	fault(*t.VerifyIncoming && t.CAFile == "" && t.CAPath == "", "%s.verify_incoming needs the authority to verify against: give ca_file or ca_path", key)
	fault(*t.VerifyOutgoing && t.CAFile == "" && t.CAPath == "", "%s.verify_outgoing needs the authority to verify against: give ca_file or ca_path", key)
}
