package mapping

import (
	"cmp"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/docker"
)

// side is where a service is reached. Address and port always belong together: both of
// the host, or both of the container.
type side struct {
	address string
	port    int
	ipv4    string // with FamilyDual, for tagged addresses
	ipv6    string
}

func (s side) tagged(port int) map[string]consul.ServiceAddress {
	out := map[string]consul.ServiceAddress{}
	for name, ip := range map[string]string{"lan_ipv4": s.ipv4, "lan_ipv6": s.ipv6} {
		if ip != "" {
			out[name] = consul.ServiceAddress{Address: ip, Port: port}
		}
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
		c.keys, c.fromPort = m.all.port(p)
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
		if b, ok := m.binding(net.Published[p]); ok {
			return m.published(b), ""
		}
	}
	switch {
	case mode == AddressHost:
		return m.host(int(p.Number)), ""
	case mode == AddressPublished && !joined:
		return side{}, "not published on the host (-internal or -address=container register container addresses)"
	}
	s, why := m.container(net, keys)
	s.port = int(p.Number)
	return s, why
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

// binding chooses among the host's sides of a port: the preferred family first.
func (m *mapper) binding(list []docker.Binding) (docker.Binding, bool) {
	want6 := m.cfg.Family == FamilyIPv6
	for _, b := range list {
		if b.IP.Is6() == want6 {
			return b, true
		}
	}
	if len(list) > 0 {
		return list[0], true
	}
	return docker.Binding{}, false
}

// published is the host's side of a binding.
func (m *mapper) published(b docker.Binding) side {
	if m.cfg.IP != "" || b.IP.IsUnspecified() {
		return m.host(int(b.Port))
	}
	if b.IP.IsLoopback() {
		m.because("port %d is published on %s: only this host reaches it", b.Port, b.IP)
	}
	return side{address: b.IP.String(), port: int(b.Port)}
}

// host is a port of the host. The address is empty where it is not known: then the
// catalog gives the node's.
func (m *mapper) host(port int) side {
	return side{address: cmp.Or(m.cfg.IP, m.cfg.HostAddress), port: port}
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
		s.ipv4, s.ipv6 = v4, v6
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
