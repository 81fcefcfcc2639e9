package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/fastpath"
)

// request is an HTTP request with what every handler wants of it.
type request struct {
	*http.Request
	query  values
	opts   api.QueryOptions // of reads
	tail   string           // the path behind the route
	server *Server
	w      http.ResponseWriter // for deadlines only

	holder    *acl.Holder // of the token, on routes about this agent
	hidden    bool        // something was left out that the token may not see
	byDefault bool        // the token is the agent's default one: the request brought none

	asked endpoint.Query // room for what the routes that are asked most read
}

// reply is an outcome. At most one of value, answer and raw is set; none is an empty
// body.
type reply struct {
	status int // 200 if 0
	value  any
	answer *endpoint.Answer
	raw    []byte
	sent   bool // the handler has written all there is
	meta   meta // which headers an answer has
	header http.Header
}

// meta says which of a query's headers go with its answer.
type meta uint8

const (
	allMeta   meta = iota // catalog and health
	indexMeta             // keys: without what only those have
	noMeta                // routes that are no queries
)

// handler carries out one request.
type handler func(context.Context, *request) (*reply, error)

// serve is the envelope's outer half: what holds whatever the route.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	rules := s.rules.Load()
	if d, ok := w.(fastpath.Direct); ok && rules.given != nil {
		d.Give(rules.given)
	} else {
		h := w.Header()
		for k, v := range rules.fixed {
			h[k] = v
		}
	}
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		begun := time.Now()
		defer func() { // without the query, which may hold a token
			s.log.Debug("request finished", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr, "took", time.Since(begun).Round(time.Microsecond).String())
		}()
	}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("request failed by a fault of ours", "path", r.URL.Path, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			fail(w, http.StatusInternalServerError, "internal fault; the agent's log says more")
		}
	}()
	if !s.cfg.AllowUnprintable && !printable(r.URL.Path) {
		fail(w, http.StatusBadRequest, "the path holds unprintable characters")
		return
	}
	to, path := s.router.find(r.URL.Path)
	own := r.Context().Value(insideKey{}) != nil
	for _, p := range s.cfg.BlockEndpoints {
		if !own && strings.HasPrefix(path, p) {
			fail(w, http.StatusForbidden, "Endpoint is blocked by agent configuration")
			return
		}
	}
	switch {
	case to == nil && s.router.slashed(path):
		to := path + "/"
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		http.Redirect(w, r, to, http.StatusMovedPermanently)
		return
	case to == nil:
		s.unknown(w, path)
		return
	}
	if !own && s.tooMany(w, r, path) {
		return
	}
	to.serve(w, r, path)
}

// printable reports whether a path has nothing that could deceive a log or a header.
func printable(path string) bool {
	plain := true
	for i := range len(path) {
		plain = plain && path[i] >= ' ' && path[i] < 0x7f
	}
	return plain || !strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) })
}

// fail writes an error as Consul does: its text is the whole body.
func fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	send(w, code, []byte(text))
}

// send writes a body. The client has time for each piece, so that one that does not
// read cannot hold the connection for ever.
func send(w http.ResponseWriter, code int, body []byte) {
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	c := http.NewResponseController(w)
	c.SetWriteDeadline(time.Now().Add(pieceTime)) // a writer without deadlines is a test's
	w.WriteHeader(code)
	for {
		n := min(len(body), pieceSize)
		if _, err := w.Write(body[:n]); err != nil {
			return // the client left: nobody to tell
		}
		if body = body[n:]; len(body) == 0 {
			return
		}
		c.SetWriteDeadline(time.Now().Add(pieceTime))
	}
}

