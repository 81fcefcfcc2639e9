package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// Cookies. The token's cannot be read by scripts, nor is it sent from other sites.
const (
	tokenCookie = "rollcall_token"
	dcCookie    = "rollcall_dc"
	themeCookie = "rollcall_theme" // written by the page's script
)

// request is one request of a viewer.
type request struct {
	*http.Request
	ui     *UI
	w      http.ResponseWriter
	cookie string // the token that the viewer logged in with
	token  string // that, or the agent's default
	dc     string // the datacenter that is looked at, "" for the agent's own

	version  uint64 // of the catalog, once looked at
	known    suite  // once asked for
	serving  fronts // once gathered
	gathered bool
}

func (u *UI) request(w http.ResponseWriter, r *http.Request) *request {
	req := &request{Request: r, ui: u, w: w}
	if c, err := r.Cookie(tokenCookie); err == nil {
		req.cookie, _ = url.QueryUnescape(c.Value)
	}
	if req.token = req.cookie; req.token == "" {
		req.token = u.cfg.DefaultToken()
	}
	if c, err := r.Cookie(dcCookie); err == nil && c.Value != "" && c.Value != u.cfg.Datacenter {
		req.dc, _ = url.QueryUnescape(c.Value)
	}
	return req
}

// topic is a read as this viewer may make it.
func (r *request) topic(kind endpoint.Kind, name string) topic {
	return topic{kind: kind, name: name, dc: r.dc, token: r.token}
}

// catalog gives the catalog as the viewer may see it. stale says why it may be old.
func (r *request) catalog() (*catalog, error) {
	s, err := r.ui.hub.get(r.Context(), r.topic(endpoint.UINodes, ""))
	if err != nil {
		return nil, err
	}
	if r.version == 0 {
		r.version = s.version
	}
	return s.value.(*catalog), nil
}

// stale says since when, and why, what the viewer sees may be old; zero if it is not.
func (r *request) stale(v view) (since time.Time, why string) {
	if st := r.ui.standing.Load(); st.Known && st.Leader == "" {
		return st.Since, "The cluster has no leader."
	}
	for _, kind := range v.topics {
		if kind != endpoint.UINodes {
			continue
		}
		s, err := r.ui.hub.get(r.Context(), r.topic(kind, ""))
		if err == nil && s.err != nil {
			return s.at, "The catalog does not answer: " + s.err.Error()
		}
	}
	return time.Time{}, ""
}

// sees says what the viewer may see of the record of changes. It tells of the agent's own
// datacenter only.
func (r *request) sees() func(*event) bool {
	nothing := func(*event) bool { return false }
	if r.dc != "" {
		return nothing
	}
	may, err := r.ui.cfg.Sees(r.Context(), r.token)
	if err != nil {
		return nothing
	}
	return func(e *event) bool {
		switch e.Kind {
		case led:
			return true
		case reloaded, refused: // by a program of the suite, no service
			return may(e.Node, "")
		}
		return may(e.Node, e.Service)
	}
}

// call sends a request to the API as the viewer, and decodes the answer into out unless
// that is nil. What is not found is an error of that kind.
func (r *request) call(method, path string, query url.Values, body []byte, out any) error {
	_, err := r.fetch(method, path, query, body, out)
	return err
}

func (r *request) get(path string, query url.Values, out any) error {
	return r.call(http.MethodGet, path, query, nil, out)
}

// fetch is call that gives the answer's header, too.
func (r *request) fetch(method, path string, query url.Values, body []byte, out any) (http.Header, error) {
	query = r.there(query)
	if st := r.ui.standing.Load(); method == http.MethodGet && r.dc == "" && st.Known && st.Leader == "" {
		query.Set("stale", "") // who asks for more would wait for a leader
	}
	h, raw, err := r.raw(r.Context(), method, path, query, body)
	if method == http.MethodGet && err != nil && api.KindOf(err) == api.Unavailable && !query.Has("stale") {
		query.Set("stale", "") // without a leader: the page says that it may be old
		h, raw, err = r.raw(r.Context(), method, path, query, body)
	}
	if err != nil || out == nil {
		return h, err
	}
	if p, ok := out.(*[]byte); ok {
		*p = raw
		return h, nil
	}
	return h, json.Unmarshal(raw, out)
}

// there adds the datacenter that is looked at to a query, which may be nil.
func (r *request) there(query url.Values) url.Values {
	if query == nil {
		query = url.Values{}
	}
	if r.dc != "" {
		query.Set("dc", r.dc)
	}
	return query
}

// raw carries a request out in this process.
func (r *request) raw(ctx context.Context, method, path string, query url.Values, body []byte) (http.Header, []byte, error) {
	w := &memory{header: http.Header{}, code: http.StatusOK}
	r.ui.cfg.API.ServeHTTP(w, r.inner(ctx, method, path, query, bytes.NewReader(body), int64(len(body))))
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	if w.code >= 300 {
		text := strings.TrimSpace(w.body.String())
		if text == "" {
			text = http.StatusText(w.code)
		}
		return w.header, nil, api.Errorf(kindOf(w.code), "%s", text)
	}
	return w.header, w.body.Bytes(), nil
}

// inner is a request to the API in this process, as the viewer; length is -1 where it is
// not known.
func (r *request) inner(ctx context.Context, method, path string, query url.Values, body io.Reader, length int64) *http.Request {
	to := &http.Request{
		Method: method, URL: &url.URL{Path: path, RawQuery: query.Encode()}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Host: r.Host, RemoteAddr: r.RemoteAddr, TLS: r.TLS,
		Body: io.NopCloser(body), ContentLength: length,
	}
	to.RequestURI = to.URL.RequestURI()
	if r.token != "" {
		to.Header.Set("X-Consul-Token", r.token)
	}
	return to.WithContext(ctx)
}

// kindOf is what a status of the API means.
func kindOf(code int) api.Kind {
	switch code {
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		return api.Invalid
	case http.StatusNotFound:
		return api.NotFound
	case http.StatusForbidden:
		return api.Forbidden
	case http.StatusUnauthorized:
		return api.Unauthorized
	case http.StatusConflict:
		return api.Conflict
	case http.StatusRequestEntityTooLarge:
		return api.TooLarge
	case http.StatusTooManyRequests:
		return api.Busy
	}
	return api.Unavailable
}

// memory keeps an answer.
type memory struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (m *memory) Header() http.Header         { return m.header }
func (m *memory) WriteHeader(code int)        { m.code = code }
func (m *memory) Write(b []byte) (int, error) { return m.body.Write(b) }

// page is the number of the page asked for, from 1 on.
func (r *request) page() int {
	n, err := strconv.Atoi(r.FormValue("page"))
	if err != nil {
		return 1
	}
	return min(max(n, 1), 1<<20)
}
