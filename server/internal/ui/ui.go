// Package ui is a first web page: who is here, and is it well. It is rendered on the
// server, needs no script and nothing from outside, and asks for what it shows through
// functions that it is given.
package ui

import (
	"embed"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

//go:embed page.html
var files embed.FS

// Config is where the page gets what it shows. An error of a function is shown too.
type Config struct {
	Path       string // the page's path, with slashes at both ends
	Datacenter string
	Node       string
	Version    string
	Services   func(r *http.Request) (map[string][]string, error)
	Instances  func(r *http.Request, service string) ([]*api.Instance, error)
	Members    func() ([]api.Member, error)
}

// Handler serves the page: all services at its path, one at path/services/NAME.
func Handler(cfg Config) http.Handler {
	page := template.Must(template.New("page.html").Funcs(template.FuncMap{"status": Status}).ParseFS(files, "page.html"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tail := strings.TrimPrefix(r.URL.Path, cfg.Path)
		name, one := strings.CutPrefix(tail, "services/")
		if tail != "" && (!one || name == "") {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		data := collect(cfg, r, name)
		if err := page.Execute(w, data); err != nil {
			return // the client left
		}
	})
}

// view is what the page shows.
type view struct {
	Config
	One      string // the service that is shown alone
	Services []service
	Members  []api.Member
	Counts   map[string]int
	Err      error
}

type service struct {
	Name      string
	Tags      []string
	Instances []*api.Instance
}

func collect(cfg Config, r *http.Request, one string) view {
	v := view{Config: cfg, One: one, Counts: map[string]int{}}
	names, err := cfg.Services(r)
	if err != nil {
		v.Err = err
		return v
	}
	for name, tags := range names {
		if one != "" && name != one {
			continue
		}
		list, err := cfg.Instances(r, name)
		if err != nil {
			v.Err = err
			return v
		}
		for _, i := range list {
			v.Counts[Status(i)]++
		}
		v.Services = append(v.Services, service{name, tags, list})
	}
	slices.SortFunc(v.Services, func(a, b service) int { return strings.Compare(a.Name, b.Name) })
	v.Members, v.Err = cfg.Members()
	return v
}

// Status is the worst state of an instance's checks; maintenance is worse than critical.
func Status(i *api.Instance) string {
	worst := api.Passing
	for _, c := range i.Checks {
		switch {
		case c.CheckID == api.NodeMaintenance || strings.HasPrefix(c.CheckID, api.ServiceMaintenancePrefix):
			return "maintenance"
		case c.Status == api.Critical:
			worst = api.Critical
		case c.Status == api.Warning && worst == api.Passing:
			worst = api.Warning
		}
	}
	return worst
}
