// Package ui is a first web page: who is here, and is it well. It is rendered on the
// server, needs no script and nothing from outside, and asks for what it shows through
// functions that it is given. It changes nothing.
package ui

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
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
	Domain     string // of DNS names. Default consul
	Services   func(r *http.Request) (map[string][]string, error)
	Instances  func(r *http.Request, service string) ([]*api.Instance, error)
	Members    func() ([]api.Member, error)
}

// policy lets the page have its own style and nothing else.
const policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page: all services at its path, one at path/services/NAME.
func Handler(cfg Config) http.Handler {
	cfg.Domain = strings.Trim(cfg.Domain, ".")
	if cfg.Domain == "" {
		cfg.Domain = "consul"
	}
	page := template.Must(template.New("page.html").Funcs(template.FuncMap{"status": Status, "letter": letter, "segment": url.PathEscape}).ParseFS(files, "page.html"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the page is only for reading", http.StatusMethodNotAllowed)
			return
		}
		tail := strings.TrimPrefix(r.URL.Path, cfg.Path)
		name, one := strings.CutPrefix(tail, "services/")
		if tail != "" && (!one || name == "") {
			http.NotFound(w, r)
			return
		}
		v := collect(cfg, r, name)
		var body bytes.Buffer
		if err := page.Execute(&body, v); err != nil {
			http.Error(w, "the page cannot be rendered: "+err.Error(), http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Length", strconv.Itoa(body.Len()))
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(v.code())
		w.Write(body.Bytes()) // the client may have left: nobody to tell
	})
}

// view is what the page shows.
type view struct {
	Config
	Host     string // by which the client reached this agent
	One      string // the service that is shown alone
	Services []service
	Members  []api.Member
	Counts   map[string]int // instances by status
	Err      error
}

type service struct {
	Name      string
	Tags      []string
	Instances []*api.Instance
}

func collect(cfg Config, r *http.Request, one string) view {
	v := view{Config: cfg, Host: r.Host, One: one, Counts: map[string]int{}}
	names, err := cfg.Services(r)
	if err != nil {
		v.Err = err
		return v
	}
	for name, tags := range names {
		if one != "" && !strings.EqualFold(name, one) {
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
	if one == "" {
		v.Members, v.Err = cfg.Members()
	}
	return v
}

// code is the view's HTTP status.
func (v *view) code() int {
	switch {
	case v.Err != nil:
		return http.StatusServiceUnavailable
	case v.One != "" && len(v.Services) == 0:
		return http.StatusNotFound
	}
	return http.StatusOK
}

// Failed is how many members are neither there nor gone on purpose.
func (v view) Failed() int {
	n := 0
	for _, m := range v.Members {
		if m.Status == api.StatusFailed {
			n++
		}
	}
	return n
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

// letter says a status where colour alone would not do.
func letter(status string) string { return strings.ToUpper(status[:1]) }
