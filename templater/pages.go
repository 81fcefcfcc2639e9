package main

import (
	"net/http"
	"sync/atomic"

	"github.com/rollcall/rollcall/templater/internal/status"
)

// pages serves the status of whatever configuration runs now.
type pages struct{ handler atomic.Pointer[http.Handler] }

// set shows r from now on.
func (p *pages) set(r *running) {
	h := r.source().Handler()
	p.handler.Store(&h)
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*p.handler.Load()).ServeHTTP(w, r)
}

// source is where the status comes from.
func (r *running) source() status.Source {
	return status.Source{
		Groups: r.runner.Status, Dependencies: r.pool.States, CatalogDown: r.pool.DownFor,
		Ready: func() bool {
			for _, g := range r.runner.Status() {
				if g.LastError != "" {
					return false
				}
			}
			return r.runner.Adopted()
		},
	}
}
