// Package status is the registrator's own HTTP face: what became of each container and
// why, whether all is well, metrics, and a way to drain containers before they are
// stopped. It reads through small interfaces and keeps nothing. Requests that come from a
// page of another site in a browser may read, and change nothing.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/rollcall/rollcall/registrator/internal/reconcile"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// Engine is what the pages know of the engine; the watcher is one.
type Engine interface {
	State() watcher.State
	// Drain puts containers into draining, or out of it, and gives their ids.
	Drain(ctx context.Context, ref string, on bool) ([]string, error)
}

// Catalog is what the pages know of the catalog; the reconciler is one.
type Catalog interface {
	State() reconcile.State
	Verdicts(ctx context.Context) ([]reconcile.Verdict, error)
	// Outlook says what is about to be written, and why the rest stays as it is.
	Outlook(ctx context.Context) ([]reconcile.Step, error)
	// Decisions gives the latest writes, the latest first.
	Decisions(ctx context.Context) ([]reconcile.Decision, error)
	// Drained waits until everything of these containers is out of service.
	Drained(ctx context.Context, ids []string) error
}

// Server serves the pages.
type Server struct {
	engine  Engine
	catalog Catalog
	log     *slog.Logger
	handler http.Handler
}

// patience is how long the catalog may be away before the registrator is not ready.
const patience = 30 * time.Second

// drainWait bounds a request to drain.
const drainWait = 30 * time.Second

// New makes a server of what it shows.
func New(engine Engine, catalog Catalog, metrics prometheus.Gatherer, log *slog.Logger) *Server {
	s := &Server{engine: engine, catalog: catalog, log: log.With("room", "status")}
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(*http.Request) (any, error){
		"GET /containers":           s.containers,
		"GET /plan":                 s.plan,
		"GET /readyz":               s.ready,
		"GET /healthz":              s.healthy,
		"POST /drain":               s.drain,
		"POST /drain/{container}":   s.drain,
		"DELETE /drain":             s.undrain,
		"DELETE /drain/{container}": s.undrain,
	} {
		mux.HandleFunc(pattern, s.envelope(h))
	}
	mux.HandleFunc("GET /metrics", s.expose(metrics))
	mux.Handle("GET /{$}", http.RedirectHandler("/containers", http.StatusFound))
	s.handler = http.NewCrossOriginProtection().Handler(mux)
	return s
}

// expose serves metrics as text. promhttp does that, too, and brings half a megabyte of
// compression along.
func (s *Server) expose(metrics prometheus.Gatherer) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		all, err := metrics.Gather()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		format := expfmt.NewFormat(expfmt.TypeTextPlain)
		w.Header().Set("Content-Type", string(format))
		e := expfmt.NewEncoder(w, format)
		for _, f := range all {
			if err := e.Encode(f); err != nil {
				s.log.Debug("metrics not written", "err", err)
				return
			}
		}
	}
}

// Run serves on l until ctx ends, and closes it.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s.handler, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan error, 1) // so that the sender never waits
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("status pages on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := srv.Shutdown(bound)
	if err != nil {
		srv.Close()
	}
	<-ended
	return nil
}

// problem is an answer other than 200.
type problem struct {
	code int
	text string
}

func (p problem) Error() string { return p.text }

// text is an answer that is no JSON.
type text string

// envelope answers what a handler gives: text as it is, everything else as JSON, or as
// the page where a browser asks.
func (s *Server) envelope(h func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		got, err := h(r)
		if err != nil {
			code := http.StatusInternalServerError
			if p, ok := errors.AsType[problem](err); ok {
				code = p.code
			}
			http.Error(w, err.Error(), code)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		if t, ok := got.(text); ok {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintln(w, t)
			return
		}
		w.Header().Add("Vary", "Accept")
		if list, ok := got.(*listing); ok && strings.Contains(r.Header.Get("Accept"), "text/html") && r.FormValue("format") != "json" {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
			if err := page.Execute(w, list); err != nil {
				s.log.Debug("page not written", "err", err)
			}
			return
		}
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(got); err != nil {
			s.log.Debug("answer not written", "err", err)
		}
	}
}

