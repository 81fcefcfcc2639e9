package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/watchplan"
)

// watchesOf gives the configuration's watches with their handlers, each by all that is said
// of it, so that a reload leaves those alone that did not change.
func (a *Agent) watchesOf(cfg *config.Config) map[string]watchplan.Entry {
	log := a.log.With("room", "watch")
	out := make(map[string]watchplan.Entry, len(cfg.Watches))
	for _, w := range cfg.Watches {
		b, err := json.Marshal(w)
		if err != nil { // strings, numbers and maps of them: it cannot
			log.Error("watch not started", "watch", w.String(), "err", err)
			continue
		}
		e := watchplan.Entry{Query: w.Query()}
		switch {
		case w.HandlerType == "http":
			h := w.HTTP
			e.Handle = watchplan.Send(watchplan.Target{URL: h.Path, Method: h.Method, Timeout: h.Timeout, Header: h.Header, TLSSkipVerify: h.TLSSkipVerify}, log)
		case w.Handler != "":
			e.Handle = watchplan.Shell(w.Handler, log)
		default:
			e.Handle = watchplan.Program(w.Args, log)
		}
		key := string(b)
		for n := 2; out[key].Handle != nil; n++ { // said twice: it runs twice
			key = string(b) + strconv.Itoa(n)
		}
		out[key] = e
	}
	return out
}

// inside carries requests of the agent's own out by the HTTP API, without a connection: no
// listener has to be open, and no limit for clients holds.
type inside struct{ api http.Handler }

// Do carries out a request.
func (i inside) Do(r *http.Request) (*http.Response, error) {
	w := &recorder{header: http.Header{}, code: http.StatusOK}
	r.RequestURI = r.URL.RequestURI()
	i.api.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: w.code, Status: http.StatusText(w.code), Header: w.header, Body: io.NopCloser(&w.body), Request: r}, nil
}

// recorder keeps an answer in memory.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
