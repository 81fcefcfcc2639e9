package httpapi

import (
	"net/url"
	"strconv"
	"strings"

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
	var out values
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

// discovery fills the conditions that catalog and health reads share.
func (r *request) discovery(q *endpoint.Query) *endpoint.Query {
	q.Filter, q.Near, q.Tags = r.query.get("filter"), r.query.get("near"), r.query.all("tag")
	for _, text := range r.query.all("node-meta") {
		if q.NodeMeta == nil {
			q.NodeMeta = map[string]string{}
		}
		k, v, _ := strings.Cut(text, ":")
		q.NodeMeta[k] = v
	}
	return q
}
