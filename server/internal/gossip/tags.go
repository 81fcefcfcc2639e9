package gossip

import (
	"fmt"
	"net"
	"strconv"

	"github.com/hashicorp/serf/serf"

	"github.com/rollcall/rollcall/internal/api"
)

// TagInfo is what a member says of itself.
type TagInfo struct {
	Server     bool
	ID         string
	Datacenter string
	Build      string // "version:revision"
	// Of servers only.
	Port      int // RPC
	WANPort   int
	Bootstrap bool
	Expect    int
}

// Tags gives the tags of a member under the names that readers of Consul's API know.
func Tags(i TagInfo) map[string]string {
	t := map[string]string{
		"role": "node", "dc": i.Datacenter, "id": i.ID, "vsn": "2", "vsn_min": "2", "vsn_max": "3", "build": i.Build, "segment": "",
	}
	if !i.Server {
		return t
	}
	t["role"], t["port"], t["raft_vsn"], t["wan_join_port"], t["acls"] = "consul", strconv.Itoa(i.Port), "3", strconv.Itoa(i.WANPort), "0"
	if i.Bootstrap {
		t["bootstrap"] = "1"
	}
	if i.Expect > 0 {
		t["expect"] = strconv.Itoa(i.Expect)
	}
	return t
}

// Server is a member that keeps the catalog.
type Server struct {
	Name, ID, Datacenter string
	Addr                 string // of RPC, "ip:8300"
	Build                string
	Expect               int
	Bootstrap            bool
	Status               api.MemberStatus
}

// ServerOf reads a member as a server; false if it is none.
func ServerOf(m api.Member) (Server, bool) {
	if m.Tags["role"] != "consul" {
		return Server{}, false
	}
	port, err := strconv.Atoi(m.Tags["port"])
	if err != nil || port < 1 || port > 65535 {
		return Server{}, false
	}
	expect, _ := strconv.Atoi(m.Tags["expect"]) // missing is 0
	return Server{
		Name: m.Name, ID: m.Tags["id"], Datacenter: m.Tags["dc"], Addr: net.JoinHostPort(m.Addr, strconv.Itoa(port)), Build: m.Tags["build"],
		Expect: expect, Bootstrap: m.Tags["bootstrap"] == "1", Status: m.Status,
	}, true
}

// Servers gives all members that are servers, by name.
func (p *Pool) Servers() []Server {
	var out []Server
	for _, m := range p.Members() {
		if s, ok := ServerOf(m); ok {
			out = append(out, s)
		}
	}
	return out
}

// merge decides who may be in a pool with us.
type merge struct{ p *Pool }

// NotifyMerge refuses a merge that would join datacenters, or two servers that each
// elect themselves, since both would lead.
func (m merge) NotifyMerge(members []*serf.Member) error {
	cfg := m.p.cfg
	for _, x := range members {
		if dc := x.Tags["dc"]; dc != "" && dc != cfg.Datacenter {
			return m.refuse("member %q is in datacenter %q, this agent in %q: a pool is one datacenter; start both with the same -datacenter, or do not join them",
				x.Name, dc, cfg.Datacenter)
		}
		// of several, some may be dead, and nothing tells which; those alive come alone too
		s, ok := ServerOf(member(*x))
		if ok && len(members) == 1 && s.Bootstrap && cfg.Tags["bootstrap"] == "1" && s.ID != cfg.ID && x.Status != serf.StatusLeft {
			return m.refuse("server %q and this one (%q) both run with bootstrap and would be two clusters: start one of them without -bootstrap, or all with the same -bootstrap-expect",
				x.Name, cfg.Name)
		}
	}
	return nil
}

func (m merge) refuse(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	m.p.mu.Lock()
	again := m.p.refused == err.Error() // it is tried again and again
	m.p.refused = err.Error()
	m.p.mu.Unlock()
	if !again {
		m.p.log.Error("not let in", "err", err)
	}
	return err
}
