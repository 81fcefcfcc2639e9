// Package status is the templater's page: what nginx was given, when and why not. It only
// reads.
package status

import (
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/templater/internal/run"
	"github.com/rollcall/rollcall/templater/internal/watch"
)

// Source is where the page gets what it shows.
type Source struct {
	Groups       func() []run.Status
	Dependencies func() []watch.State
	// CatalogDown is how long the catalog has not answered, 0 while it does.
	CatalogDown func() time.Duration
	Ready       func() bool
}

// Report is the page's data, and its JSON.
type Report struct {
	Catalog      string
	Stale        time.Duration // how long the catalog has not answered
	Ready        bool
	Groups       []run.Status
	Dependencies []watch.State
}

var page = template.Must(template.New("status").Funcs(template.FuncMap{
	"ago": func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return time.Since(t).Round(time.Second).String() + " ago"
	},
	"round": func(d time.Duration) string { return d.Round(time.Second).String() },
}).Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5">
<title>templater</title><style>:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:1rem auto;max-width:70rem;padding:0 1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884;vertical-align:top}.bad{color:#cf222e}.good{color:#1a7f37}</style>
<h1>templater</h1><p>{{if .Ready}}<span class="good">ready</span>{{else}}<span class="bad">not ready</span>{{end}}, catalog {{.Catalog}}</p>
<table><thead><tr><th>Group<th>Files<th>State<th>Generation<th>Applied<th>Index<th>Instances<th>Times</thead><tbody>{{range .Groups}}<tr><td>{{.Name}}<td>{{range .Files}}{{.}}<br>{{end}}
<td>{{if .LastError}}<span class="bad">{{.Stage}}: {{.LastError}}</span>{{else if .Held}}<span class="bad">held: {{.Held}}</span>{{if not .HeldUntil.IsZero}} until {{.HeldUntil.Format "15:04:05"}}{{end}}{{else if .Ready}}<span class="good">applied</span>{{else}}pending{{end}}
{{if .Pinned}}<br>generation {{.Pinned}} is pinned by a rollback{{end}}
{{range $f, $m := .Missing}}<br>{{$f}} waits for {{range $m}}{{.}} {{end}}{{end}}
<td>{{.Generation}}<td>{{ago .AppliedAt}}, {{.Applies}} times, {{.Reloads}} reloads, {{.Failures}} failures<td>{{.Index}}<td>{{range $s, $n := .Instances}}{{$s}} {{$n}}<br>{{end}}<td>render {{.RenderMS}} ms, check {{.CheckMS}} ms, reload {{.ReloadMS}} ms{{end}}</tbody></table>
<h2>Dependencies</h2><table><thead><tr><th>Name<th>Index<th>Last answer<th>State</thead><tbody>{{range .Dependencies}}<tr><td>{{.Name}}<td>{{.Index}}<td>{{if .Known}}{{round .Age}} ago{{else}}waiting for {{round .Waiting}}{{end}}
<td>{{if .Error}}<span class="bad">{{.Error}}</span>{{else}}well{{end}}{{end}}</tbody></table></html>
`))

// Handler serves /status (a page, or JSON), /metrics, /healthz and /readyz.
func (s Source) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/status", http.StatusFound) })
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.Ready() {
			http.Error(w, "not every group is applied: /status says why", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// Report gives everything as it stands.
func (s Source) Report() Report {
	r := Report{Catalog: "answers", Stale: s.CatalogDown(), Ready: s.Ready(), Groups: s.Groups(), Dependencies: s.Dependencies()}
	if r.Stale > 0 {
		r.Catalog = "does not answer"
	}
	return r
}

func (s Source) status(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("format") != "json" && strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		page.Execute(w, s.Report()) // the client may have left
		return
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(s.Report()) // likewise
}

// metrics are few and plain enough to be written by hand.
func (s Source) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	r := s.Report()
	one := func(name, help, kind string, value float64) {
		fmt.Fprintf(w, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n%[1]s %[4]g\n", name, help, kind, value)
	}
	one("templater_catalog_connected", "Whether the catalog's last word was an answer.", "gauge", number(r.Stale == 0))
	one("templater_stale_seconds", "How long the catalog has not answered.", "gauge", r.Stale.Seconds())
	one("templater_ready", "Whether every group is applied and none has failed.", "gauge", number(r.Ready))
	one("templater_dependencies", "Distinct things that templates read; each has one watch.", "gauge", float64(len(r.Dependencies)))
	for _, m := range metrics {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
		for _, g := range r.Groups {
			fmt.Fprintf(w, "%s{group=%q} %g\n", m.name, g.Name, m.of(g))
		}
	}
	const instances = "templater_service_instances"
	fmt.Fprintf(w, "# HELP %[1]s Instances of a service in the applied files.\n# TYPE %[1]s gauge\n", instances)
	for _, g := range r.Groups {
		for _, service := range slices.Sorted(maps.Keys(g.Instances)) {
			fmt.Fprintf(w, "%s{group=%q,service=%q} %d\n", instances, g.Name, service, g.Instances[service])
		}
	}
}

// metrics are those of each group.
var metrics = []struct {
	name, help, kind string
	of               func(run.Status) float64
}{
	{"templater_group_ready", "Whether the group's files are applied.", "gauge", func(g run.Status) float64 { return number(g.Ready) }},
	{"templater_group_held", "Whether a set waits because it would take too much away, or is pinned.", "gauge", func(g run.Status) float64 { return number(g.Held != "") }},
	{"templater_applies_total", "Sets of files that went live.", "counter", func(g run.Status) float64 { return float64(g.Applies) }},
	{"templater_reloads_total", "Sets of files that needed a reload.", "counter", func(g run.Status) float64 { return float64(g.Reloads) }},
	{"templater_failures_total", "Templates or sets that were refused or failed.", "counter", func(g run.Status) float64 { return float64(g.Failures) }},
	{"templater_last_apply_timestamp_seconds", "When a set last went live.", "gauge", func(g run.Status) float64 { return unix(g.AppliedAt) }},
	{"templater_applied_index", "Index of the catalog that the applied files reflect.", "gauge", func(g run.Status) float64 { return float64(g.Index) }},
	{"templater_upstream_servers", "Servers in the upstreams of the applied files.", "gauge", func(g run.Status) float64 { return float64(g.Servers) }},
	{"templater_draining_workers", "Old workers of nginx that still served at the last look.", "gauge", func(g run.Status) float64 { return float64(g.Draining) }},
	{"templater_check_seconds", "How long the last check took.", "gauge", func(g run.Status) float64 { return g.CheckMS / 1000 }},
	{"templater_reload_seconds", "How long the last reload took, until it was verified.", "gauge", func(g run.Status) float64 { return g.ReloadMS / 1000 }},
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
