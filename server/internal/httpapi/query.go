package httpapi

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// values is a query string's pairs, in order.
type values []pair

type pair struct{ key, value string }

// parseQuery reads a query string; what cannot be unescaped is taken as it stands.
func parseQuery(raw string) values {
	if raw == "" {
		return nil
	}
	out := make(values, 0, strings.Count(raw, "&")+1)
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		out = append(out, pair{unescape(k), unescape(v)})
	}
	return out
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

func (v values) has(key string) bool {
	for _, p := range v {
		if p.key == key {
			return true
		}
	}
	return false
}

func (v values) get(key string) string {
	for _, p := range v {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

func (v values) all(key string) []string {
	var out []string
	for _, p := range v {
		if p.key == key {
			out = append(out, p.value)
		}
	}
	return out
}

// exclusive reports whether more than one of the parameters is there.
func (v values) exclusive(keys ...string) bool {
	n := 0
	for _, k := range keys {
		if v.has(k) {
			n++
		}
	}
	return n > 1
}

// flag reads a boolean parameter; standing alone it is true.
func (v values) flag(key string) (bool, error) {
	if !v.has(key) {
		return false, nil
	}
	text := v.get(key)
	if text == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, api.Errorf(api.Invalid, "Invalid value for ?%s", key)
	}
	return b, nil
}

// number reads a parameter that is an unsigned number, 0 where it is not there.
func (v values) number(key string) (uint64, error) {
	if !v.has(key) {
		return 0, nil
	}
	n, err := strconv.ParseUint(v.get(key), 10, 64)
	if err != nil {
		return 0, api.Errorf(api.Invalid, "Invalid value for ?%s: %q is not a number", key, v.get(key))
	}
	return n, nil
}

// options reads what every read takes.
func (r *request) options() error {
	o := &r.opts
	o.Datacenter = r.query.get("dc")
	if dc := r.query.get("datacenter"); dc != "" {
		o.Datacenter = dc
	}
	if o.Token = r.token(); o.Token == "" && r.server.cfg.ACL.DefaultToken != nil {
		o.Token = r.server.cfg.ACL.DefaultToken()
		r.byDefault = o.Token != ""
	}
	stale, consistent := r.query.has("stale"), r.query.has("consistent")
	if text := r.query.get("max_stale"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return api.Errorf(api.Invalid, "Invalid max_stale value %q", text)
		}
		if d > 0 {
			o.MaxStale, stale = d, true
		}
	}
	switch {
	case stale && consistent:
		return api.Errorf(api.Invalid, "Cannot specify ?stale with ?consistent, conflicting semantics.")
	case r.query.has("cached") && consistent:
		return api.Errorf(api.Invalid, "Cannot specify ?cached with ?consistent, conflicting semantics.")
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
		o.MaxWait = max(d, 0)
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

// field is Header.Get for a name that is in its canonical form.
func (r *request) field(name string) string {
	if v := r.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// token finds a token in the query, its own header, or the standard one.
func (r *request) token() string {
	if t := r.query.get("token"); t != "" {
		return t
	}
	if t := r.field("X-Consul-Token"); t != "" {
		return t
	}
	if scheme, t, ok := strings.Cut(r.field("Authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(t)
	}
	return ""
}

// discovery fills the conditions that catalog and health reads share.
func (r *request) discovery(q *endpoint.Query) *endpoint.Query {
	q.Filter, q.Near, q.Tags = r.query.get("filter"), r.near(), r.query.all("tag")
	for _, text := range r.query.all("node-meta") {
		if q.NodeMeta == nil {
			q.NodeMeta = map[string]string{}
		}
		k, v, _ := strings.Cut(text, ":")
		q.NodeMeta[k] = v
	}
	if age := r.server.cfg.DiscoveryMaxStale; age > 0 && r.opts.Consistency == api.Default && !r.query.has("leader") {
		r.opts.Consistency, r.opts.MaxStale = api.Stale, age
	}
	return q
}
