package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

const (
	maxHosts  = 48  // columns of the map
	maxTiles  = 600 // on the whole map; beyond, a host's services are bars
	fewTiles  = 14  // on a host: each has its name
	perHost   = 24  // services of a crowded host, the worst first
	maxRecord = 60  // events below the map
)

// hall is the map: hosts as columns.
type hall struct {
	hosts  []*column
	hidden int
}

// column is one host on the map.
type column struct {
	*node
	groups []group
	more   int // services that are not shown
	named  bool
}

// group is the instances of a service on one host.
type group struct {
	name   string
	tiles  []*instance
	counts counts
	bar    bool // too many for tiles
}

func newHall(c *catalog) hall {
	var h hall
	var calm, odd []*node
	for _, n := range c.Nodes {
		if n.Status != api.Passing || n.Counts.Total() > n.Counts.Passing {
			odd = append(odd, n)
		} else {
			calm = append(calm, n)
		}
	}
	all := append(odd, calm...)
	if len(all) <= maxHosts {
		all = c.Nodes // by name, so that nothing jumps
	} else {
		h.hidden = len(all) - maxHosts
		all = all[:maxHosts]
	}
	tiles := 0
	for _, n := range all {
		tiles += len(n.Instances)
	}
	for _, n := range all {
		h.hosts = append(h.hosts, newColumn(n, tiles > maxTiles))
	}
	return h
}

func newColumn(n *node, crowded bool) *column {
	col := &column{node: n, named: len(n.Instances) <= fewTiles && !crowded}
	for _, i := range n.Instances {
		last := len(col.groups) - 1
		if last < 0 || col.groups[last].name != i.Service.Service {
			col.groups = append(col.groups, group{name: i.Service.Service})
			last++
		}
		g := &col.groups[last]
		g.tiles = append(g.tiles, i)
		g.counts.add(i.Status)
	}
	for at := range col.groups {
		if g := &col.groups[at]; crowded && len(g.tiles) > 3 || len(g.tiles) > 40 {
			g.bar = true
		}
	}
	limit := len(col.groups)
	if crowded {
		limit = 8
	} else if !col.named {
		limit = perHost
	}
	if len(col.groups) > limit {
		var first, rest []group
		for _, g := range col.groups {
			if g.counts.Worst() != api.Passing {
				first = append(first, g)
			} else {
				rest = append(rest, g)
			}
		}
		all := append(first, rest...)
		col.more = len(all) - limit
		col.groups = all[:limit]
	}
	return col
}

// headline answers the first question in a sentence.
func headline(c *catalog) (text, status string) {
	down, bad := c.Down, c.Counts.Critical
	switch {
	case len(c.Nodes) == 0:
		return "Nobody to be seen yet", api.Passing
	case down > 0 && bad > 0:
		return fmt.Sprintf("%s down, %s critical", many(down, "node"), many(bad, "instance")), api.Critical
	case down > 0:
		return many(down, "node") + " down", api.Critical
	case bad > 0:
		return many(bad, "instance") + " critical", api.Critical
	case c.Counts.Warning > 0:
		return many(c.Counts.Warning, "instance") + " in warning", api.Warning
	}
	return "Everybody is well", api.Passing
}

// summary is the second line: how many there are.
func summary(c *catalog) string {
	return strings.Join([]string{many(c.Counts.Total(), "instance"), many(len(c.Services), "service"), many(len(c.Nodes), "node")}, " · ")
}

func nowPage(r *request) (view, error) {
	c, err := r.catalog()
	if err != nil {
		return view{}, err
	}
	events := r.ui.timeline.latest(maxRecord, r.sees())
	known := r.suite()
	text, _ := known.headline(c)
	return view{title: text, body: now(r, c, newHall(c), known, events, r.trails(events)), topics: suiteTopic, record: true, every: time.Minute}, nil
}
