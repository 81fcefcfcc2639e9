// Package config is what the registrator is told: flags, environment, and the address of
// the catalog. It keeps gliderlabs/registrator's flags and meanings, adds ours, and
// refuses what it does not understand with one line that says what to write instead. It
// reads the environment, resolves -ip, and does nothing else; main calls it once.
package config

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/reconcile"
)

// Config is everything that can be set.
type Config struct {
	URI string // of the catalog, the one argument

	Docker string // where the engine is; see internal/docker
	Host   string // first part of service ids; the engine's host name when empty
	Owner  string // marker of our entries; the engine's id when empty

	Mapping   mapping.Config
	Reconcile reconcile.Config
	Resync    time.Duration // 30s; 0: never
	DrainMax  time.Duration // 10m

	OnSuccessOnly bool // -deregister=on-success: entries of failed containers stay
	RetryAttempts int  // at the start only; -1: for ever
	RetryInterval time.Duration

	Listen    string // of the status pages; empty: none
	ListenSet bool   // somebody chose it
	LogJSON   bool
	LogLevel  string
	DryRun    bool
	Once      bool
	Version   bool
	Help      bool
}

// values are flags as they are written, before they are understood.
type values struct {
	Config
	internal              bool
	resync, ttl, ttlEvery string
	retryInterval         string
	deregister            string
	tags, address         string
	networks              string
	meta, filters         list
	health                string
	healthDeregister      time.Duration
	logFormat             string
}

// Default is the configuration of an empty command line.
func Default() Config { return defaults().Config }

func defaults() *values {
	v := &values{}
	v.Resync, v.DrainMax, v.RetryAttempts, v.RetryInterval = 30*time.Second, 10*time.Minute, -1, 2*time.Second
	v.Listen, v.LogLevel = "127.0.0.1:9107", "info"
	v.Mapping = mapping.Config{
		Prefix: "SERVICE_", Address: mapping.AddressPublished, Family: mapping.FamilyIPv4, Suffix: mapping.SuffixAuto,
		Health: true, HealthStarting: "critical", HealthTTL: 15 * time.Minute, DeregisterAfter: 72 * time.Hour,
	}
	v.Reconcile = reconcile.Config{Drain: reconcile.DrainDeregister, Adopt: reconcile.AdoptUnowned, OnShutdown: reconcile.ShutdownKeep}
	v.healthDeregister = v.Mapping.DeregisterAfter
	return v
}

// Parse reads arguments (without the program's name) and the environment.
func Parse(args, environ []string) (*Config, error) {
	v := defaults()
	fs := v.flags()
	rest, err := parse(fs, args, environ)
	if errors.Is(err, flag.ErrHelp) {
		v.Help, err = true, nil
	}
	if err != nil {
		return nil, err
	}
	if v.Help || v.Version {
		return &v.Config, nil
	}
	fs.Visit(func(f *flag.Flag) { v.ListenSet = v.ListenSet || f.Name == "listen" })
	switch len(rest) {
	case 1:
		v.URI = rest[0]
	case 0:
		return nil, errors.New("the catalog's address is missing: registrator [flags] consul://127.0.0.1:8500 (registrator -h explains)")
	default:
		return nil, fmt.Errorf("one catalog address is needed, there are %d: %s", len(rest), strings.Join(rest, " "))
	}
	if _, err := Catalog(v.URI); err != nil {
		return nil, err
	}
	if err := v.understand(); err != nil {
		return nil, err
	}
	return &v.Config, nil
}

