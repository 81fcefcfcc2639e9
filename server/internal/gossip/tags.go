package gossip

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/rollcall/rollcall/internal/api"
)

// TagInfo is what a member says of itself.
type TagInfo struct {
	Server     bool
	ID         string
	Datacenter string
	Build      string // "version:revision", of the Consul that this one speaks like
	// Of client agents only: how long the others remember this one once it has failed; 0 is
	// as long as they do others.
	Reconnect time.Duration
	// Of servers only.
	Port      int // RPC
	WANPort   int
	Bootstrap bool
	Expect    int
	ACLs      bool
	Version   string            // of Rollcall
	Marks     map[string]string // of settings that servers should have alike, by what they are about
}

// Tags gives the tags of a member under the names that readers of Consul's API know.
func Tags(i TagInfo) map[string]string {
	t := map[string]string{
		"role": "node", "dc": i.Datacenter, "id": i.ID, "vsn": "2", "vsn_min": "2", "vsn_max": "3", "build": i.Build, "segment": "",
	}
	if !i.Server {
		if i.Reconnect > 0 {
			t[reconnectTag] = i.Reconnect.String()
		}
		return t
	}
	t["role"], t["port"], t["raft_vsn"], t["wan_join_port"], t["acls"] = serverRole, strconv.Itoa(i.Port), "3", strconv.Itoa(i.WANPort), "0"
	if i.ACLs {
		t["acls"] = "1"
	}
	if i.Version != "" {
		t[versionTag] = i.Version
	}
	for about, mark := range i.Marks {
		t[markTag+about] = mark
	}
	if i.Bootstrap {
		t["bootstrap"] = "1"
	}
	if i.Expect > 0 {
		t["expect"] = strconv.Itoa(i.Expect)
	}
	return t
}

// Tags that Consul does not have.
const (
	versionTag = "rollcall"
	markTag    = "cfg_" // and what the mark is about
)

const (
	serverRole   = "consul"
	reconnectTag = "rc_tm"
)

// patience is how long members that have failed are remembered: as long as they ask for.
type patience struct{}

// ReconnectTimeout is serf's question.
func (patience) ReconnectTimeout(m *serf.Member, others time.Duration) time.Duration {
	if d, err := time.ParseDuration(m.Tags[reconnectTag]); err == nil && d > 0 {
		return d
	}
	return others
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
	if m.Tags["role"] != serverRole {
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

// Servers gives all members that are servers, by name. A server is known by its id: of one
// that came back under another name, gossip remembers the old name as well, but only the
// living member counts. It is asked for with every call and at every change, so it makes
// nothing of the many others.
func (p *Pool) Servers() []Server {
	var out, down []Server
	for _, m := range p.serf.Members() {
		if m.Tags["role"] != serverRole {
			continue
		}
		switch s, ok := ServerOf(member(m)); {
		case !ok:
		case s.Status == api.StatusAlive:
			out = append(out, s)
		default:
			down = append(down, s)
		}
	}
	living := out
	for _, s := range down {
		again := func(x Server) bool { return x.ID == s.ID && x.Datacenter == s.Datacenter }
		if s.ID == "" || !slices.ContainsFunc(living, again) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Server) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// merge decides who may be in a pool with us.
type merge struct{ p *Pool }

// NotifyMerge refuses a merge that would join datacenters, or two servers that each
// elect themselves, since both would lead, or two of one id, since both would vote for it.
func (m merge) NotifyMerge(members []*serf.Member) error {
	cfg := m.p.cfg
	if cfg.WAN {
		return m.serversOnly(members)
	}
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
		if name := m.twin(s); ok && len(members) == 1 && name != "" {
			return m.refuse("servers %q (%s) and %q have the same node id, %s, and would be one to the others: if these are not two names of one server, "+
				"start the one that was copied with an empty data directory", x.Name, x.Addr, name, s.ID)
		}
	}
	return nil
}

// twin names another living server that has the id of s, "" if there is none. One that came
// back under another name is its own twin until its old name counts as dead.
func (m merge) twin(s Server) string {
	cfg := m.p.cfg
	switch all := m.p.opened.Load(); {
	case s.ID == "":
	case s.ID == cfg.ID && s.Name != cfg.Name:
		return cfg.Name
	case all != nil: // else nobody is there yet
		for _, x := range all.Members() {
			if x.Name != s.Name && x.Tags["id"] == s.ID && x.Tags["role"] == serverRole && x.Status == serf.StatusAlive {
				return x.Name
			}
		}
	}
	return ""
}

// serversOnly refuses a merge with who is no server, or has the name of one elsewhere.
func (m merge) serversOnly(members []*serf.Member) error {
	for _, x := range members {
		s, ok := ServerOf(member(*x))
		switch {
		case !ok:
			return m.refuse("member %q is no server: only servers gossip between datacenters; join it by its port for the LAN, without -wan", x.Name)
		case s.Datacenter == "" || !strings.HasSuffix(x.Name, "."+s.Datacenter):
			return m.refuse("member %q is not named after its datacenter %q: it gossips within one; join it without -wan", x.Name, s.Datacenter)
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
