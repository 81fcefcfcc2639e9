package httpapi

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// plain is what a test compares of an answer: status, headers in order, body.
func plain(t *testing.T, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, r.StatusCode)
	for _, k := range slices.Sorted(maps.Keys(r.Header)) {
		if k == "Vary" || k == "X-Consul-Default-Acl-Policy" { // on every answer; tested once
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", k, strings.Join(r.Header[k], ", "))
	}
	fmt.Fprintf(&b, "\n%s\n", body)
	return b.String()
}

// golden compares text with a file, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("answers differ from %s (run with -update if they should):\n%s", file, d)
	}
}

// TestAnswers holds the bytes of every route's answers.
func TestAnswers(t *testing.T) {
	for name, requests := range map[string][]string{
		"status.golden": {
			"GET /v1/status/leader", "GET /v1/status/peers?pretty", "HEAD /v1/status/leader", "OPTIONS /v1/status/leader", "POST /v1/status/leader",
			"GET /v1/operator/raft/configuration", "GET //v1/status/leader", "GET /v1//status/leader",
		},
		"catalog.golden": {
			"GET /v1/catalog/datacenters", "GET /v1/catalog/nodes", "GET /v1/catalog/services", "GET /v1/catalog/service/web", "GET /v1/catalog/service/nope",
			"GET /v1/catalog/service/", "GET /v1/catalog/node/n1", "GET /v1/catalog/node/nope", "GET /v1/catalog/node/", "GET /v1/catalog/node-services/n1",
			"GET /v1/catalog/node-services/", `PUT /v1/catalog/register {"Node":"n2","Address":"10.0.0.2"}`, "PUT /v1/catalog/register", "PUT /v1/catalog/register {",
			`PUT /v1/catalog/deregister {"node":"n2"}`, "GET /v1/catalog/register",
		},
		"health.golden": {
			"GET /v1/health/node/n1", "GET /v1/health/node/", "GET /v1/health/checks/web", "GET /v1/health/checks/", "GET /v1/health/state/passing", "GET /v1/health/state/nope",
			"GET /v1/health/state/", "GET /v1/health/service/web", "GET /v1/health/service/web?stale", "GET /v1/health/service/web?consistent&pretty",
			"GET /v1/health/service/nope", "GET /v1/health/service/", "GET /v1/health/service/web?passing=maybe",
		},
		"kv.golden": {
			"GET /v1/kv/a", "GET /v1/kv?keys", "HEAD /v1/kv/a", "GET /v1/kv/a?raw", "GET /v1/kv/nope", "GET /v1/kv/nope?raw", "GET /v1/kv/", "GET /v1/kv/a?recurse", "GET /v1/kv/?recurse",
			"GET /v1/kv/a?keys&separator=/", "GET /v1/kv/?keys", "GET /v1/kv/nope?keys", "PUT /v1/kv/a x", "PUT /v1/kv/ x", "PUT /v1/kv/a?cas=1&acquire=s x", "PUT /v1/kv/a?cas=no x",
			"PUT /v1/kv/a?flags=-1 x", "PUT /v1/kv/a%00b x", "DELETE /v1/kv/a", "DELETE /v1/kv/", "DELETE /v1/kv/?recurse", "DELETE /v1/kv/a?recurse&cas=1", "DELETE /v1/kv/a?cas=", "POST /v1/kv/a x",
		},
		"agent.golden": {
			"GET /v1/agent/self", "GET /v1/agent/members", "GET /v1/agent/members?wan=1", "GET /v1/agent/members?filter=Name==n9", "GET /v1/agent/members?filter=Name",
			"GET /v1/agent/services", "GET /v1/agent/services?filter=Service==db", "GET /v1/agent/service/web1", "GET /v1/agent/service/nope", "GET /v1/agent/service/",
			"GET /v1/agent/checks", "GET /v1/agent/checks?filter=Status==critical",
			"GET /v1/agent/health/service/id/web1", "GET /v1/agent/health/service/id/web1?format=text", "GET /v1/agent/health/service/id/nope", "GET /v1/agent/health/service/id/nope?format=text",
			"GET /v1/agent/health/service/name/web", "GET /v1/agent/health/service/name/nope", "GET /v1/agent/health/service/name/",
			`PUT /v1/agent/service/register {"Name":"web"}`, `PUT /v1/agent/service/register {"ID":"x"}`, `PUT /v1/agent/service/register {"Name":"x","Port":"80"}`,
			"PUT /v1/agent/service/deregister/web1", "PUT /v1/agent/service/deregister/", "GET /v1/agent/service/register", "GET /v1/agent/service/deregister/web1",
			"PUT /v1/agent/service/maintenance/web1", "PUT /v1/agent/service/maintenance/web1?enable=maybe", "PUT /v1/agent/service/maintenance/?enable=true",
			"PUT /v1/agent/maintenance", "PUT /v1/agent/maintenance?enable=", `PUT /v1/agent/check/register {"TTL":"1s"}`, "PUT /v1/agent/check/deregister/",
			"PUT /v1/agent/check/pass/", `PUT /v1/agent/check/update/c {"Status":"fine"}`, "PUT /v1/agent/join/", "PUT /v1/agent/force-leave/",
		},
		"left.golden": {
			"GET /v1/connect/ca/roots", "GET /v1/config/service-defaults",
			"GET /v1/peering", "GET /v1/acl/list", "PUT /v1/acl/bootstrap", "GET /v1/nope", "GET /v2", "GET /", "GET /ui/",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, line := range requests {
				h := newHouse(nil)
				method, rest, _ := strings.Cut(line, " ")
				url, body, _ := strings.Cut(rest, " ")
				fmt.Fprintf(&b, "== %s\n%s\n", line, plain(t, h.do(t, method, url, body)))
			}
			golden(t, name, b.String())
		})
	}
}

