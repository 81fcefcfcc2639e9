package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/rpc"
)

// openWAN opens this server's part in the gossip between datacenters, unless its port is
// off.
func (a *Agent) openWAN() error {
	cfg := a.cfg()
	if !cfg.Server || cfg.Ports.SerfWAN < 0 {
		return nil
	}
	c, err := a.gossipConfig("remote", cfg.GossipWAN, cfg.SerfWANCIDRs)
	if err != nil {
		return err
	}
	c.WAN, c.Name = true, gossip.WANName(cfg.NodeName, cfg.Datacenter)
	c.Bind, c.Port, c.Advertise, c.AdvertisePort = a.addr.serfWAN, cfg.Ports.SerfWAN, a.addr.wan, cfg.Ports.SerfWAN
	c.ReconnectTimeout = cfg.ReconnectWAN
	delete(c.Tags, "wan_join_port") // who reads this knows
	if a.wan, err = gossip.Open(c); err != nil {
		return fmt.Errorf("gossip between datacenters: %w", err)
	}
	a.onClose(a.wan.Close)
	return nil
}

// floodEvery is how often the servers of this datacenter are looked for in the WAN pool,
// beside every change.
const floodEvery = time.Minute

// flood brings this datacenter's servers into the WAN pool as soon as one of them is in it,
// until ctx ends.
func (a *Agent) flood(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, floodEvery
	for {
		lan, wan := a.pool.Watch(), a.wan.Watch()
		wait := floodEvery
		for _, addr := range a.notInWAN() {
			if _, err := a.wan.Join(ctx, []string{addr}); err != nil && ctx.Err() == nil {
				wait = pause.NextBackOff()
				a.log.Debug("server not yet in the WAN pool", "at", addr, "err", err)
			}
		}
		if wait == floodEvery {
			pause.Reset()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-lan:
		case <-wan:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// notInWAN gives where the living servers of this datacenter gossip that are not in the
// WAN pool.
func (a *Agent) notInWAN() []string {
	var out []string
	for _, m := range a.pool.Members() {
		s, ok := gossip.ServerOf(m)
		port, err := strconv.Atoi(m.Tags["wan_join_port"])
		if !ok || s.Status != api.StatusAlive || err != nil || port < 1 {
			continue
		}
		if w, ok := a.wan.Member(gossip.WANName(s.Name, s.Datacenter)); !ok || w.Status != api.StatusAlive {
			out = append(out, net.JoinHostPort(m.Addr, strconv.Itoa(port)))
		}
	}
	return out
}

// datacenterOf gives where the server at an RPC address is: this datacenter unless the WAN
// pool knows better.
func (a *Agent) datacenterOf(addr string) string {
	if a.wan != nil {
		for _, s := range a.wan.Servers() {
			if s.Addr == addr {
				return s.Datacenter
			}
		}
	}
	return a.cfg().Datacenter
}

// datacenters gives all that are known, the nearest, this one, first.
func (a *Agent) datacenters() []gossip.Datacenter {
	if a.wan == nil {
		return nil
	}
	return a.wan.Datacenters()
}

// otherDatacenters names them, the nearest first.
func (a *Agent) otherDatacenters() []string {
	var out []string
	for _, d := range a.datacenters() {
		if d.Name != a.cfg().Datacenter {
			out = append(out, d.Name)
		}
	}
	return out
}

// elsewhere gives the endpoint of another datacenter, nil where none of its servers is
// known.
func (a *Agent) elsewhere(dc string) endpoint.Everything {
	servers := func() []string { return a.serversOf(a.wan, dc) }
	if a.wan == nil || len(servers()) == 0 {
		return nil
	}
	a.farMu.Lock()
	defer a.farMu.Unlock()
	if a.far == nil {
		a.far = map[string]*rpc.Remote{}
	}
	if a.far[dc] == nil { // there are as many as there were datacenters
		a.far[dc] = rpc.NewFar(a.rpcs, dc, servers, a.log)
	}
	return a.far[dc]
}

// serverCoordinates gives the places of the servers in the WAN pool.
func (a *Agent) serverCoordinates() []*api.DatacenterCoordinates {
	out := []*api.DatacenterCoordinates{}
	for _, d := range a.datacenters() {
		out = append(out, &api.DatacenterCoordinates{
			Datacenter: d.Name, AreaID: "wan", Coordinates: append([]*api.CoordinateEntry{}, d.Coordinates...),
		})
	}
	return out
}
