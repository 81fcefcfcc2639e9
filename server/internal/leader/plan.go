package leader

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/store"
)

// Outputs of the check that stands for membership.
const (
	outputAlive  = "Agent alive and reachable"
	outputFailed = "Agent not live or unreachable"
)

// plan decides what to write so that the catalog's nodes follow the members: alive ones
// are registered with a passing serfHealth, failed ones turn critical, left ones go. A member
// that was made anew under its name takes two looks: gossip says that it is who lives by that
// name, so the node of before turns critical, and then gives the name up.
// missing are nodes that gossip does not know: true means long enough to go as well.
func plan(cfg Config, members []api.Member, st *store.State, missing map[string]bool) []command.Command {
	var out []command.Command
	for _, m := range members {
		if dc := m.Tags["dc"]; dc != "" && dc != cfg.Datacenter {
			continue
		}
		switch m.Status {
		case api.StatusAlive:
			out = appendIf(out, alive(cfg, m, st))
		case api.StatusFailed:
			out = appendIf(out, failed(cfg, m.Name, st))
		case api.StatusLeft:
			out = appendIf(out, left(cfg, m.Name, st))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if missing[name] {
			out = appendIf(out, left(cfg, name, st))
		} else {
			out = appendIf(out, failed(cfg, name, st))
		}
	}
	return out
}

func appendIf(out []command.Command, c command.Command) []command.Command {
	if c == nil {
		return out
	}
	return append(out, c)
}

// alive registers a member, with what the catalog knows of the node kept: meta and tagged
// addresses are the agent's to say. The node itself is written only where it is missing or
// has moved: the agent may say them between the look at st and the write.
func alive(cfg Config, m api.Member, st *store.State) command.Command {
	reg := api.Registration{
		Datacenter: cfg.Datacenter, ID: m.Tags["id"], Node: m.Name, Address: m.Addr,
		Checks: []*api.Check{serfCheck(m.Name, api.Passing, outputAlive)},
	}
	node, services, _ := st.NodeServices(m.Name)
	if node != nil {
		reg.TaggedAddresses, reg.NodeMeta = node.TaggedAddresses, node.Meta
	}
	stands := node != nil && node.Address == m.Addr && (reg.ID == "" || strings.EqualFold(node.ID, reg.ID))
	if node != nil && node.ID != "" && reg.ID != "" && !strings.EqualFold(node.ID, reg.ID) && statusOf(m.Name, st) == api.Passing {
		return failed(cfg, m.Name, st)
	}
	reg.SkipNodeUpdate = node == nil || stands
	same := stands && statusOf(m.Name, st) == api.Passing
	var own *store.Service
	for _, s := range services {
		if s.ID == api.ServerService {
			own = s
		}
	}
	if s, ok := gossip.ServerOf(m); ok {
		reg.Service = server(s.Addr, m)
		same = same && own != nil && own.Equal(reg.Service)
	}
	if same {
		return nil
	}
	return &command.Register{Registration: reg}
}

// server is the service under which a server lists itself; its meta is what Consul's says
// of one.
func server(addr string, m api.Member) *api.Service {
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port) // ServerOf has parsed it
	version, _, _ := strings.Cut(m.Tags["build"], ":")
	digits := func(v uint8) string { return strconv.Itoa(int(v)) }
	return &api.Service{
		ID: api.ServerService, Service: api.ServerService, Tags: []string{}, Port: n, Weights: api.Weights{Passing: 1, Warning: 1},
		Meta: map[string]string{
			"version": version, "raft_version": m.Tags["raft_vsn"], "non_voter": "false",
			"serf_protocol_min": digits(m.ProtocolMin), "serf_protocol_max": digits(m.ProtocolMax), "serf_protocol_current": digits(m.ProtocolCur),
		},
	}
}

// failed turns a node critical. A node that is not in the catalog stays out of it.
func failed(cfg Config, name string, st *store.State) command.Command {
	node, _, _ := st.NodeServices(name)
	if node == nil || statusOf(name, st) == api.Critical {
		return nil
	}
	return &command.Register{Registration: api.Registration{
		Datacenter: cfg.Datacenter, ID: node.ID, Node: node.Node.Node, Address: node.Address, SkipNodeUpdate: true,
		Checks: []*api.Check{serfCheck(node.Node.Node, api.Critical, outputFailed)},
	}}
}

// left removes a node with all that is on it.
func left(cfg Config, name string, st *store.State) command.Command {
	node, _, _ := st.NodeServices(name)
	if node == nil || strings.EqualFold(name, cfg.Name) {
		return nil
	}
	return &command.Deregister{Deregistration: api.Deregistration{Datacenter: cfg.Datacenter, Node: node.Node.Node}}
}

func serfCheck(node, status, output string) *api.Check {
	return &api.Check{
		Node: node, CheckID: api.SerfHealth, Name: api.SerfHealthName, Status: status, Output: output, ServiceTags: []string{},
	}
}

// statusOf is the state of a node's serfHealth, "" if it has none.
func statusOf(node string, st *store.State) string {
	checks, _ := st.NodeChecks(node)
	for _, c := range checks {
		if c.CheckID == api.SerfHealth {
			return c.Status
		}
	}
	return ""
}
