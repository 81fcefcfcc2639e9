package docker

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

// translate makes ours of an inspected container. Any part may be missing.
func translate(in *container.InspectResponse) *Container {
	c := &Container{ID: in.ID, Name: strings.TrimPrefix(in.Name, "/"), Image: in.Image, StopSignal: int(syscall.SIGTERM)}
	if s := in.State; s != nil {
		c.State = string(s.Status)
		c.ExitCode = s.ExitCode
		c.StartedAt, _ = time.Parse(time.RFC3339Nano, s.StartedAt)
		c.Health = health(s.Health)
		if s.Restarting { // the engine calls it running too, though no process is there
			c.State = "restarting"
		}
	}
	if cfg := in.Config; cfg != nil {
		c.Image = cfg.Image
		c.Labels, c.Env = cfg.Labels, cfg.Env
		if n, ok := signal(cfg.StopSignal); ok {
			c.StopSignal = n
		}
		for p := range cfg.ExposedPorts {
			c.Exposed = append(c.Exposed, port(p))
		}
	}
	if h := in.HostConfig; h != nil {
		c.NetworkMode = string(h.NetworkMode)
		for p := range h.PortBindings {
			c.Wanted = append(c.Wanted, port(p))
		}
		if h.PublishAllPorts {
			c.Wanted = append(c.Wanted, c.Exposed...)
		}
	}
	if n := in.NetworkSettings; n != nil {
		c.Published = published(n.Ports)
		c.Networks = make(map[string]Endpoint, len(n.Networks))
		for name, e := range n.Networks {
			if e != nil {
				c.Networks[name] = Endpoint{IPv4: e.IPAddress.Unmap(), IPv6: e.GlobalIPv6Address, id: e.NetworkID}
			}
		}
	}
	slices.SortFunc(c.Exposed, Port.Compare)
	slices.SortFunc(c.Wanted, Port.Compare)
	c.Wanted = slices.Compact(c.Wanted)
	return c
}

func port(p network.Port) Port { return Port{Number: p.Num(), Proto: string(p.Proto())} }

// published keeps the bindings that exist; a port that is only exposed has none.
func published(in network.PortMap) map[Port][]Binding {
	out := make(map[Port][]Binding, len(in))
	for p, list := range in {
		for _, b := range list {
			n, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil || n == 0 {
				continue
			}
			ip := b.HostIP.Unmap()
			if !ip.IsValid() {
				ip = netip.IPv4Unspecified()
			}
			out[port(p)] = append(out[port(p)], Binding{IP: ip, Port: uint16(n)})
		}
	}
	return out
}

func health(h *container.Health) *Health {
	if h == nil || h.Status == "" || h.Status == container.NoHealthcheck {
		return nil
	}
	out := &Health{Status: string(h.Status)}
	if n := len(h.Log); n > 0 && h.Log[n-1] != nil {
		out.Output = h.Log[n-1].Output
	}
	return out
}

// signal reads a signal by number or by name, with or without SIG, as STOPSIGNAL has it.
func signal(s string) (int, bool) {
	if s == "" {
		return 0, false
	}
	if n, err := strconv.Atoi(s); err == nil {
		return n, n > 0 && n < 65
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	const rtmin, rtmax = 34, 64 // as the engine counts them
	for base, first := range map[string]int{"RTMIN": rtmin, "RTMAX": rtmax} {
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		n := 0
		if rest != "" {
			var err error
			if n, err = strconv.Atoi(rest); err != nil {
				return 0, false
			}
		}
		n += first
		return n, n >= rtmin && n <= rtmax
	}
	n := unix.SignalNum("SIG" + name)
	return int(n), n != 0
}
