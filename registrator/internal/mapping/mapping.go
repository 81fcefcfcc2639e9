// Package mapping says which services a container shall have in the catalog, and why.
// It is pure: the same container and the same configuration give the same verdict. It
// keeps gliderlabs/registrator's names, ids and labels; docs/registrator.md lists where
// it differs. No shape of container and no label can make it fail: a bad value is a
// warning and the default, never a lost service. The reconcile room calls it.
package mapping

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/docker"
)

// Config is how containers are read. It is not changed after first use.
type Config struct {
	Host           string            // first part of service ids
	Owner          string            // marker of what is ours
	Prefix         string            // of labels and environment variables: SERVICE_
	Explicit       bool              // only containers with a name of their own
	EnvWins        bool              // environment beats labels, not the reverse
	Address        string            // AddressPublished, …
	IP             string            // the host's address for others; beats every binding
	IP6            string            // the same for IPv6, where IP is IPv4
	HostAddress    string            // the same where IP is empty and a port is bound to all addresses
	UseIPFromLabel string            // name of a label that holds the address
	Networks       []string          // globs, in order of preference, for container addresses
	Family         string            // FamilyIPv4, …
	Suffix         string            // SuffixAuto, …
	Tags           *Tags             // added to every service; may be nil
	Meta           map[string]string // added to every service
	Filter         Filter

	Health          bool          // HEALTHCHECK becomes a check
	HealthStarting  string        // its status while starting: critical or warning
	HealthTTL       time.Duration // dead-man's time of that check
	DeregisterAfter time.Duration // how long critical until the agent removes the service; 0: never
}

// Where addresses come from.
const (
	AddressPublished = "published" // the host's side of published ports
	AddressContainer = "container" // the container's own address and port
	AddressHost      = "host"      // the host's address, published or not
	AddressAuto      = "auto"      // published where it is, else the container's
)

// Which family of addresses is preferred; the other is taken where it is the only one.
const (
	FamilyIPv4 = "4"
	FamilyIPv6 = "6"
	FamilyDual = "dual" // IPv4 first, both as tagged addresses
)

// When the port is appended to a service's name.
const (
	SuffixAuto   = "auto"   // as gliderlabs does: more than one port, and no name for that port
	SuffixNever  = "never"  //
	SuffixAlways = "always" // unless the port has a name of its own
)

// Keys of the metadata that marks our services.
const (
	MetaOwner     = "registrator-owner"
	MetaContainer = "registrator-container" // short id
	MetaImage     = "registrator-image"     // as the user named it
	MetaHash      = "registrator-hash"      // fingerprint of everything else in the registration
)

// Verdict is what a container shall have and why.
type Verdict struct {
	Services []*Service
	Reasons  []string // why there is nothing, or not more, or less than one may think
	Warnings []string // values that could not be used
}

// Service is one service as it shall be registered.
type Service struct {
	consul.AgentServiceRegistration        // complete, marker and fingerprint included
	Hash                            string // its fingerprint
	Container                       string // full id
	Token                           string // of its own, or empty
	Health                          *Health
	Drain                           string // how it is taken out before it stops; empty: as configured
	Maintenance                     string // why it takes no traffic at present; empty: it does
	DefaultID                       string // what the id is without SERVICE_ID
}

// Health is the state of the check that stands for the container's HEALTHCHECK.
type Health struct {
	CheckID string
	Status  string
	Output  string
}

// Lookup finds another running container by id or name, for containers that share its
// network. It gives nil when there is none.
type Lookup func(ref string) *docker.Container

