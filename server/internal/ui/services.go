package ui

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/rollcall/rollcall/internal/api"
)

const perPage = 100

// search is what a list is narrowed by.
type search struct {
	text, tag, status, node, filter string
}

func (r *request) search() search {
	q := r.URL.Query()
	return search{strings.TrimSpace(q.Get("q")), q.Get("tag"), q.Get("status"), q.Get("node"), strings.TrimSpace(q.Get("filter"))}
}

func (s search) empty() bool { return s == search{} }

// pager is a part of a list.
type pager struct{ page, pages, total int }

// part gives the page of a list that was asked for.
func part[T any](r *request, all []T, size int) ([]T, pager) {
	p := pager{page: r.page(), pages: max(1, (len(all)+size-1)/size), total: len(all)}
	p.page = min(p.page, p.pages)
	from := (p.page - 1) * size
	return all[from:min(from+size, len(all))], p
}

func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

func servicesPage(r *request) (view, error) {
	c, err := r.catalog()
	if err != nil {
		return view{}, err
	}
	s := r.search()
	names, err := r.filtered(s.filter)
	if err != nil {
		return view{title: "Services", body: services(r, nil, pager{page: 1, pages: 1}, s, err.Error()), code: 400}, nil
	}
	var all []*service
	for _, sv := range c.Services {
		if s.text != "" && !contains(sv.Name, s.text) && !slices.ContainsFunc(sv.Tags, func(t string) bool { return contains(t, s.text) }) {
			continue
		}
		if s.tag != "" && !slices.Contains(sv.Tags, s.tag) || s.status != "" && sv.Counts.Of(s.status) == 0 || names != nil && !names[sv.Name] {
			continue
		}
		if s.node != "" && !slices.ContainsFunc(sv.Instances, func(i *instance) bool { return i.On.Node == s.node }) {
			continue
		}
		all = append(all, sv)
	}
	rank := func(sv *service) int { return slices.Index(statuses, sv.Counts.Worst()) }
	if r.FormValue("sort") == "health" {
		slices.SortStableFunc(all, func(a, b *service) int { return cmp.Compare(rank(a), rank(b)) })
	}
	rows, p := part(r, all, perPage)
	return view{title: "Services", body: services(r, rows, p, s, ""), topics: catalogTopic}, nil
}

// filtered asks the API which services a bexpr expression of its summaries holds of; nil
// is all.
func (r *request) filtered(filter string) (map[string]bool, error) {
	if filter == "" {
		return nil, nil
	}
	var rows []*api.ServiceSummary
	if err := r.get("/v1/internal/ui/services", url.Values{"filter": {filter}}, &rows); err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(rows))
	for _, s := range rows {
		names[s.Name] = true
	}
	return names, nil
}

func servicePage(r *request) (view, error) {
	c, err := r.catalog()
	if err != nil {
		return view{}, err
	}
	name := r.FormValue("name")
	sv := c.service(name)
	if sv == nil {
		v := notFound(r, fmt.Sprintf("No instance of %q is registered, or you may not see it.", name))
		v.topics = catalogTopic
		return v, nil
	}
	s := r.search()
	var all []*instance
	for _, i := range sv.Instances {
		if s.text != "" && !contains(i.ID, s.text) && !contains(i.On.Node, s.text) && !contains(i.At(), s.text) {
			continue
		}
		if s.tag != "" && !slices.Contains(i.Tags, s.tag) || s.status != "" && i.Status != s.status {
			continue
		}
		all = append(all, i)
	}
	slices.SortStableFunc(all, func(a, b *instance) int {
		return cmp.Compare(slices.Index(statuses, a.Status), slices.Index(statuses, b.Status))
	})
	rows, p := part(r, all, perPage)
	sees := r.sees()
	events := r.ui.timeline.latest(20, func(e *event) bool { return e.Service == name && sees(e) })
	return view{title: name, body: oneService(r, sv, rows, p, s, events, r.trails(events)), topics: suiteTopic, record: true}, nil
}

func instancePage(r *request) (view, error) {
	c, err := r.catalog()
	if err != nil {
		return view{}, err
	}
	key := r.FormValue("node") + "\x00" + r.FormValue("id")
	i := c.Instances[key]
	sees := r.sees()
	events := r.ui.timeline.latest(20, func(e *event) bool { return e.key() == key && sees(e) })
	if i == nil {
		v := notFound(r, fmt.Sprintf("There is no instance %q on %q any more, or you may not see it.", r.FormValue("id"), r.FormValue("node")))
		v.topics = catalogTopic
		return v, nil
	}
	return view{title: i.ID, body: oneInstance(r, i, r.ui.since(events), events, r.trails(events)), topics: suiteTopic, record: true, every: time.Minute}, nil
}

// since says since when an instance is as it is: what the record of changes tells, or that
// it goes back before the record.
func (u *UI) since(events []*event) string {
	for _, e := range events {
		if e.Kind == turned || e.Kind == registered {
			return "since " + clock(e.At) + " (" + ago(time.Since(e.At)) + ")"
		}
	}
	return "since before " + clock(u.timeline.since)
}

// dnsName is how DNS knows a service.
func (r *request) dnsName(service string) string {
	dc := ""
	if r.dc != "" {
		dc = "." + r.dc
	}
	return service + ".service" + dc + "." + r.ui.cfg.Domain
}

// dig is a line that asks DNS for a service. What looks like an option, a server or a flag
// is said to be a name; what cannot be printed is written by number, as zone files do.
func (r *request) dig(service string) string {
	var name strings.Builder
	for _, c := range r.dnsName(service) {
		switch {
		case c == '\\':
			name.WriteString(`\\`)
		case unicode.IsPrint(c):
			name.WriteRune(c)
		default:
			for _, b := range []byte(string(c)) {
				fmt.Fprintf(&name, `\%03d`, b)
			}
		}
	}
	if strings.ContainsAny(name.String()[:1], "-+@") {
		return "dig -q " + shell(name.String())
	}
	return "dig " + shell(name.String())
}

// curl is a line that asks the API for something, as the viewer reached it and of the
// datacenter that is looked at.
func (r *request) curl(path string) string {
	if r.dc != "" {
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		path += join + "dc=" + url.QueryEscape(r.dc)
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return "curl " + shell(scheme+"://"+r.Host+path)
}

// shell writes a word for a POSIX shell, in quotes where it needs them.
func shell(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_./:@%+,-", c)
	}
	if s != "" && strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func segment(s string) string { return url.PathEscape(s) }
