package mapping

import (
	"cmp"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/docker"
)

// side is where a service is reached. Address and port always belong together: both of
// the host, or both of the container.
type side struct {
	address string
	port    int
	v4, v6  consul.ServiceAddress // with FamilyDual, for tagged addresses; empty where there is none
}

// tagged gives the addresses of both families; a port that a label says holds for both.
func (s side) tagged(said int) map[string]consul.ServiceAddress {
	out := map[string]consul.ServiceAddress{}
	for name, a := range map[string]consul.ServiceAddress{"lan_ipv4": s.v4, "lan_ipv6": s.v6} {
		if a.Address == "" {
			continue
		}
		if said != s.port {
			a.Port = said
		}
		out[name] = a
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// candidates finds the ports that are reachable in the address mode, sorted, each with
// its settings. Ports that are not reachable are told as reasons.
func (m *mapper) candidates() []candidate {
	ports := slices.Concat(m.c.Exposed, slices.Collect(maps.Keys(m.c.Published)))
	slices.SortFunc(ports, docker.Port.Compare)
	ports = slices.Compact(ports)
	if len(ports) == 0 {
		m.because("no ports: publish one, EXPOSE one, or set %sREGISTER=true", m.cfg.Prefix)
	}
	var out []candidate
	for _, p := range ports {
		c := candidate{Port: p}
		c.keys, c.fromPort = m.all.port(p, 0)
		var why string
		if c.side, why = m.reach(p, m.mode(c.keys), c.keys); why != "" {
			m.because("port %s: %s", p, why)
			continue
		}
		out = append(out, c)
	}
	return out
}

// mode is the address mode for a service: its own, or the configured one.
func (m *mapper) mode(keys map[string]string) string {
	switch v := strings.ToLower(keys["address_mode"]); v {
	case "":
	case AddressPublished, AddressContainer, AddressHost, AddressAuto:
		return v
	default:
		m.warn("%sADDRESS_MODE=%q: use published, container, host or auto", m.cfg.Prefix, v)
	}
	return m.cfg.Address
}

// reach finds where a port is reached, or says why it is not.
func (m *mapper) reach(p docker.Port, mode string, keys map[string]string) (side, string) {
	net, joined, why := m.stack()
	if why != "" {
		return side{}, why
	}
	if net.NetworkMode == "host" { // its ports are the host's, whatever the mode
		return m.host(int(p.Number)), ""
	}
	if mode != AddressContainer {
		if s, ok := m.published(net.Published[p]); ok {
			return s, ""
		}
	}
	switch {
	case mode == AddressHost:
		return m.host(int(p.Number)), ""
	case mode == AddressPublished && net.IngressUnknown && keys["port"] != "":
		return m.host(int(p.Number)), "" // a label says what the engine does not
	case mode == AddressPublished && !joined && !direct(net):
		if net.IngressUnknown {
			return side{}, "not published on this host; what swarm's ingress publishes only a manager tells: set " + m.cfg.Prefix + strconv.Itoa(int(p.Number)) + "_PORT"
		}
		return side{}, "not published on the host (-internal or -address=container register container addresses)"
	}
	s, why := m.container(net, keys)
	s.port = int(p.Number)
	s.v4.Port, s.v6.Port = s.port, s.port
	return s, why
}

// direct tells whether a container stands in the host's own network, where publishing
// ports has no meaning: on macvlan or ipvlan, and on nothing else.
func direct(c *docker.Container) bool {
	for _, e := range c.Networks {
		if e.Driver != "macvlan" && e.Driver != "ipvlan" {
			return false
		}
	}
	return len(c.Networks) > 0
}

// bare finds the address of a container without ports.
func (m *mapper) bare(keys map[string]string) (side, string) {
	net, _, why := m.stack()
	if why != "" {
		return side{}, why
	}
	if mode := m.mode(keys); net.NetworkMode == "host" || mode == AddressPublished || mode == AddressHost {
		return m.host(0), ""
	}
	return m.container(net, keys)
}

// stack is the container whose network this one uses: itself, or the end of a chain of
// container:<x> modes.
func (m *mapper) stack() (c *docker.Container, joined bool, why string) {
	c = m.c
	for range 8 { // longer chains are loops
		ref, ok := strings.CutPrefix(c.NetworkMode, "container:")
		if !ok {
			return c, joined, ""
		}
		if m.lookup == nil {
			return nil, true, "it uses the network of container " + ref + ", which does not run"
		}
		if c = m.lookup(ref); c == nil {
			return nil, true, "it uses the network of container " + ref + ", which does not run"
		}
		joined = true
	}
	return nil, true, "its network mode is a circle of containers"
}

// published is the host's side of a port that is bound there, the preferred family first.
func (m *mapper) published(list []docker.Binding) (side, bool) {
	v4, v6 := m.bound(list, false), m.bound(list, true)
	first, second := v4, v6
	if m.cfg.Family == FamilyIPv6 {
		first, second = v6, v4
	}
	if first.Port == 0 {
		first = second
	}
	if first.Port == 0 {
		return side{}, false
	}
	s := side{address: first.Address, port: first.Port}
	if m.cfg.Family == FamilyDual {
		s.v4, s.v6 = v4, v6
	}
	if ip, err := netip.ParseAddr(s.address); err == nil && ip.IsLoopback() {
		m.because("port %d is published on %s: only this host reaches it", s.port, ip)
	}
	return s, true
}

// bound is the first binding of a family, with the host's address where the binding is to
// all of them, or where -ip says so. Its port is 0 where there is none.
func (m *mapper) bound(list []docker.Binding, six bool) consul.ServiceAddress {
	for _, b := range list {
		if b.IP.Is6() != six {
			continue
		}
		a := consul.ServiceAddress{Address: b.IP.String(), Port: int(b.Port)}
		ours := m.cfg.hostIP(six)
		switch {
		case b.IP.IsUnspecified():
			a.Address = ours
			if six && ours == "" { // a wrong family is told rather than left out
				a.Address = m.cfg.hostIP(false)
			}
		case m.cfg.IP != "" && ours != "":
			a.Address = ours
		}
		return a
	}
	return consul.ServiceAddress{}
}

// hostIP is the host's address of a family: what -ip says, else the node's. It is empty
// where it is not known: then the catalog gives the node's.
func (c *Config) hostIP(six bool) string {
	said := c.IP
	if six {
		said = c.IP6
	}
	if said != "" {
		return said
	}
	for _, a := range []string{c.IP, c.HostAddress} {
		if ip, err := netip.ParseAddr(a); err == nil && ip.Unmap().Is6() == six {
			return a
		}
	}
	if six {
		return ""
	}
	return cmp.Or(c.IP, c.HostAddress)
}

// host is a port of the host.
func (m *mapper) host(port int) side {
	v4, v6 := m.cfg.hostIP(false), m.cfg.hostIP(true)
	s := side{address: v4, port: port}
	switch m.cfg.Family {
	case FamilyIPv6:
		s.address = cmp.Or(v6, v4)
	case FamilyDual:
		if v4 != v6 {
			s.v4, s.v6 = consul.ServiceAddress{Address: v4, Port: port}, consul.ServiceAddress{Address: v6, Port: port}
		}
	}
	return s
}

// container is the container's own address, on the network that settings choose, else on
// the one it was started with, else on the first by name that has an address.
func (m *mapper) container(c *docker.Container, keys map[string]string) (side, string) {
	names := slices.Sorted(maps.Keys(c.Networks))
	globs := m.cfg.Networks
	if v := keys["network"]; v != "" {
		globs = splitList(v)
	}
	var order []string
	if len(globs) > 0 {
		for _, g := range globs {
			for _, n := range names {
				if ok, err := path.Match(g, n); (ok && err == nil) || g == n {
					order = append(order, n)
				}
			}
		}
		if len(order) == 0 {
			return side{}, "it is on none of the networks " + strings.Join(globs, ", ") + "; it is on: " + strings.Join(names, ", ")
		}
	} else {
		first := c.NetworkMode
		if first == "default" {
			first = "bridge"
		}
		last := func(n string) int { // nobody outside of the swarm's own plumbing reaches these
			if n == "ingress" || n == "docker_gwbridge" {
				return 1
			}
			return 0
		}
		slices.SortStableFunc(names, func(a, b string) int { return last(a) - last(b) })
		order = append([]string{first}, names...)
	}
	for _, n := range order {
		if s, ok := m.endpoint(c.Networks[n]); ok {
			return s, ""
		}
	}
	return side{}, "it has no address on a network (mode " + cmp.Or(c.NetworkMode, "unknown") + ")"
}

func (m *mapper) endpoint(e docker.Endpoint) (side, bool) {
	text := func(a netip.Addr) string {
		if !a.IsValid() || a.IsUnspecified() {
			return ""
		}
		return a.String()
	}
	v4, v6 := text(e.IPv4), text(e.IPv6)
	s := side{address: cmp.Or(v4, v6)}
	switch m.cfg.Family {
	case FamilyIPv6:
		s.address = cmp.Or(v6, v4)
	case FamilyDual:
		s.v4.Address, s.v6.Address = v4, v6
	}
	return s, s.address != ""
}

// splitList cuts a comma-separated list, without blanks and empty entries.
func splitList(v string) []string {
	var out []string
	for s := range strings.SplitSeq(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}
