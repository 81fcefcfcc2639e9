package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/rollcall/rollcall/server/internal/seed"
)

// settle fills what depends on other fields, and folds old keys into new ones. What it
// had to change comes back as warnings.
func (c *Config) settle() (warnings []string) {
	if c.NodeName == "" {
		c.NodeName, _ = os.Hostname() // an empty name is refused by Validate
	}
	c.Crypt.settle()
	c.Access.settle(c)
	c.Operation.settle()
	c.Datacenter, c.PrimaryDC = strings.ToLower(c.Datacenter), strings.ToLower(c.PrimaryDC)
	first(&c.PrimaryDC, c.Datacenter)
	c.Domain = strings.TrimSuffix(strings.ToLower(c.Domain), ".") + "."
	if c.AltDomain != "" {
		c.AltDomain = strings.TrimSuffix(strings.ToLower(c.AltDomain), ".") + "."
	}
	c.UI = c.UI || c.UIConfig.Enabled || c.UIDir != "" || c.UIConfig.Dir != ""
	first(&c.UIConfig.ContentPath, c.UIContentPath)
	if c.BootstrapExpect == 1 {
		c.Bootstrap, c.BootstrapExpect = true, 0
	}
	if len(c.LegacyHeaders) > 0 {
		headers := maps.Clone(c.LegacyHeaders)
		maps.Copy(headers, c.HTTP.ResponseHeaders)
		c.HTTP.ResponseHeaders = headers
	}
	c.Limits.Requests.Mode = strings.ToLower(c.Limits.Requests.Mode)
	first(&c.AdvertiseAddr, c.AdvertiseIPv4)
	first(&c.AdvertiseAddr, c.AdvertiseIPv6)
	first(&c.AdvertiseWAN, c.AdvertiseWANIPv4)
	first(&c.AdvertiseWAN, c.AdvertiseWANIPv6)
	defaultTo(&c.LeaveOnTerm, !c.Server)
	defaultTo(&c.SkipLeaveOnInt, c.Server)
	defaultTo(&c.DNS.AllowStale, true)
	defaultTo(&c.DNS.NodeMetaTXT, true)
	defaultTo(&c.HTTP.UseCache, true)
	defaultTo(&c.Autopilot.CleanupDeadServers, true)
	defaultTo(&c.DisableHostID, true)
	defaultTo(&c.NoRemoteExec, true)
	defaultTo(&c.UpdateInterval, 5*time.Minute)
	defaultTo(&c.Limits.MaxConnsPerClient, 200)
	defaultTo(&c.Limits.RPCMaxConns, 100)
	for key, d := range map[string]*time.Duration{"reconnect_timeout": &c.ReconnectTimeout, "reconnect_timeout_wan": &c.ReconnectWAN} {
		if *d < minReconnect {
			warnings = append(warnings, fmt.Sprintf("%s = %s is raised to %s: a host that is gone for a night must find its services again", key, *d, minReconnect))
			*d = minReconnect
		}
	}
	if c.SessionTTLMin < 10*time.Second {
		warnings = append(warnings, fmt.Sprintf("session_ttl_min = %s is below 10s: a short silence of the leader ends sessions that live", c.SessionTTLMin))
	}
	for _, join := range [][]string{c.RetryJoin, c.RetryJoinWAN} {
		for _, addr := range join {
			if err := seed.Check(addr); errors.Is(err, seed.ErrCloud) {
				warnings = append(warnings, fmt.Sprintf("retry_join %q: %v", addr, err))
			}
		}
	}
	if c.Connect.Enabled {
		warnings = append(warnings, "connect: the service mesh is left out; all it does here is to show a root certificate on /v1/connect/ca/roots")
	}
	if c.UIDir != "" || c.UIConfig.Dir != "" {
		warnings = append(warnings, "ui_dir has no meaning here: the UI is built in")
	}
	if c.Ports.HTTPS > 0 && c.TLS.HTTPS.CertFile == "" { // Consul listens and then refuses everybody
		warnings = append(warnings, "ports.https is off without a certificate: give tls.https.cert_file and tls.https.key_file (or tls.defaults)")
		c.Ports.HTTPS = -1
	}
	return warnings
}

// minReconnect is the shortest time after which a failed member may be forgotten.
const minReconnect = 8 * time.Hour

// defaultTo sets *p to a pointer to v where it is nil.
func defaultTo[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

// first sets *p to v where it is not set yet.
func first[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// instead sets *p to v where it still has its default and v is set.
func instead[T comparable](p *T, def, v T) {
	var zero T
	if *p == def && v != zero {
		*p = v
	}
}