// TestEveryRouteHasItsVerbs asks each route of the table what it takes.
func TestEveryRouteHasItsVerbs(t *testing.T) {
	h := newHouse(nil)
	for _, r := range everyRoute() {
		for verb := range r.verbs {
			if to, path := h.router.find(r.path); to == nil || path != r.path {
				t.Errorf("%s leads nowhere", r.path)
			}
			resp := h.do(t, http.MethodOptions, r.path, "")
			if resp.StatusCode != http.StatusOK || !strings.Contains(resp.Header.Get("Allow"), verb) {
				t.Errorf("OPTIONS %s: %d, Allow %q lacks %s", r.path, resp.StatusCode, resp.Header.Get("Allow"), verb)
			}
		}
		resp := h.do(t, http.MethodPatch, r.path, "")
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("PATCH %s: %d", r.path, resp.StatusCode)
		}
	}
}

// TestEveryRouteHasItsPage: docs/http-api.md names each verb and path of the table, and no
// others.
func TestEveryRouteHasItsPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range everyRoute() {
		for verb := range r.verbs {
			if !strings.Contains(string(page), "`"+verb+" "+r.path+"`") {
				t.Errorf("docs/http-api.md lacks `%s %s`", verb, r.path)
			}
		}
	}
	for _, m := range regexp.MustCompile("`(GET|PUT|POST|DELETE) (/v1/[^` ]*)`").FindAllStringSubmatch(string(page), -1) {
		known := slices.ContainsFunc(everyRoute(), func(r route) bool { return r.path == m[2] && r.verbs[m[1]] != nil })
		if !known {
			t.Errorf("docs/http-api.md names `%s %s`, which is no route", m[1], m[2])
		}
	}
}

func TestRouterFinds(t *testing.T) {
	r := newRouter()
	for _, p := range []string{"/v1/kv/", "/v1/agent/service/", "/v1/agent/service/register", "/v1/agent/service/deregister/", "/v1/txn"} {
		r.add(p, nil)
	}
	for asked, want := range map[string]string{
		"/v1/kv/a": "/v1/kv/", "/v1/kv//a": "/v1/kv/", "/v1/kv/../txn": "/v1/kv/", "/v1/kv/": "/v1/kv/", "/v1/kv": "",
		"//v1/kv/a": "/v1/kv/", "/v1/./txn": "/v1/txn", "/v1/txn/": "", "/v1/agent/service/register": "/v1/agent/service/register",
		"/v1/agent/service/registered": "/v1/agent/service/", "/v1/agent/service/deregister/x/y/z": "/v1/agent/service/deregister/",
		"/": "", "": "", "/v1/nope": "",
	} {
		got := ""
		to, _ := r.find(asked)
		for p, x := range r.whole {
			if x == to {
				got = p
			}
		}
		for p, x := range r.below {
			if x == to {
				got = p
			}
		}
		if got != want {
			t.Errorf("%q leads to %q, want %q", asked, got, want)
		}
	}
}
