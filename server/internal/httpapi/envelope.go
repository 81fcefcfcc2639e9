package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// request is an HTTP request with what every handler wants of it.
type request struct {
	*http.Request
	query  values
	opts   api.QueryOptions // of reads
	tail   string           // the path behind the route
	server *Server
}

// reply is an outcome. At most one of value, answer and raw is set; none is an empty
// body.
type reply struct {
	status int // 200 if 0
	value  any
	answer *endpoint.Answer
	raw    []byte
	header http.Header
}

// handler carries out one request.
type handler func(context.Context, *request) (*reply, error)

// serve is the envelope's outer half: what holds whatever the route.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Vary", "Accept-Encoding")
	h.Set("X-Consul-Default-Acl-Policy", "allow")
	for k, v := range s.cfg.Headers {
		h.Set(k, v)
	}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("request failed by a fault of ours", "path", r.URL.Path, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			http.Error(w, "internal fault; the agent's log says more", http.StatusInternalServerError)
		}
	}()
	if !printable(r.URL.Path) {
		fail(w, http.StatusBadRequest, "the path holds unprintable characters")
		return
	}
	for _, p := range s.cfg.BlockEndpoints {
		if strings.HasPrefix(r.URL.Path, p) {
			fail(w, http.StatusForbidden, "Endpoint is blocked by agent configuration")
			return
		}
	}
	s.mux.ServeHTTP(w, r)
}

// fail writes an error as Consul does: its text is the whole body.
func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write([]byte(text)) // the client may have left: nobody to tell
}

// wrap is the envelope's inner half, for one route: which verbs it has, and the handler
// of each.
func (s *Server) wrap(prefix string, verbs map[string]handler) http.HandlerFunc {
	allow := make([]string, 0, len(verbs)+1)
	for v := range verbs {
		allow = append(allow, v)
	}
	slices.Sort(allow)
	allow = append([]string{http.MethodOptions}, allow...)
	return func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead && verbs[http.MethodGet] != nil {
			method = http.MethodGet // net/http leaves the body out
		}
		h := verbs[method]
		if h == nil {
			w.Header().Set("Allow", strings.Join(allow, ","))
			if r.Method != http.MethodOptions {
				fail(w, http.StatusMethodNotAllowed, fmt.Sprintf("method %s not allowed", r.Method))
			}
			return
		}
		if method != http.MethodGet && !s.mayWrite(r) {
			fail(w, http.StatusForbidden, "Access is restricted")
			return
		}
		req := &request{Request: r, query: parseQuery(r.URL.RawQuery), tail: strings.TrimPrefix(r.URL.Path, prefix), server: s}
		err := req.options()
		var rep *reply
		if err == nil {
			rep, err = h(r.Context(), req)
		}
		if err != nil {
			s.failed(w, r, rep, err)
			return
		}
		s.write(w, req, rep)
	}
}

// failed answers an error. A reply beside it carries headers that go along.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, rep *reply, err error) {
	if r.Context().Err() != nil && !errors.Is(err, api.ErrNoLeader) {
		return // the client left, or the server ends
	}
	if rep != nil {
		copyHeader(w.Header(), rep.header)
	}
	code := status(err)
	if code == http.StatusInternalServerError {
		s.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr, "err", err)
	}
	fail(w, code, err.Error())
}

// mayWrite reports whether the client's address may write over HTTP.
func (s *Server) mayWrite(r *http.Request) bool {
	if len(s.cfg.AllowWriteFrom) == 0 {
		return true
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return true // a unix socket: files' rights decide
	}
	ip := net.ParseIP(host)
	return slices.ContainsFunc(s.cfg.AllowWriteFrom, func(n *net.IPNet) bool { return n.Contains(ip) })
}

func copyHeader(to, from http.Header) {
	for k, v := range from {
		to[k] = v
	}
}

