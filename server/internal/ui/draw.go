package ui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// part of a bar, of a thousand.
type stretch struct {
	status      string
	from, width int
}

// segments draws counts as a line of a thousand. What is there at all is seen: the least
// share gets eight.
func segments(c counts) []stretch {
	total := c.Total()
	if total == 0 {
		return nil
	}
	var out []stretch
	at := 0
	for _, s := range statuses[:3] {
		if n := c.Of(s); n > 0 {
			w := max(8, n*1000/total)
			out = append(out, stretch{s, at, w})
			at += w
		}
	}
	if c.Passing > 0 && at < 1000 {
		out = append(out, stretch{api.Passing, at, 1000 - at})
	}
	return out
}

// inWords says counts.
func inWords(c counts) string {
	var parts []string
	for _, s := range statuses {
		if n := c.Of(s); n > 0 {
			parts = append(parts, strconv.Itoa(n)+" "+word(s))
		}
	}
	return strings.Join(parts, ", ")
}

// area is a part of a sparkline.
type area struct{ status, path string }

// sparkAreas draws a sparkline, each area over those before it: the worst states come last
// and stand at the bottom. What is not seen is left out.
func sparkAreas(points []point) []area {
	var out []area
	over := ""
	for _, s := range statuses {
		path := sparkPath(points, s)
		if path != over && slices.ContainsFunc(points, func(p point) bool { return p.upTo(s) > 0 }) {
			out = append(out, area{s, path})
			over = path
		}
	}
	slices.Reverse(out)
	return out
}

// sparkPath draws the area of a state and all that are told before it, 240 by 24.
func sparkPath(points []point, status string) string {
	top := 1
	for _, p := range points {
		top = max(top, p.All)
	}
	var b strings.Builder
	b.WriteString("M0 24")
	for i, p := range points {
		n := p.upTo(status)
		y := 24 - 23*n/top
		if n > 0 && y > 22 {
			y = 22 // one of a thousand is seen, too
		}
		fmt.Fprintf(&b, "V%dH%d", y, (i+1)*240/len(points))
	}
	b.WriteString("V24Z")
	return b.String()
}

func sparkWords(points []point) string {
	bad := 0
	for _, p := range points {
		if p.upTo(api.Warning) > 0 {
			bad++
		}
	}
	if bad == 0 {
		return "all passing for the last hour, as far as known"
	}
	return fmt.Sprintf("not all passing in %d of the last 60 minutes", bad)
}

type entry struct{ key, value string }

// sorted gives a map's entries in order.
func sorted(m map[string]string) []entry {
	out := make([]entry, 0, len(m))
	for k, v := range m {
		out = append(out, entry{k, v})
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return out
}

// metaNames are the words for metadata that registrators write.
var metaNames = map[string]string{"registrator-container": "Container", "registrator-image": "Image"}

// named gives the metadata that has words, by these.
func named(meta map[string]string) []entry {
	out := map[string]string{}
	for key, name := range metaNames {
		if v := meta[key]; v != "" {
			out[name] = v
		}
	}
	return sorted(out)
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

// portText is what a tile's line says of where: its port, or its address without one.
func portText(i *instance) string {
	if i.Port > 0 {
		return ":" + strconv.Itoa(i.Port)
	}
	return i.Address
}

// checkKind says what runs a check and how often.
func checkKind(c *api.Check) string {
	parts := []string{}
	for _, p := range []string{c.Type, c.Interval} {
		if p != "" && p != "0s" {
			parts = append(parts, p)
		}
	}
	if c.ServiceID == "" {
		parts = append(parts, "of the node")
	}
	return strings.Join(parts, " · ")
}

// endOf says what becomes of a session's keys.
func endOf(behavior string) string {
	if behavior == api.DeleteKeys {
		return "deleted"
	}
	return "released"
}

// past gives a service's sparkline, as far as the viewer's datacenter has one.
func (u *UI) past(r *request, name string) []point {
	if r.dc != "" {
		return nil
	}
	return u.timeline.past(name)
}

func (f frame) asset(name string) string { return f.ui.cfg.Path + "static/" + f.ui.assets[name].name }

// where is the datacenter that is looked at.
func (r *request) where() string {
	if r.dc != "" {
		return r.dc
	}
	return r.ui.cfg.Datacenter
}