// wrap is the envelope's inner half, for one route: which verbs it has, and the handler
// of each.
func (s *Server) wrap(prefix string, verbs map[string]handler) func(http.ResponseWriter, *http.Request, string) {
	allow := []string{http.MethodOptions}
	counters := map[string]func(time.Time){}
	for _, v := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if verbs[v] == nil {
			continue
		}
		allow = append(allow, v)
		if s.cfg.Insight != nil {
			counters[v] = s.cfg.Insight.Counter(v, prefix)
		}
	}
	if s.cfg.Insight != nil && verbs[http.MethodGet] != nil {
		counters[http.MethodHead] = s.cfg.Insight.Counter(http.MethodHead, prefix)
	}
	return func(w http.ResponseWriter, r *http.Request, path string) {
		method := r.Method
		if method == http.MethodHead {
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
		if r.ContentLength != 0 { // whether the handler reads the body or not, the client must send it
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		}
		if count := counters[r.Method]; count != nil {
			defer count(time.Now())
		}
		req := &request{Request: r, query: parseQuery(r.URL.RawQuery), tail: path[len(prefix):], server: s, w: w}
		err := req.options()
		var rep *reply
		if err == nil {
			err = req.authorize(r.Context(), prefix)
		}
		if err == nil {
			rep, err = h(r.Context(), req)
		}
		if err == nil {
			err = s.write(w, req, rep)
		}
		if err != nil {
			s.failed(w, r, req.whose(err))
		}
	}
}

// failed answers an error.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	code := status(err)
	if code == http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr, "err", err)
	}
	fail(w, code, err.Error())
}