// write sends a reply.
func (s *Server) write(w http.ResponseWriter, r *request, rep *reply) {
	if rep == nil {
		w.WriteHeader(http.StatusOK)
		return
	}
	copyHeader(w.Header(), rep.header)
	body, isJSON := rep.raw, false
	var err error
	switch {
	case rep.answer != nil:
		setMeta(w.Header(), rep.answer)
		body, err = rep.answer.JSON()
		isJSON = true
	case rep.value != nil:
		body, err = marshal(rep.value)
		isJSON = true
	}
	if err != nil {
		s.failed(w, r.Request, nil, fmt.Errorf("encode answer: %w", err))
		return
	}
	if isJSON {
		w.Header()["Content-Type"] = jsonType
		if s.cfg.Pretty || r.query.has("pretty") {
			var out bytes.Buffer
			if json.Indent(&out, body, "", "    ") == nil {
				out.WriteByte('\n')
				body = out.Bytes()
			}
		}
	}
	code := rep.status
	if code == 0 {
		code = http.StatusOK
	}
	if len(body) > minGzip && acceptsGzip(r.Request) && w.Header().Get("Content-Encoding") == "" {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(code)
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		z.Write(body)
		z.Close()
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	w.Write(body)
}

var jsonType = []string{"application/json"}

// minGzip is the body size above which compression is worth it, as Consul has it.
const minGzip = 1400

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.ReplaceAll(q, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// marshal encodes as Consul does: no HTML escapes, no newline.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// setMeta writes the headers of a read. LastContact must be there always: the stock
// client stops reading headers where it is missing.
func setMeta(h http.Header, a *endpoint.Answer) {
	m := a.Meta
	h["X-Consul-Index"] = []string{strconv.FormatUint(max(m.Index, 1), 10)}
	h["X-Consul-Knownleader"] = []string{strconv.FormatBool(m.KnownLeader)}
	h["X-Consul-Lastcontact"] = []string{strconv.FormatInt(int64(m.LastContact/time.Millisecond), 10)}
	h["X-Consul-Effective-Consistency"] = []string{m.Consistency.String()}
	h["X-Consul-Query-Backend"] = []string{"blocking-query"}
}

// options reads what every read takes.
func (r *request) options() error {
	o := &r.opts
	o.Datacenter = r.query.get("dc")
	if dc := r.query.get("datacenter"); dc != "" {
		o.Datacenter = dc
	}
	o.Token = r.token()
	stale, consistent := r.query.has("stale"), r.query.has("consistent")
	if text := r.query.get("max_stale"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return api.Errorf(api.Invalid, "Invalid max_stale value %q", text)
		}
		o.MaxStale, stale = d, true
	}
	switch {
	case stale && consistent:
		return api.Errorf(api.Invalid, "Cannot specify ?stale with ?consistent, conflicting semantics.")
	case r.query.has("cached") && consistent:
		return api.Errorf(api.Invalid, "Cannot specify ?cached with ?consistent, conflicting semantics.")
	case r.query.has("leader"):
	case stale:
		o.Consistency = api.Stale
	case consistent:
		o.Consistency = api.Consistent
	}
	if text := r.query.get("wait"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return api.Errorf(api.Invalid, "Invalid wait time")
		}
		o.MaxWait = d
	}
	if text := r.query.get("index"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return api.Errorf(api.Invalid, "Invalid index")
		}
		o.MinIndex = n
	}
	return nil
}

// token finds a token in the query, its own header, or the standard one.
func (r *request) token() string {
	if t := r.query.get("token"); t != "" {
		return t
	}
	if t := r.Header.Get("X-Consul-Token"); t != "" {
		return t
	}
	if scheme, t, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(t)
	}
	return ""
}

// read asks the endpoint.
func (r *request) read(ctx context.Context, q *endpoint.Query) (*reply, error) {
	q.QueryOptions = r.opts
	a, err := r.server.cfg.Endpoint.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	return &reply{answer: a}, nil
}

// name is the path's tail, which must not be empty.
func (r *request) name(what string) (string, error) {
	if r.tail == "" {
		return "", api.Errorf(api.Invalid, "Missing %s", what)
	}
	return r.tail, nil
}

// maxBody bounds a request's body, but for values of keys.
const maxBody = 4 << 20

// decode reads the body as JSON. Unknown fields are left alone: older clients send some
// that have no meaning any more.
func (r *request) decode(v any) error {
	b := http.MaxBytesReader(nil, r.Body, maxBody)
	err := json.NewDecoder(b).Decode(v)
	var tooBig *http.MaxBytesError
	if errors.As(err, &tooBig) {
		return api.Errorf(api.TooLarge, "Request body too large, max size: %d bytes", tooBig.Limit)
	}
	if err != nil {
		return api.Errorf(api.Invalid, "Request decode failed: %v", err)
	}
	return nil
}