// Map gives the verdict on a running container.
func Map(cfg *Config, c *docker.Container, lookup Lookup) Verdict {
	m := &mapper{cfg: cfg, c: c, lookup: lookup, all: metadata(cfg, c)}
	if ok, why := cfg.Filter.Match(c); !ok {
		m.because("filter: %s", why)
		return m.Verdict
	}
	m.Warnings = append(m.Warnings, contradictions(cfg, c)...)
	general := m.all.general()
	if v, ok := general["register"]; ok && !truth(v) {
		m.because("%sREGISTER=%s", cfg.Prefix, v)
		return m.Verdict
	}
	ports := m.candidates()
	if len(ports) == 0 {
		m.portless(general)
	}
	taken := map[string]bool{}
	for _, p := range m.further(ports) {
		if s := m.service(p, len(ports) > 1); s != nil {
			if was := s.ID; taken[was] {
				s.ID = s.DefaultID
				for n := 2; taken[s.ID]; n++ { // another port was given our default by SERVICE_ID
					s.ID = fmt.Sprintf("%s:%d", s.DefaultID, n)
				}
				m.warn("id %q is taken by another port; using %q", was, s.ID)
				m.checks(s, p)
			}
			taken[s.ID] = true
			m.seal(s)
			m.Services = append(m.Services, s)
		}
	}
	return m.Verdict
}

type mapper struct {
	Verdict
	cfg    *Config
	c      *docker.Container
	lookup Lookup
	all    labels
}

// because notes a reason, once.
func (m *mapper) because(format string, args ...any) {
	if why := fmt.Sprintf(format, args...); !slices.Contains(m.Reasons, why) {
		m.Reasons = append(m.Reasons, why)
	}
}

func (m *mapper) warn(format string, args ...any) {
	m.Warnings = append(m.Warnings, fmt.Sprintf(format, args...))
}

// candidate is a port that may become a service.
type candidate struct {
	docker.Port
	keys     map[string]string
	fromPort map[string]bool // keys that were given for this very port
	side     side
	index    int // of a further service on the port
}

// further adds to each port the further services that were asked for on it. Each needs a
// name of its own.
func (m *mapper) further(ports []candidate) []candidate {
	var out []candidate
	for _, p := range ports {
		out = append(out, p)
		for _, n := range m.all.indices(p.Port) {
			c := p
			c.index = n
			if c.keys, c.fromPort = m.all.port(p.Port, n); c.keys["name"] == "" {
				m.warn("further service %d on port %s has no name: set %s%d_%d_NAME", n, p.Port, m.cfg.Prefix, p.Number, n)
				continue
			}
			var why string
			if c.side, why = m.reach(p.Port, m.mode(c.keys), c.keys); why != "" {
				m.because("port %s, service %d: %s", p.Port, n, why)
				continue
			}
			out = append(out, c)
		}
	}
	return out
}

// portless makes the one service of a container without ports that asked for it.
func (m *mapper) portless(general map[string]string) {
	text, given := general["port"]
	if !given && !truth(general["register"]) {
		return // candidates has said why there is none
	}
	n, err := strconv.ParseUint(cmp.Or(text, "0"), 10, 16)
	if err != nil {
		m.warn("%sPORT=%q is no port; using 0", m.cfg.Prefix, text)
	}
	side, why := m.bare(general)
	if why != "" {
		m.because("%s", why)
		return
	}
	p := candidate{Port: docker.Port{Number: uint16(n), Proto: "tcp"}, keys: general, side: side}
	p.side.port = int(n)
	if s := m.service(p, false); s != nil {
		m.Reasons = nil
		m.seal(s)
		m.Services = append(m.Services, s)
	}
}