// status turns an error into a status: the one place that decides it.
func status(err error) int {
	switch api.KindOf(err) {
	case api.Invalid:
		return http.StatusBadRequest
	case api.NotFound:
		return http.StatusNotFound
	case api.Forbidden:
		return http.StatusForbidden
	case api.Unauthorized:
		return http.StatusUnauthorized
	case api.Conflict:
		return http.StatusConflict
	case api.TooLarge:
		return http.StatusRequestEntityTooLarge
	case api.Busy:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
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

// write sends a reply. An error means that nothing was sent yet.
func (s *Server) write(w http.ResponseWriter, r *request, rep *reply) error {
	if rep == nil {
		rep = &reply{}
	}
	if rep.sent {
		return nil
	}
	h := w.Header()
	body, isJSON := rep.raw, true
	var err error
	switch {
	case rep.answer != nil:
		body, err = rep.answer.JSON()
	case rep.value != nil:
		body, err = marshal(rep.value)
	default:
		isJSON = false
	}
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	pretty := isJSON && (s.cfg.Pretty || r.query.has("pretty"))
	if pretty {
		body = indent(body)
	}
	if len(body) > minGzip && acceptsGzip(r.Request) {
		if rep.answer != nil && !pretty {
			body, err = s.packer.pack(body)
		} else {
			body, err = compress(body)
		}
		if err != nil {
			return err
		}
		h.Set("Content-Encoding", "gzip")
	}
	code := rep.status
	if code == 0 {
		code = http.StatusOK
	}
	hidden := r.hidden && !r.holder.Anonymous()
	if d, ok := w.(fastpath.Direct); ok && len(h) == 0 && len(rep.header) == 0 && !hidden && len(body) <= pieceSize {
		head := d.Begin(code)
		if isJSON {
			head = append(head, "Content-Type: application/json\r\n"...)
		}
		if rep.answer != nil {
			metaOf(rep.answer, rep.meta, func(name, value string) {
				head = append(append(append(append(head, name...), ": "...), value...), "\r\n"...)
			})
		}
		d.End(head, body, pieceTime)
		return nil
	}
	if isJSON {
		h["Content-Type"] = jsonType
	}
	if rep.answer != nil {
		setMeta(h, rep.answer, rep.meta)
	}
	if hidden {
		h["X-Consul-Results-Filtered-By-Acls"] = []string{"true"}
	}
	for k, v := range rep.header {
		h[k] = v
	}
	send(w, code, body)
	return nil
}

// ownFields are those that write and fastpath give an answer.
var ownFields = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "X-Consul-Effective-Consistency", "X-Consul-Index",
	"X-Consul-Knownleader", "X-Consul-Lastcontact", "X-Consul-Query-Backend", "X-Consul-Results-Filtered-By-Acls",
}

// jsonType is shared; nobody changes it.
var jsonType = []string{"application/json"}

// marshal encodes as Consul does: no HTML escapes, no newline.
func marshal(v any) ([]byte, error) {
	if b, ok := v.(bool); ok { // what most writes answer
		return strconv.AppendBool(nil, b), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// indent sets JSON as people read it.
func indent(body []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, body, "", "    ") != nil {
		return body
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// setMeta writes the headers of a read. LastContact must be there always: the stock
// client stops reading headers where it is missing.
func setMeta(h http.Header, a *endpoint.Answer, which meta) {
	metaOf(a, which, func(name, value string) { h[name] = []string{value} })
}

// metaOf names the headers of a query's answer.
func metaOf(a *endpoint.Answer, which meta, field func(name, value string)) {
	if which == noMeta {
		return
	}
	m := &a.Meta
	field("X-Consul-Index", strconv.FormatUint(max(m.Index, 1), 10))
	field("X-Consul-Knownleader", strconv.FormatBool(m.KnownLeader))
	field("X-Consul-Lastcontact", strconv.FormatInt(m.LastContact.Milliseconds(), 10))
	if m.Filtered {
		field("X-Consul-Results-Filtered-By-Acls", "true")
	}
	if which == allMeta {
		field("X-Consul-Effective-Consistency", m.Consistency.String())
		field("X-Consul-Query-Backend", "blocking-query")
	}
}

// read asks the endpoint.
func (r *request) read(ctx context.Context, q *endpoint.Query) (*reply, error) {
	q.QueryOptions = r.opts
	if q.MinIndex > 0 {
		var cancel context.CancelFunc
		ctx, cancel = waiting(ctx)
		defer cancel()
	}
	rep := &reply{}
	var err error
	if r.server.cfg.Cached != nil && endpoint.Caches(q.Kind) && r.query.has("cached") {
		rep, err = r.cached(ctx, q)
	} else {
		rep.answer, err = r.server.cfg.Endpoint.Read(ctx, q)
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), errEnding) {
			err = errEnding
		}
		return nil, err
	}
	return rep, nil
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
	b, err := r.body(maxBody)
	if err != nil {
		return err
	}
	err = json.Unmarshal(b, v)
	if _, ok := err.(*json.SyntaxError); ok { // nothing is decoded yet; what comes behind a value is left alone
		err = json.NewDecoder(bytes.NewReader(b)).Decode(v)
	}
	if err != nil {
		return api.Errorf(api.Invalid, "Request decode failed: %v", err)
	}
	known, ok := v.(interface{ UnknownKeys(map[string]any) []string })
	if ok && r.server.log.Enabled(r.Context(), slog.LevelDebug) {
		var all map[string]any
		if json.Unmarshal(b, &all) == nil {
			if keys := known.UnknownKeys(all); len(keys) > 0 {
				r.server.log.Debug("fields without a meaning are left alone", "path", r.URL.Path, "fields", keys)
			}
		}
	}
	return nil
}

// body reads a body of at most limit bytes. The time it may take is bounded by wrap.
func (r *request) body(limit int) ([]byte, error) {
	size := r.ContentLength // -1 if the client did not say
	tooLarge := func(n int64) error {
		return api.Errorf(api.TooLarge, "Request body(%d bytes) too large, max size: %d bytes.", n, limit)
	}
	switch {
	case size == 0:
		return nil, nil
	case size > int64(limit):
		return nil, tooLarge(size)
	}
	if whole, ok := fastpath.Whole(r.Request); ok {
		return bytes.Clone(whole), nil
	}
	var b bytes.Buffer
	if size > 0 {
		b.Grow(int(size) + bytes.MinRead)
	}
	_, err := b.ReadFrom(http.MaxBytesReader(r.w, r.Body, int64(limit)))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(over.Limit + 1)
	case err != nil:
		return nil, api.Errorf(api.Invalid, "Request body could not be read: %v", err)
	}
	// The whole body is here: from now on a read tells of the client's leaving, and must not
	// end by time. Without the whole body the bound stays, for net/http reads the rest.
	http.NewResponseController(r.w).SetReadDeadline(time.Time{})
	return b.Bytes(), nil
}