// listing is what /containers shows.
type listing struct {
	Engine     engineState
	Catalog    reconcile.State
	Containers []reconcile.Verdict
	Decisions  []reconcile.Decision // the latest first
}

type engineState struct {
	Name, ID, Version, API string
	Connected              bool
	Since                  time.Time
	Err                    string
}

func (s *Server) containers(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	v, err := s.catalog.Verdicts(ctx)
	if err != nil {
		return nil, fmt.Errorf("containers: %w", err)
	}
	d, err := s.catalog.Decisions(ctx)
	if err != nil {
		return nil, fmt.Errorf("decisions: %w", err)
	}
	e := s.engine.State()
	return &listing{
		Engine:  engineState{Name: e.Engine.Name, ID: e.Engine.ID, Version: e.Engine.Version, API: e.Engine.API, Connected: e.Connected, Since: e.Since, Err: e.Err},
		Catalog: s.catalog.State(), Containers: v, Decisions: d,
	}, nil
}

// plan is JSON, or a table with ?format=table.
func (s *Server) plan(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	steps, err := s.catalog.Outlook(ctx)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	switch f := r.FormValue("format"); f {
	case "", "json":
		return steps, nil
	case "table":
		var b strings.Builder
		if err := reconcile.WriteTable(&b, steps); err != nil {
			return nil, err
		}
		return text(strings.TrimSuffix(b.String(), "\n")), nil
	default:
		return nil, problem{http.StatusBadRequest, fmt.Sprintf("there is no format %q: use json or table", f)}
	}
}

// healthy tells that the process works: its two loops answer.
func (s *Server) healthy(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if _, err := s.catalog.Verdicts(ctx); err != nil {
		return nil, problem{http.StatusServiceUnavailable, "reconciling does not answer: " + err.Error()}
	}
	return text("ok"), nil
}

// ready tells that the catalog is right as far as can be known.
func (s *Server) ready(*http.Request) (any, error) {
	e, c := s.engine.State(), s.catalog.State()
	switch {
	case !e.Connected:
		return nil, problem{http.StatusServiceUnavailable, "the engine is away: " + e.Err}
	case !e.Complete:
		return nil, problem{http.StatusServiceUnavailable, "the containers are not known yet"}
	case !c.Connected && (!c.Settled || time.Since(c.Since) > patience):
		return nil, problem{http.StatusServiceUnavailable, "the catalog is away: " + c.Err}
	case c.Standby != "":
		return text(c.Standby), nil
	case !c.Settled:
		return nil, problem{http.StatusServiceUnavailable, fmt.Sprintf("%d writes are under way", c.Pending)}
	}
	return text("ready"), nil
}

// drain takes containers out of service and answers when the catalog has it.
func (s *Server) drain(r *http.Request) (any, error) {
	ids, err := s.mark(r, true)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), drainWait)
	defer cancel()
	if err := s.catalog.Drained(ctx, ids); err != nil {
		return nil, problem{http.StatusGatewayTimeout, "marked, but the catalog does not have it yet: " + err.Error()}
	}
	return map[string][]string{"Drained": ids}, nil
}

func (s *Server) undrain(r *http.Request) (any, error) {
	ids, err := s.mark(r, false)
	if err != nil {
		return nil, err
	}
	return map[string][]string{"InService": ids}, nil
}

func (s *Server) mark(r *http.Request, on bool) ([]string, error) {
	ref := r.PathValue("container")
	ctx, cancel := context.WithTimeout(r.Context(), drainWait)
	defer cancel()
	ids, err := s.engine.Drain(ctx, ref, on)
	if err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	if len(ids) == 0 && ref != "" {
		return nil, problem{http.StatusNotFound, fmt.Sprintf("no running container %q: give its name, its id, or at least four digits of it", ref)}
	}
	s.log.Info("drain by request", "container", ref, "on", on, "containers", len(ids), "from", r.RemoteAddr)
	return ids, nil
}