// service makes the service of one port, or says why not.
func (m *mapper) service(p candidate, group bool) *Service {
	keys, port := p.keys, strconv.Itoa(int(p.Number))
	if v := keys["ignore"]; v != "" {
		if truth(v) {
			m.because("port %s: %sIGNORE", p.Port, m.cfg.Prefix)
			return nil
		}
		m.warn("%sIGNORE=%s means do not ignore (gliderlabs/registrator would ignore)", m.cfg.Prefix, v)
	}
	name := keys["name"]
	if name == "" {
		if m.cfg.Explicit {
			m.because("port %s: no %sNAME, and -explicit is set", p.Port, m.cfg.Prefix)
			return nil
		}
		name = imageName(m.c.Image)
	}
	if m.suffixed(group) && !p.fromPort["name"] {
		name += "-" + port
	}
	s := &Service{Container: m.c.ID, Token: keys["token"]}
	s.Name = name
	s.DefaultID = m.cfg.Host + ":" + m.c.Name + ":" + port
	if p.Proto != "tcp" {
		s.DefaultID += ":" + p.Proto
	}
	if p.index != 0 {
		s.DefaultID += ":" + strconv.Itoa(p.index)
	}
	s.ID = s.DefaultID
	if v := keys["id"]; path.Clean("/"+v) == "/"+v && v != "" {
		s.ID = v
	} else if v != "" { // the agent's routes could not name it again
		m.warn("%sID=%q: an id has no empty, . or .. between slashes", m.cfg.Prefix, v)
	}
	s.Address, s.Port = p.side.address, p.side.port
	m.overrides(s, keys)
	s.TaggedAddresses = p.side.tagged(s.Port)
	s.Tags = splitTags(keys["tags"])
	if m.cfg.Tags != nil {
		more, err := m.cfg.Tags.Execute(m.c)
		if err != nil {
			m.warn("-tags: %v", err)
		}
		s.Tags = append(s.Tags, more...)
	}
	if p.Proto != "tcp" {
		s.Tags = append(s.Tags, p.Proto)
	}
	s.Meta = m.meta(keys)
	m.weights(s, keys)
	s.EnableTagOverride = truth(keys["tag_override"])
	switch d := keys["drain"]; d {
	case "", "deregister", "maintenance", "off":
		s.Drain = d
	default:
		m.warn("%sDRAIN=%q: use deregister, maintenance or off", m.cfg.Prefix, d)
	}
	if m.c.State == docker.StatePaused {
		s.Maintenance = "the container is paused"
	}
	m.checks(s, p)
	return s
}

func (m *mapper) suffixed(group bool) bool {
	switch m.cfg.Suffix {
	case SuffixNever:
		return false
	case SuffixAlways:
		return true
	}
	return group
}

// overrides applies what labels say of address and port, whatever was found.
func (m *mapper) overrides(s *Service, keys map[string]string) {
	if l := m.cfg.UseIPFromLabel; l != "" {
		if v := m.c.Labels[l]; v == "" {
			m.warn("label %q, named by -useIpFromLabel, is missing", l)
		} else if i := strings.LastIndexByte(v, '/'); i >= 0 {
			s.Address = v[:i]
		} else {
			s.Address = v
		}
	}
	if v := keys["address"]; v != "" {
		s.Address = v
	}
	if v := keys["port"]; v != "" {
		if n, err := strconv.ParseUint(v, 10, 16); err != nil {
			m.warn("%sPORT=%q is no port", m.cfg.Prefix, v)
		} else {
			s.Port = int(n)
		}
	}
}

func (m *mapper) weights(s *Service, keys map[string]string) {
	read := func(key string) int {
		v, ok := keys[key]
		if !ok {
			return 1
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > 65535 || (n == 0 && key == "weight_passing") {
			m.warn("%s%s=%q is no weight", m.cfg.Prefix, strings.ToUpper(key), v)
			return 1
		}
		return n
	}
	_, p := keys["weight_passing"]
	_, w := keys["weight_warning"]
	if p || w {
		s.Weights = &consul.AgentWeights{Passing: read("weight_passing"), Warning: read("weight_warning")}
	}
}

// imageName is the last element of an image's path, without tag and digest.
func imageName(image string) string {
	base := path.Base(image)
	base, _, _ = strings.Cut(base, "@")
	base, _, _ = strings.Cut(base, ":")
	return base
}

// truth reads a switch: anything but an empty value, 0, false, no and off is true.
func truth(v string) bool {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "", "0", "false", "no", "off":
		return false
	}
	return true
}
