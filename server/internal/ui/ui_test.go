package ui

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

const evil = `<script>alert(1)</script>`

func instance(id, address, status string, checkID string) *api.Instance {
	return &api.Instance{
		Node:    &api.Node{Node: "n1", Address: "10.0.0.1"},
		Service: &api.Service{ID: id, Service: "web", Address: address, Port: 80, Tags: []string{"v1"}},
		Checks:  []*api.Check{{CheckID: checkID, Name: "ping", Status: status, Output: "out of " + id}},
	}
}

// page is a configuration with one good and one odd service.
func page() Config {
	return Config{
		Path: "/ui/", Datacenter: "dc1", Node: "n1", Version: "1.2.3", Domain: "example.",
		Services: func(*http.Request) (map[string][]string, error) {
			return map[string][]string{"web": {"v1"}, evil: {evil}}, nil
		},
		Instances: func(_ *http.Request, name string) ([]*api.Instance, error) {
			if name != "web" {
				return nil, nil
			}
			return []*api.Instance{
				instance("w1", "10.1.0.1", api.Passing, "c"), instance("w2", "", api.Warning, "c"),
				instance("w3", "", api.Critical, "c"), instance(evil, evil, api.Critical, api.NodeMaintenance),
			}, nil
		},
		Members: func() ([]api.Member, error) {
			return []api.Member{{Name: "n1", Addr: "10.0.0.1", Status: api.StatusAlive, Tags: map[string]string{"role": "consul"}}, {Name: evil, Status: api.StatusFailed}}, nil
		},
	}
}

func get(t *testing.T, cfg Config, method, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	r.Host = "agent:8500"
	Handler(cfg).ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(b)
}

func wants(t *testing.T, body string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(body, p) {
			t.Errorf("the page lacks %q:\n%s", p, body)
		}
	}
	if strings.Contains(body, evil) || strings.Contains(body, "<script") {
		t.Errorf("the page can be made to run a script:\n%s", body)
	}
}

func TestOverview(t *testing.T) {
	r, body := get(t, page(), "GET", "/ui/")
	if r.StatusCode != 200 {
		t.Fatalf("%d %s", r.StatusCode, body)
	}
	wants(t, body, `http-equiv="refresh" content="5"`, "prefers-color-scheme", "2 services, 2 nodes", "1 failed", "1 passing", "1 warning", "1 critical", "1 in maintenance",
		`class="tile passing"`, "P n1 10.1.0.1:80", "W n1 10.0.0.1:80", "C n1", "M n1", `href="/ui/services/web"`, `href="/ui/services/%3Cscript%3Ealert%281%29%3C%2Fscript%3E"`, `<span class="tag">v1</span>`, "server", "client")
	for _, outside := range []string{"http://", "https://", "src=", "@import"} {
		if strings.Contains(body, outside) {
			t.Errorf("the page asks for something from outside: %s", outside)
		}
	}
}

func TestHeaders(t *testing.T) {
	r, _ := get(t, page(), "GET", "/ui/")
	if p := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'") || strings.Contains(p, "script") {
		t.Errorf("policy %q", p)
	}
	if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Content-Type") != "text/html; charset=utf-8" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", r.Header)
	}
}

func TestOneService(t *testing.T) {
	for _, path := range []string{"/ui/services/web", "/ui/services/WEB"} {
		r, body := get(t, page(), "GET", path)
		if r.StatusCode != 200 {
			t.Fatalf("%s: %d", path, r.StatusCode)
		}
		wants(t, body, "dig web.service.example SRV", "dig v1.web.service.example", "agent:8500/v1/health/service/web?passing", "out of w1", "out of w3", "10.1.0.1:80 on n1 (10.0.0.1)", "n1.node.example")
	}
	r, body := get(t, page(), "GET", "/ui/services/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
	if r.StatusCode != 200 {
		t.Errorf("%d", r.StatusCode)
	}
	wants(t, body, "No instance of it is registered any more")
}

func TestWhatIsNotThere(t *testing.T) {
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/ui/services/nope", 404}, {"GET", "/ui/services/", 404}, {"GET", "/ui/x", 404}, {"POST", "/ui/", 405}, {"HEAD", "/ui/", 200},
	} {
		r, body := get(t, page(), c.method, c.path)
		if r.StatusCode != c.code {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, r.StatusCode, c.code)
		}
		wants(t, body)
	}
}

// TestErrorsAreShown: the page says that the catalog does not answer, instead of showing
// an empty one.
func TestErrorsAreShown(t *testing.T) {
	broken := errors.New("no leader " + evil)
	for name, breakIt := range map[string]func(*Config){
		"services": func(c *Config) { c.Services = func(*http.Request) (map[string][]string, error) { return nil, broken } },
		"instances": func(c *Config) {
			c.Instances = func(*http.Request, string) ([]*api.Instance, error) { return nil, broken }
		},
		"members": func(c *Config) { c.Members = func() ([]api.Member, error) { return nil, broken } },
	} {
		cfg := page()
		breakIt(&cfg)
		r, body := get(t, cfg, "GET", "/ui/")
		if r.StatusCode != 503 {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
		wants(t, body, "The catalog does not answer", "no leader", `role="alert"`)
	}
}

func TestStatus(t *testing.T) {
	check := func(id, status string) *api.Check { return &api.Check{CheckID: id, Status: status} }
	for want, checks := range map[string][]*api.Check{
		"passing":     nil,
		"warning":     {check("a", "passing"), check("b", "warning")},
		"critical":    {check("a", "critical"), check("b", "warning")},
		"maintenance": {check("a", "critical"), check("_service_maintenance:x", "critical")},
	} {
		if got := Status(&api.Instance{Checks: checks}); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
