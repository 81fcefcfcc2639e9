package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Marks are fingerprints of what the servers of a datacenter should have alike, each by
// what it is about. They are short, for gossip, and made of nothing secret, nor of what
// each server has of its own.
func (c *Config) Marks() map[string]string {
	acl := c.ACL
	acl.Tokens = Tokens{}
	tls := func(k Certificate) []any {
		return []any{k.MinVersion, k.CipherSuites, k.VerifyIncoming, k.VerifyOutgoing, k.VerifyHostname}
	}
	out := map[string]string{}
	for name, settings := range map[string]any{
		"acl":    acl,
		"dns":    []any{c.Domain, c.AltDomain, c.DNS, c.Recursors},
		"limits": []any{c.Limits, c.DefaultQueryTime, c.MaxQueryTime, c.SessionTTLMin},
		"raft":   []any{c.RaftProtocol, c.Performance, c.SnapshotThreshold, c.SnapshotInterval, c.TrailingLogs},
		"gossip": []any{c.GossipLAN, c.GossipWAN, c.ReconnectTimeout, c.ReconnectWAN, c.EncryptIncoming, c.EncryptOutgoing, c.Encrypt != ""},
		"tls":    []any{tls(c.TLS.InternalRPC), tls(c.TLS.HTTPS)},
	} {
		b, err := json.Marshal(settings)
		if err != nil {
			panic(err) // numbers, text and lists of them
		}
		sum := sha256.Sum256(b)
		out[name] = hex.EncodeToString(sum[:2])
	}
	return out
}
