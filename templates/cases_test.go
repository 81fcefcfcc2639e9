package templates

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// catalog is what a fake catalog answers: instances by service.
type catalog struct {
	def      string // DEFAULT_SERVICE
	services map[string][]inst
	keys     map[string]string
	nodes    map[string]string // addresses
}

type inst struct {
	id, addr string
	port     int
	weight   int
	tags     []string
}

var cases = map[string]catalog{
	"nothing": {},
	"one":     {services: map[string][]inst{"web": {{"a", "10.0.0.1", 8080, 1, nil}}}},
	"several": {services: map[string][]inst{
		"api": {{"1", "10.0.0.1", 9000, 1, []string{"host=api.example"}}, {"2", "10.0.0.2", 9000, 5, []string{"host=api.example"}}},
		"ill": {},
		"web": {{"a", "fd00::1", 80, 1, nil}},
	}},
	"default": {def: "web", services: map[string][]inst{"api": {{"1", "10.0.0.1", 9000, 1, nil}}, "web": {{"a", "10.0.0.1", 80, 1, nil}}}},
	"hostile": {services: map[string][]inst{
		`x; } server { listen 1;`: {{"a", "10.0.0.1", 80, 1, []string{"host=a b;", "host=*.ok.example", `host="}`}}},
		"ok":                      {{"b", "10.0.0.1; evil", 80, 1, nil}, {"c", "10.0.0.3", 80, 1, nil}},
	}},
}

// serve answers the two questions that the template asks.
func serve(t *testing.T, c catalog) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "5")
		w.Header().Set("X-Consul-LastContact", "0")
		w.Header().Set("X-Consul-KnownLeader", "true")
		if r.URL.Query().Get("index") != "" { // nothing changes any more
			<-r.Context().Done()
			return
		}
		if key, ok := strings.CutPrefix(r.URL.Path, "/v1/kv/"); ok {
			c.kv(w, r, key)
			return
		}
		if r.URL.Path == "/v1/catalog/nodes" {
			out := []map[string]any{}
			for name, addr := range c.nodes {
				out = append(out, map[string]any{"Node": name, "Address": addr})
			}
			json.NewEncoder(w).Encode(out)
			return
		}
		name, one := strings.CutPrefix(r.URL.Path, "/v1/health/service/")
		if !one {
			out := map[string][]string{"consul": {}}
			for s, list := range c.services {
				out[s] = []string{}
				for _, i := range list {
					out[s] = append(out[s], i.tags...)
				}
				slices.Sort(out[s])
				out[s] = slices.Compact(out[s])
			}
			json.NewEncoder(w).Encode(out)
			return
		}
		out := []map[string]any{}
		for _, i := range c.services[name] {
			out = append(out, map[string]any{
				"Node":    map[string]any{"Node": "n1", "Address": "10.0.0.9"},
				"Service": map[string]any{"ID": i.id, "Service": name, "Address": i.addr, "Port": i.port, "Tags": i.tags, "Weights": map[string]int{"Passing": i.weight, "Warning": 1}},
				"Checks":  []any{},
			})
		}
		json.NewEncoder(w).Encode(out)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return strings.TrimPrefix(srv.URL, "http://")
}

// kv answers for a key, or for those below a prefix.
func (c catalog) kv(w http.ResponseWriter, r *http.Request, key string) {
	out := []map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(c.keys)) {
		if k == key || r.URL.Query().Has("recurse") && strings.HasPrefix(k, key) {
			out = append(out, map[string]any{"Key": k, "Value": []byte(c.keys[k])})
		}
	}
	if len(out) == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	json.NewEncoder(w).Encode(out)
}