// understand makes the configuration of what was written, or tells all faults.
func (v *values) understand() error {
	var faults []error
	bad := func(flag string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("-%s: %w", flag, err))
		}
	}
	oneOf := func(flag, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			bad(flag, fmt.Errorf("%q is not one of %s", value, strings.Join(allowed, ", ")))
		}
	}
	seconds := func(flag, text string, unit time.Duration, into *time.Duration) {
		if text == "" {
			return
		}
		d, err := duration(text, unit)
		if err == nil && d < 0 {
			err = fmt.Errorf("%q is negative", text)
		}
		bad(flag, err)
		*into = d
	}
	m, r := &v.Mapping, &v.Reconcile
	var ttl, refresh time.Duration
	seconds("resync", v.resync, time.Second, &v.Resync)
	seconds("ttl", v.ttl, time.Second, &ttl)
	seconds("ttl-refresh", v.ttlEvery, time.Second, &refresh)
	seconds("retry-interval", v.retryInterval, time.Millisecond, &v.RetryInterval)
	if (ttl == 0) != (refresh == 0) || (ttl > 0 && ttl <= refresh) {
		bad("ttl", errors.New("-ttl and -ttl-refresh are set together, and -ttl is the longer one"))
	}
	if v.RetryInterval == 0 {
		bad("retry-interval", errors.New("it must be more than 0"))
	}
	if v.RetryAttempts < -1 {
		bad("retry-attempts", errors.New("use a number of attempts, or -1 for ever"))
	}
	oneOf("deregister", v.deregister, "always", "on-success")
	v.OnSuccessOnly = v.deregister == "on-success"
	if v.internal && v.address != "" && v.address != mapping.AddressContainer {
		bad("internal", fmt.Errorf("it contradicts -address=%s", v.address))
	} else if v.internal {
		m.Address = mapping.AddressContainer
	} else if v.address != "" {
		oneOf("address", v.address, mapping.AddressPublished, mapping.AddressContainer, mapping.AddressHost, mapping.AddressAuto)
		m.Address = v.address
	}
	oneOf("family", m.Family, mapping.FamilyIPv4, mapping.FamilyIPv6, mapping.FamilyDual)
	oneOf("name-suffix", m.Suffix, mapping.SuffixAuto, mapping.SuffixNever, mapping.SuffixAlways)
	oneOf("health", v.health, "docker", "off")
	m.Health = v.health == "docker"
	oneOf("health-starting", m.HealthStarting, "critical", "warning")
	if m.HealthTTL < 10*time.Second {
		bad("health-ttl", errors.New("it must be 10s or more"))
	}
	m.DeregisterAfter = v.healthDeregister
	oneOf("drain", r.Drain, reconcile.DrainDeregister, reconcile.DrainMaintenance, reconcile.DrainOff)
	if v.DrainMax <= 0 {
		bad("drain-max", errors.New("it must be more than 0"))
	}
	oneOf("adopt", r.Adopt, reconcile.AdoptUnowned, reconcile.AdoptNone, reconcile.AdoptAll)
	oneOf("on-shutdown", r.OnShutdown, reconcile.ShutdownKeep, reconcile.ShutdownMaintenance, reconcile.ShutdownDeregister)
	oneOf("log-format", v.logFormat, "text", "json")
	v.LogJSON = v.logFormat == "json"
	if _, err := daemon.Level(v.LogLevel); err != nil {
		bad("log-level", err)
	}
	if v.Listen == "off" {
		v.Listen = ""
	}
	if v.Listen != "" {
		_, _, err := net.SplitHostPort(v.Listen)
		bad("listen", err)
	}
	if m.Prefix == "" {
		bad("label-prefix", errors.New("it must not be empty"))
	}
	for _, n := range strings.Split(v.networks, ",") {
		if n = strings.TrimSpace(n); n != "" {
			m.Networks = append(m.Networks, n)
		}
	}
	var err error
	if m.IP, err = resolveIP(m.IP); err != nil {
		bad("ip", err)
	}
	if v.tags != "" {
		m.Tags, err = mapping.ParseTags(v.tags)
		bad("tags", err)
	}
	m.Filter, err = mapping.ParseFilter(v.filters)
	bad("filter", err)
	m.Meta = map[string]string{}
	for _, kv := range v.meta {
		k, val, ok := strings.Cut(kv, "=")
		if why := mapping.ValidMeta(k, val); !ok {
			bad("meta", fmt.Errorf("%q: use key=value", kv))
		} else if why != "" {
			bad("meta", fmt.Errorf("%q: %s", kv, why))
		}
		m.Meta[k] = val
	}
	if len(m.Meta) > 32 {
		bad("meta", errors.New("there are more than 32"))
	}
	r.Resync = v.Resync
	return errors.Join(faults...)
}

// resolveIP reads an address, the name of a network interface, or a network in CIDR form
// of which this host has an address.
func resolveIP(v string) (string, error) {
	if v == "" {
		return "", nil
	}
	if ip, err := netip.ParseAddr(v); err == nil {
		return ip.String(), nil
	}
	if nic, err := net.InterfaceByName(v); err == nil {
		addrs, err := nic.Addrs()
		if err != nil {
			return "", err
		}
		return firstIP(addrs, func(netip.Addr) bool { return true }, v)
	}
	p, err := netip.ParsePrefix(v)
	if err != nil {
		return "", fmt.Errorf("%q is no address, no network interface of this host and no network such as 10.0.0.0/8", v)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	return firstIP(addrs, p.Contains, v)
}

// firstIP gives the first usable address, IPv4 before IPv6.
func firstIP(addrs []net.Addr, fits func(netip.Addr) bool, what string) (string, error) {
	best := ""
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() || !fits(p.Addr()) {
			continue
		}
		if p.Addr().Is4() {
			return p.Addr().String(), nil
		}
		if best == "" {
			best = p.Addr().String()
		}
	}
	if best == "" {
		return "", fmt.Errorf("this host has no address on %s", what)
	}
	return best, nil
}
