// Package ui is the web page below /ui/: who is here, is it well, what changed. Pages are
// rendered on the server and read well without script; with it they stay live: the server
// says that something changed, and the page asks for itself again.
//
// Reads of the catalog go through a hub, which holds one blocking read a topic for all who
// look. Everything else, and every write, goes through the HTTP API with the viewer's
// token, so that the API's rules hold here too. What changed is kept in bounded memory,
// from the start of this agent on.
package ui

import (
	"bytes"
	"context"
	"embed"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/a-h/templ"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

//go:generate go tool -modfile=../../../tools/go.mod templ generate

//go:embed static
var static embed.FS

// Config is what the page shows and whom it asks.
type Config struct {
	Path       string // where the page is, with slashes at both ends
	Datacenter string
	Node       string
	Version    string
	Domain     string // of DNS names. Default consul
	ACL        bool   // access control is on

	Endpoint endpoint.Endpoint // for reads of the catalog
	API      http.Handler      // for all else, with the rules that hold for clients
	// OwnToken is the agent's own, which the record of changes is kept with; DefaultToken
	// is that of viewers without one.
	OwnToken, DefaultToken func() string
	// Sees says what the bearer of a token may see of the record of changes.
	Sees func(ctx context.Context, token string) (func(node, service string) bool, error)
}

// UI is the page. It works while Run does.
type UI struct {
	cfg      Config
	hub      *hub
	timeline *timeline
	standing atomic.Pointer[standing]
	bell     bell // rings when standing changes
	guard    *http.CrossOriginProtection
	assets   map[string]asset
	samples  samples
}

// New makes the page; it starts nothing.
func New(cfg Config) *UI {
	cfg.Domain = strings.Trim(cfg.Domain, ".")
	if cfg.Domain == "" {
		cfg.Domain = "consul"
	}
	u := &UI{cfg: cfg, timeline: newTimeline(time.Now()), guard: http.NewCrossOriginProtection(), assets: readAssets()}
	u.hub = newHub(cfg.Endpoint, build)
	u.standing.Store(&standing{})
	return u
}

// Run follows the catalog and writes down what changes, until ctx ends.
func (u *UI) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { u.hub.run(ctx) })
	all.Go(func() { u.record(ctx) })
	all.Go(func() { u.watchLeader(ctx) })
	all.Go(func() { u.sample(ctx) })
	all.Wait()
	return nil
}

// build gives what pages show of an answer.
func build(t topic, a *endpoint.Answer) (any, error) {
	switch t.kind {
	case endpoint.UINodes:
		infos, err := endpoint.Into[[]*api.NodeInfo](a)
		if err != nil {
			return nil, err
		}
		return newCatalog(infos, a.Meta.Index), nil
	case endpoint.KVList: // of announce.Prefix alone
		pairs, err := endpoint.Into[[]*api.KVPair](a)
		return newSuite(pairs), err
	case endpoint.CoordinateNodes:
		list, err := endpoint.Into[[]*api.CoordinateEntry](a)
		return list, err
	}
	return struct{}{}, nil // only that it changed counts
}

// view is what a page's handler gives: what to show, and what changes it.
type view struct {
	title  string
	body   templ.Component
	topics []endpoint.Kind // those that the page is about
	name   string          // of what in these topics
	record bool            // it shows the record of changes
	every  time.Duration   // to be looked at again, for what nothing tells of
	code   int             // default 200
	to     string          // go there instead, below the page's path
	sent   bool            // the handler has answered
}

// policy lets the page use its own files and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers everything below the page's path.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	if trustworthy(r) {
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	tail := strings.TrimPrefix(r.URL.Path, u.cfg.Path)
	if name, ok := strings.CutPrefix(tail, "static/"); ok {
		u.serveAsset(w, r, name)
		return
	}
	h.Set("Cache-Control", "no-store")
	req := u.request(w, r)
	if tail == "live" {
		u.live(req)
		return
	}
	at := slices.IndexFunc(pages, func(p page) bool { return p.path == tail })
	switch {
	case at < 0:
		u.show(req, page{}, notFound(req, "There is no such page."))
		return
	case r.Method == http.MethodPost && pages[at].post != nil:
		if err := u.guard.Check(r); err != nil {
			u.show(req, pages[at], failure(req, api.Errorf(api.Forbidden, "this form was sent from another site: %v", err)))
			return
		}
		if !pages[at].streams {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		}
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(formTime))
		u.answer(req, pages[at], pages[at].post)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		u.answer(req, pages[at], pages[at].get)
	default:
		h.Set("Allow", "GET, HEAD")
		u.show(req, pages[at], view{title: "Not allowed", code: http.StatusMethodNotAllowed, body: problem("This page does not take " + r.Method + ".")})
	}
}

// trustworthy says whether browsers trust where a page comes from: over TLS, or from their
// own machine. Elsewhere they complain of headers that want it.
func trustworthy(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	host := (&url.URL{Host: r.Host}).Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

const (
	maxForm  = 8 << 20 // an import
	formTime = 30 * time.Second
)

func (u *UI) answer(req *request, p page, handle func(*request) (view, error)) {
	v, err := handle(req)
	if err != nil {
		v = failure(req, err)
	}
	if v.sent {
		return
	}
	if v.code == http.StatusSeeOther {
		http.Redirect(req.w, req.Request, u.cfg.Path+v.to, http.StatusSeeOther)
		return
	}
	u.show(req, p, v)
}

// show renders a page. Nothing is sent before all of it is there.
func (u *UI) show(req *request, p page, v view) {
	var body bytes.Buffer
	if err := layout(req.frame(p, v), v.body).Render(req.Context(), &body); err != nil {
		http.Error(req.w, "the page cannot be rendered: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := req.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	send(req.w, req.Request, max(v.code, http.StatusOK), body.Bytes())
}

// codeOf is the status of a page that shows an error.
func codeOf(err error) int {
	switch api.KindOf(err) {
	case api.Invalid, api.TooLarge:
		return http.StatusBadRequest
	case api.NotFound:
		return http.StatusNotFound
	case api.Forbidden, api.Unauthorized:
		return http.StatusForbidden
	case api.Conflict:
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}

func failure(req *request, err error) view {
	code := codeOf(err)
	title := map[int]string{
		http.StatusBadRequest: "That cannot be done", http.StatusNotFound: "Not found", http.StatusForbidden: "Not allowed",
		http.StatusConflict: "Somebody was faster", http.StatusServiceUnavailable: "The catalog does not answer",
	}[code]
	return view{title: title, code: code, body: failed(req, title, err.Error(), code == http.StatusForbidden && req.cookie == "" && req.ui.cfg.ACL), every: 5 * time.Second}
}

func notFound(_ *request, text string) view {
	return view{title: "Not found", code: http.StatusNotFound, body: problem(text)}
}

// bell wakes all who wait for it.
type bell struct {
	mu sync.Mutex
	c  chan struct{}
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}

func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

// itoa spares templates the conversion.
func itoa(n int) string { return strconv.Itoa(n) }
