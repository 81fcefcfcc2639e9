package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/reconcile"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// faults collects what is wrong with a command line, so that all of it is told at once.
type faults []error

func (f *faults) bad(flag string, err error) {
	if err != nil {
		*f = append(*f, fmt.Errorf("-%s: %w", flag, err))
	}
}

func (f *faults) oneOf(flag, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		f.bad(flag, fmt.Errorf("%q is not one of %s", value, strings.Join(allowed, ", ")))
	}
}

// duration reads a time in which a bare number means units; an empty text changes nothing.
func (f *faults) duration(flag, text string, unit time.Duration, into *time.Duration) {
	if text == "" {
		return
	}
	d, err := duration(text, unit)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", text)
	}
	f.bad(flag, err)
	*into = d
}

// understand makes the configuration of what was written, or tells all faults.
func (v *values) understand() error {
	var f faults
	v.containers(&f)
	v.addresses(&f)
	v.healthchecks(&f)
	v.leaving(&f)
	v.catalog(&f)
	v.running(&f)
	return errors.Join(f...)
}

// containers is which containers are registered, under which names.
func (v *values) containers(f *faults) {
	m := &v.Mapping
	var err error
	if v.tags != "" {
		m.Tags, err = mapping.ParseTags(v.tags)
		f.bad("tags", err)
	}
	m.Filter, err = mapping.ParseFilter(v.filters)
	f.bad("filter", err)
	if m.Prefix == "" {
		f.bad("label-prefix", errors.New("it must not be empty"))
	}
	f.oneOf("name-suffix", m.Suffix, mapping.SuffixAuto, mapping.SuffixNever, mapping.SuffixAlways)
	m.Meta = map[string]string{}
	for _, kv := range v.meta {
		k, val, ok := strings.Cut(kv, "=")
		if why := mapping.ValidMeta(k, val); !ok {
			f.bad("meta", fmt.Errorf("%q: use key=value", kv))
		} else if why != "" {
			f.bad("meta", fmt.Errorf("%q: %s", kv, why))
		}
		m.Meta[k] = val
	}
	if len(m.Meta) > 32 {
		f.bad("meta", errors.New("there are more than 32"))
	}
}

// addresses is where services are reached.
func (v *values) addresses(f *faults) {
	m := &v.Mapping
	switch {
	case v.internal && v.address != "" && v.address != mapping.AddressContainer:
		f.bad("internal", fmt.Errorf("it contradicts -address=%s", v.address))
	case v.internal:
		m.Address = mapping.AddressContainer
	case v.address != "":
		f.oneOf("address", v.address, mapping.AddressPublished, mapping.AddressContainer, mapping.AddressHost, mapping.AddressAuto)
		m.Address = v.address
	}
	f.oneOf("family", m.Family, mapping.FamilyIPv4, mapping.FamilyIPv6, mapping.FamilyDual)
	for _, n := range strings.Split(v.networks, ",") {
		if n = strings.TrimSpace(n); n != "" {
			m.Networks = append(m.Networks, n)
		}
	}
	var err error
	m.IP, m.IP6, err = resolveIPs(m.IP)
	f.bad("ip", err)
}

// healthchecks is what becomes of HEALTHCHECKs.
func (v *values) healthchecks(f *faults) {
	m := &v.Mapping
	f.oneOf("health", v.health, "docker", "off")
	m.Health = v.health == "docker"
	f.oneOf("health-starting", m.HealthStarting, "critical", "warning")
	if m.HealthTTL < 10*time.Second {
		f.bad("health-ttl", errors.New("it must be 10s or more"))
	}
	m.DeregisterAfter = v.healthDeregister
}

// leaving is what happens when containers, the engine or the registrator go.
func (v *values) leaving(f *faults) {
	r := &v.Reconcile
	f.oneOf("deregister", v.deregister, "always", "on-success")
	f.oneOf("on-exit", v.onExit, "", reconcile.ExitDeregister, reconcile.ExitCritical, reconcile.ExitKeep)
	switch failed := v.deregister == "on-success"; {
	case v.onExit == reconcile.ExitDeregister && failed:
		f.bad("on-exit", errors.New("deregister contradicts -deregister=on-success"))
	case failed:
		v.Exits, r.OnExit = watcher.ExitsFailed, cmp.Or(v.onExit, reconcile.ExitKeep)
	case v.onExit == reconcile.ExitCritical, v.onExit == reconcile.ExitKeep:
		v.Exits, r.OnExit = watcher.ExitsAll, v.onExit
	}
	if r.Drain = v.drain; r.Drain == "" {
		r.Drain = reconcile.DrainDeregister
		if v.Exits == watcher.ExitsAll { // what shall stay visible after the end must not go before it
			r.Drain = reconcile.DrainMaintenance
		}
	}
	f.oneOf("drain", r.Drain, reconcile.DrainDeregister, reconcile.DrainMaintenance, reconcile.DrainOff)
	if v.DrainMax <= 0 {
		f.bad("drain-max", errors.New("it must be more than 0"))
	}
	if v.DockerLost < 0 {
		f.bad("docker-lost-after", errors.New("it must not be negative"))
	}
	f.oneOf("on-shutdown", r.OnShutdown, reconcile.ShutdownKeep, reconcile.ShutdownMaintenance, reconcile.ShutdownDeregister)
}

// catalog is how the catalog is kept right.
func (v *values) catalog(f *faults) {
	r := &v.Reconcile
	var ttl, refresh time.Duration
	f.duration("resync", v.resync, time.Second, &v.Resync)
	f.duration("ttl", v.ttl, time.Second, &ttl)
	f.duration("ttl-refresh", v.ttlEvery, time.Second, &refresh)
	f.duration("retry-interval", v.retryInterval, time.Millisecond, &v.RetryInterval)
	if (ttl == 0) != (refresh == 0) || (ttl > 0 && ttl <= refresh) {
		f.bad("ttl", errors.New("-ttl and -ttl-refresh are set together, and -ttl is the longer one"))
	}
	if v.RetryInterval == 0 {
		f.bad("retry-interval", errors.New("it must be more than 0"))
	}
	if v.RetryAttempts < -1 {
		f.bad("retry-attempts", errors.New("use a number of attempts, or -1 for ever"))
	}
	f.oneOf("adopt", r.Adopt, reconcile.AdoptUnowned, reconcile.AdoptNone, reconcile.AdoptAll)
	if strings.HasPrefix(v.Lock, "/") || strings.HasSuffix(v.Lock, "/") {
		f.bad("lock", fmt.Errorf("%q: a key begins and ends without a slash, such as registrator/web1", v.Lock))
	}
	r.Resync = v.Resync
}

// running is what concerns the process.
func (v *values) running(f *faults) {
	f.oneOf("log-format", v.logFormat, "text", "json")
	v.LogJSON = v.logFormat == "json"
	if _, err := daemon.Level(v.LogLevel); err != nil {
		f.bad("log-level", err)
	}
	if v.Docker != "" && !strings.Contains(v.Docker, "://") {
		f.bad("docker", fmt.Errorf("%q: use unix:///path/to/docker.sock or tcp://host:port", v.Docker))
	}
	if v.Listen == "off" {
		v.Listen = ""
	}
	if v.Listen != "" {
		_, _, err := net.SplitHostPort(v.Listen)
		f.bad("listen", err)
	}
}
