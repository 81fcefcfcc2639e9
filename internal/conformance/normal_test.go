package conformance

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// normal turns answers into what must be equal. It remembers which indexes and ids a
// scenario has shown: of an index that is new it says so, of one that was shown, in which
// request it was first. So runs whose numbers differ are equal when the same things have
// changed.
type normal struct {
	ports   map[string]string
	indexes map[uint64]int // value → line of the step that showed it first
	ids     map[string]int
	base    uint64 // indexes up to here are of the time before the scenario
	top     uint64 // the highest index shown
	step    int
}

func newNormal(a *agent) *normal {
	return &normal{ports: a.ports, base: a.base, top: a.base, indexes: map[uint64]int{}, ids: map[string]int{nodeID: 0}}
}

// plain is an answer without what no two runs have in common.
type plain struct {
	status int
	header map[string]string
	layout string // how the body is set
	body   any    // JSON, or a string
	waited string // of a request that may wait
}

// of gives the plain form of the answer to a step; steps must come in order.
func (n *normal) of(st *step, a *answer) *plain {
	n.step = st.line
	p := &plain{status: a.status, header: map[string]string{}}
	for name, values := range a.header {
		value := strings.Join(values, ", ")
		switch name {
		case "Date", "Content-Length", "Connection":
			continue
		case "X-Consul-Index":
			i, err := strconv.ParseUint(value, 10, 64)
			if err == nil {
				value = n.index(i)
			}
		case "X-Consul-Contenthash":
			value = "<hash>"
		}
		p.header[name] = n.text(value)
	}
	if strings.Contains(st.target, "wait=") {
		p.waited = "until it changed"
		if limit := waitOf(st.target); a.took >= limit {
			p.waited = "to the end"
		}
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.UseNumber()
	var v any
	if d.Decode(&v) == nil && !d.More() {
		if st.keys {
			v = outline(v)
		}
		p.body = n.value("", v, st)
		p.layout = layout(a.body)
	} else {
		p.body = n.text(string(a.body))
	}
	return p
}

// outline is an object without its values; of a list, all keys that any element has.
func outline(v any) any {
	out := map[string]any{}
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			out[k] = true
		}
	case []any:
		for _, e := range v {
			if object, ok := e.(map[string]any); ok {
				maps.Copy(out, outline(object).(map[string]any))
			}
		}
	default:
		return v
	}
	return out
}

// layout is how JSON is set out.
func layout(body []byte) string {
	how := "compact"
	if bytes.Contains(body, []byte("\n    ")) {
		how = "indented"
	}
	if bytes.HasSuffix(body, []byte("\n")) {
		how += ", newline at the end"
	}
	return how
}

var waits = regexp.MustCompile(`wait=([0-9a-z.]+)`)

func waitOf(target string) time.Duration {
	if m := waits.FindStringSubmatch(target); m != nil {
		d, _ := time.ParseDuration(m[1])
		return d
	}
	return time.Minute
}

// value makes a JSON value plain; key is its name in its object.
func (n *normal) value(key string, v any, st *step) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys) // ids are numbered in this order
		for _, k := range keys {
			out[n.text(k)] = n.value(k, v[k], st)
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, n.value(key, e, st))
		}
		if st.unordered || strings.Contains(st.target, "/v1/catalog/services") { // Consul's tags come out of a map
			slices.SortFunc(out, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		return out
	case json.Number:
		if name, ok := n.ports[v.String()]; ok {
			return "<port " + name + ">"
		}
		if u, err := strconv.ParseUint(v.String(), 10, 64); err == nil && strings.HasSuffix(key, "Index") && key != "LockIndex" && key != "OpIndex" {
			return n.index(u)
		}
		if st.shape {
			return "<number>"
		}
		return v.String()
	case string:
		if st.shape {
			return "<string>"
		}
		if name, ok := n.ports[v]; ok {
			v = "<port " + name + ">"
		}
		return "'" + n.text(v) + "'"
	}
	return v
}

// index says what an index means.
func (n *normal) index(i uint64) string {
	if i < 2 {
		return strconv.FormatUint(i, 10)
	}
	if i <= n.base {
		return "<index of the start>"
	}
	first, known := n.indexes[i]
	if !known {
		first = n.step
		n.indexes[i] = first
	}
	switch {
	case i > 1<<40:
		return "<hash>"
	case first < n.step:
		return fmt.Sprintf("<index of line %d>", first)
	case i < n.top:
		return "<older index>"
	}
	n.top = i
	return "<new index>"
}

var (
	ids    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	times  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	modify = regexp.MustCompile(`(modify|reset) index:? \d+`)
	local  = regexp.MustCompile(`127\.0\.0\.1:(\d{5})`)
)

// text makes a string plain.
func (n *normal) text(s string) string {
	s = ids.ReplaceAllStringFunc(s, func(id string) string {
		first, known := n.ids[id]
		switch {
		case id == nodeID:
			return id
		case !known:
			n.ids[id] = n.step
			return "<new id>"
		case first == n.step:
			return "<new id>"
		}
		return fmt.Sprintf("<id of line %d>", first)
	})
	s = times.ReplaceAllString(s, "<time>")
	s = modify.ReplaceAllString(s, "$1 index <index>")
	return local.ReplaceAllStringFunc(s, func(addr string) string {
		host, port, _ := strings.Cut(addr, ":")
		if name, ok := n.ports[port]; ok {
			return host + ":<port " + name + ">"
		}
		return host + ":<port>"
	})
}
