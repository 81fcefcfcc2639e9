package docker

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// askAgain is how long an engine that does not tell about networks or services is left in
// peace: a proxy in front of it may refuse such questions for ever.
const askAgain = time.Minute

// drivers remembers which driver a network has; that never changes. Containers do not
// carry it.
type drivers struct {
	mu    sync.Mutex
	by    map[string]string // by network id
	asked time.Time         // in vain
}

// fill sets the drivers of a container's networks, as far as the engine tells. An engine
// that does not tell costs one question a minute and no error: what is registered is
// then what a bridge would give.
func (c *Client) fill(ctx context.Context, out *Container) {
	d := &c.drivers
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, e := range out.Networks {
		if e.id == "" {
			continue
		}
		driver, known := d.by[e.id]
		if !known && time.Since(d.asked) >= askAgain {
			if r, err := c.api().NetworkList(ctx, client.NetworkListOptions{}); err == nil {
				d.by = make(map[string]string, len(r.Items))
				for _, n := range r.Items {
					d.by[n.ID] = n.Driver
				}
			}
			if driver, known = d.by[e.id]; !known {
				d.asked = time.Now()
			}
		}
		e.Driver = driver
		out.Networks[name] = e
	}
}

// Labels and the network of a swarm's tasks.
const (
	labelSwarmService = "com.docker.swarm.service.id"
	ingressNetwork    = "ingress"
)

// ingress adds the ports that the swarm's routing mesh publishes for a task: they belong
// to its service, and only a manager tells them.
func (c *Client) ingress(ctx context.Context, out *Container) {
	service := out.Labels[labelSwarmService]
	if _, ok := out.Networks[ingressNetwork]; !ok || service == "" {
		return
	}
	r, err := c.api().ServiceInspect(ctx, service, client.ServiceInspectOptions{})
	if err != nil {
		out.IngressUnknown = true
		return
	}
	addIngress(out, r.Service.Endpoint.Ports)
}

func addIngress(out *Container, ports []swarm.PortConfig) {
	for _, p := range ports {
		if p.PublishMode != swarm.PortConfigPublishModeIngress || p.PublishedPort == 0 || p.PublishedPort > 65535 || p.TargetPort > 65535 {
			continue
		}
		proto := p.Protocol
		if proto == "" {
			proto = network.TCP
		}
		at := Port{Number: uint16(p.TargetPort), Proto: string(proto)}
		b := Binding{IP: netip.IPv4Unspecified(), Port: uint16(p.PublishedPort)}
		if !slices.Contains(out.Published[at], b) {
			out.Published[at] = append(out.Published[at], b)
		}
	}
}
