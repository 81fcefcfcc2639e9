package checks

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

func TestHTTP(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/200", http.StatusFound)
			return
		}
		var code int
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		w.WriteHeader(code)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.UserAgent(), r.Header.Get("X-Key"))
	}))
	defer srv.Close()
	for path, want := range map[string]string{"/200": api.Passing, "/204": api.Passing, "/429": api.Warning, "/500": api.Critical, "/404": api.Critical, "/redirect": api.Passing} {
		p := runner(Config{}).httpProbe(&api.CheckDefinition{HTTP: srv.URL + path, Header: map[string][]string{"x-key": {"v"}}})
		status, output := p(t.Context())
		if status != want {
			t.Errorf("%s: got %s (%s), want %s", path, status, output, want)
		}
		if path == "/200" && output != "HTTP GET "+srv.URL+"/200: 200 OK Output: GET Consul Health Check v" {
			t.Errorf("output: %q", output)
		}
	}
	p := runner(Config{}).httpProbe(&api.CheckDefinition{HTTP: srv.URL + "/redirect", DisableRedirects: true})
	if status, _ := p(t.Context()); status != api.Critical {
		t.Errorf("a redirect that is not followed: %s", status)
	}
	gone := runner(Config{}).httpProbe(&api.CheckDefinition{HTTP: "http://127.0.0.1:1/"})
	if status, output := gone(t.Context()); status != api.Critical || output == "" {
		t.Errorf("nobody there: %s %q", status, output)
	}
}

func TestTCP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	p := runner(Config{}).tcpProbe(&api.CheckDefinition{TCP: addr})
	if status, output := p(t.Context()); status != api.Passing || output != "TCP connect "+addr+": Success" {
		t.Errorf("got %s %q", status, output)
	}
	l.Close()
	if status, output := p(t.Context()); status != api.Critical || !strings.Contains(output, "refused") {
		t.Errorf("closed: %s %q", status, output)
	}
}
