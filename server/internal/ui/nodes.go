package ui

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// host is a node with what gossip and coordinates say of it.
type host struct {
	*node
	member *api.Member // nil: it is in the catalog only
	rtt    time.Duration
	known  bool // rtt is
	leads  bool
}

// role is what an agent is, by gossip.
func (h *host) role() string {
	switch {
	case h.member == nil:
		return "external"
	case h.leads:
		return "leader"
	case h.member.Tags["role"] == "consul":
		return "server"
	}
	return "client"
}

// life is what gossip says, or the node's own checks where it knows nothing.
func (h *host) life() string {
	if h.member != nil && h.member.Status != api.StatusAlive {
		return h.member.Status.String()
	}
	return word(h.Status)
}

// state is the status that goes with life: that of the node's checks, unless gossip knows
// worse.
func (h *host) state() string {
	switch {
	case h.member == nil || h.member.Status == api.StatusAlive:
		return h.Status
	case h.member.Status == api.StatusFailed:
		return api.Critical
	case h.Status == api.Passing: // it leaves, or has left
		return api.Warning
	}
	return h.Status
}

// hosts gives the nodes with what is known of them.
func (r *request) hosts(c *catalog) []*host {
	var members []api.Member
	r.get("/v1/agent/members", nil, &members) // nodes are shown without them
	by := map[string]*api.Member{}
	if r.dc == "" {
		for i := range members {
			by[members[i].Name] = &members[i]
		}
	}
	places := map[string]*api.Coordinate{}
	if s, err := r.ui.hub.get(r.Context(), r.topic(endpoint.CoordinateNodes, "")); err == nil {
		list, _ := s.value.([]*api.CoordinateEntry)
		for _, e := range list {
			places[e.Node] = e.Coord
		}
	}
	leader := r.ui.standing.Load().Leader
	out := make([]*host, 0, len(c.Nodes))
	own := places[r.ui.cfg.Node]
	for _, n := range c.Nodes {
		h := &host{node: n, member: by[n.Node]}
		if at := places[n.Node]; own != nil && at != nil && n.Node != r.ui.cfg.Node {
			h.rtt, h.known = own.RTT(at)
		}
		h.leads = h.member != nil && leader != "" && leader == join(n.Address, portOf(h.member))
		out = append(out, h)
	}
	return out
}

// portOf is a server's port for the others.
func portOf(m *api.Member) int {
	n := 0
	fmt.Sscanf(m.Tags["port"], "%d", &n)
	return n
}

func nodesPage(r *request) (view, error) {
	c, err := r.catalog()
	if err != nil {
		return view{}, err
	}
	s := r.search()
	var all []*host
	for _, h := range r.hosts(c) {
		if s.text != "" && !contains(h.Node, s.text) && !contains(h.Address, s.text) || s.status != "" && h.state() != s.status {
			continue
		}
		all = append(all, h)
	}
	if r.FormValue("sort") == "rtt" {
		slices.SortStableFunc(all, func(a, b *host) int {
			return cmp.Or(cmp.Compare(rank(b.known), rank(a.known)), cmp.Compare(a.rtt, b.rtt))
		})
	}
	rows, p := part(r, all, perPage)
	return view{title: "Nodes", body: nodes(r, rows, p, s, distances(all)), topics: []endpoint.Kind{endpoint.UINodes, endpoint.CoordinateNodes}, every: 10 * time.Second}, nil
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// dot is a node on the strip of round-trip times.
type dot struct {
	*host
	x, y int // of a strip of 1000 by stripHeight
}

// tick is a line of the strip's scale.
type tick struct {
	x    int
	text string
}

// strip is the picture of round-trip times, on a logarithmic scale from this agent on.
type strip struct {
	dots  []dot
	ticks []tick
}

const (
	stripFrom   = 50e-6 // seconds, at the left edge
	maxDots     = 400
	stripHeight = 84
)

func distances(all []*host) strip {
	farthest := 0.0
	n := 0
	for _, h := range all {
		if h.known {
			farthest = max(farthest, h.rtt.Seconds())
			n++
		}
	}
	if n == 0 {
		return strip{}
	}
	to := max(farthest*1.3, 2e-3)
	x := func(sec float64) int {
		return 20 + int(960*math.Log(max(sec, stripFrom)/stripFrom)/math.Log(to/stripFrom))
	}
	var s strip
	rows := map[int]int{} // how many dots stand at a place
	for _, h := range all {
		if !h.known || len(s.dots) == maxDots {
			continue
		}
		at := x(h.rtt.Seconds())
		row := rows[at/14]
		rows[at/14]++
		s.dots = append(s.dots, dot{h, at, stripHeight - 32 - 12*(row%4)})
	}
	for _, d := range []time.Duration{100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second} {
		if d.Seconds() <= to {
			s.ticks = append(s.ticks, tick{x(d.Seconds()), span(d)})
		}
	}
	return s
}

func nodePage(r *request) (view, error) {
	c, err := r.catalog()
	if err != nil {
		return view{}, err
	}
	name := r.FormValue("name")
	at := slices.IndexFunc(c.Nodes, func(n *node) bool { return n.Node == name })
	if at < 0 {
		v := notFound(r, fmt.Sprintf("There is no node %q, or you may not see it.", name))
		v.topics = catalogTopic
		return v, nil
	}
	one := *c
	one.Nodes = c.Nodes[at : at+1]
	h := r.hosts(&one)[0]
	var sessions []*api.Session
	sessionErr := r.get("/v1/session/node/"+name, nil, &sessions)
	rows, p := part(r, h.Instances, perPage)
	sees := r.sees()
	events := r.ui.timeline.latest(20, func(e *event) bool { return e.Node == name && sees(e) })
	return view{title: name, body: oneNode(r, h, rows, p, sessions, sessionErr, events, r.trails(events)), topics: []endpoint.Kind{endpoint.UINodes, endpoint.SessionList}, record: true}, nil
}
