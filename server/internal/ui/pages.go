package ui

import (
	"net/http"

	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// page is one path with what answers it.
type page struct {
	path  string // below the UI's
	nav   string // the word in the navigation, "" for pages below another
	under string // the path of the page in the navigation that it belongs to
	get   func(*request) (view, error)
	post  func(*request) (view, error)
	// streams: what is sent to it may be large, and post bounds the waits for it
	streams bool
}

// pages are all there are, in the order of the navigation. It is filled once, since
// handlers show the navigation themselves.
var pages []page

func init() {
	pages = []page{
		{path: "", nav: "Now", get: nowPage},
		{path: "services", nav: "Services", get: servicesPage},
		{path: "service", under: "services", get: servicePage},
		{path: "instance", under: "services", get: instancePage},
		{path: "nodes", nav: "Nodes", get: nodesPage},
		{path: "node", under: "nodes", get: nodePage},
		{path: "kv", nav: "Keys", get: kvPage, post: kvPost},
		{path: "key", under: "kv", get: keyPage, post: keyPost},
		{path: "export", under: "kv", get: kvExport},
		{path: "sessions", nav: "Sessions", get: sessionsPage},
		{path: "session", under: "sessions", get: sessionPage, post: sessionPost},
		{path: "queries", nav: "Queries", get: queriesPage},
		{path: "query", under: "queries", get: queryPage, post: queryPost},
		{path: "events", nav: "Events", get: eventsPage, post: eventsPost},
		{path: "access", nav: "Access", get: accessPage, post: accessPost},
		{path: "token", under: "access", get: tokenPage, post: tokenPost},
		{path: "policy", under: "access", get: policyPage, post: policyPost},
		{path: "role", under: "access", get: rolePage, post: rolePost},
		{path: "method", under: "access", get: methodPage, post: methodPost},
		{path: "rule", under: "access", get: rulePage, post: rulePost},
		{path: "agents", nav: "Agents", get: agentsPage},
		{path: "cluster", nav: "Cluster", get: clusterPage},
		{path: "snapshot", under: "cluster", get: snapshotGet, post: snapshotPost, streams: true},
		{path: "dc", get: nowPage, post: dcPost},
		{path: "login", get: loginPage, post: loginPost},
		{path: "logout", post: logoutPost, get: loginPage},
	}
}

// frame is what stands around a page's body.
type frame struct {
	*request
	title      string
	path       string
	under      string
	live       string // where the page hears of changes
	since      string // stale: since when
	sinceStamp string
	why        string // stale: why
	theme      string
	dcs        []string // where there are several
}

func (r *request) frame(p page, v view) frame {
	f := frame{request: r, title: v.title, path: p.path, under: p.under, theme: "auto"}
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		f.theme = c.Value
	}
	if err := r.get("/v1/catalog/datacenters", nil, &f.dcs); err != nil || len(f.dcs) < 2 && r.dc == "" {
		f.dcs = nil
	}
	q := make(values)
	for _, t := range v.topics {
		q.add("t", string(t))
	}
	if v.name != "" {
		q.add("name", v.name)
	}
	if v.record {
		q.add("record", "1")
	}
	if v.every > 0 {
		q.add("every", v.every.String())
	}
	missing := v.code == http.StatusNotFound
	if missing { // it need not be asked for again before something changes
		at := uint64(0)
		if len(v.topics) > 0 {
			at = r.version
		}
		q.add("seen", utoa(at))
	}
	switch {
	case r.Method == http.MethodPost: // what a form led to must stay until it is read
	case missing && len(v.topics) == 0 && v.every == 0: // it will never be
	default:
		f.live = r.link("live", q)
	}
	if since, why := r.stale(v); why != "" {
		f.since, f.sinceStamp, f.why = clock(since), stamp(since), why
	}
	return f
}

// at reports whether a page of the navigation is the present one.
func (f frame) at(p page) bool {
	return p.path == f.path && f.title != "Not found" || f.under != "" && p.path == f.under
}

// What pages follow: the catalog, and with it those who announce themselves.
var (
	catalogTopic = []endpoint.Kind{endpoint.UINodes}
	suiteTopic   = []endpoint.Kind{endpoint.UINodes, endpoint.KVList}
)
