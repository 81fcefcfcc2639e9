package status

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/reconcile"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// parts are both of what the pages show, as the test sets them.
type parts struct {
	mu      sync.Mutex
	engine  watcher.State
	catalog reconcile.State
	drained map[string]bool
	late    error
}

type engine struct{ *parts }

func (e engine) State() watcher.State { e.mu.Lock(); defer e.mu.Unlock(); return e.engine }

func (e engine) Drain(_ context.Context, ref string, on bool) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ref == "nobody" {
		return nil, nil
	}
	e.drained[ref] = on
	return []string{"id of " + ref}, nil
}

type catalog struct{ *parts }

func (c catalog) State() reconcile.State { c.mu.Lock(); defer c.mu.Unlock(); return c.catalog }

func (c catalog) Drained(context.Context, []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late
}

func (c catalog) Verdicts(context.Context) ([]reconcile.Verdict, error) {
	return []reconcile.Verdict{{ID: "0123456789abcdef", Name: "web-1", Verdict: "registered", Reason: "<b>why</b>",
		Services: []reconcile.Service{{ID: "h:web-1:80", Name: "web", Address: "10.0.0.1:80", Status: "registered"}}}}, nil
}

func (c catalog) Outlook(context.Context) ([]reconcile.Step, error) {
	return []reconcile.Step{{Op: "keep", Container: "web-1", ID: "h:web-1:80", Service: "web", Address: "10.0.0.1:80", Why: "in the catalog"}}, nil
}

func (c catalog) Decisions(context.Context) ([]reconcile.Decision, error) {
	return []reconcile.Decision{{Op: "register", ID: "h:web-1:80", Container: "web-1", Why: "it <i>runs</i>"}}, nil
}

func serve(t *testing.T) (*parts, string) {
	t.Helper()
	p := &parts{drained: map[string]bool{}, engine: watcher.State{Connected: true, Complete: true, Engine: docker.Info{Name: "host1"}},
		catalog: reconcile.State{Connected: true, Settled: true}}
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "registrator_test_total", Help: "x"})
	reg.MustRegister(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	s := New(engine{p}, catalog{p}, reg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	go func() { ended <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return p, "http://" + l.Addr().String()
}

func ask(t *testing.T, method, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestPages(t *testing.T) {
	t.Parallel()
	_, url := serve(t)
	code, body := ask(t, "GET", url+"/containers")
	var got struct {
		Engine     struct{ Name string }
		Containers []struct {
			Verdict  string
			Services []struct{ Address string }
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || got.Engine.Name != "host1" || got.Containers[0].Verdict != "registered" || got.Containers[0].Services[0].Address != "10.0.0.1:80" {
		t.Errorf("containers: %d, %v\n%s", code, err, body)
	}
	code, body = ask(t, "GET", url+"/", "Accept", "text/html")
	if code != 200 || !strings.Contains(body, "<table>") || !strings.Contains(body, "web-1") || strings.Contains(body, "<b>why") || !strings.Contains(body, "it &lt;i&gt;runs") {
		t.Errorf("page: %d\n%s", code, body)
	}
	if code, body := ask(t, "GET", url+"/containers?format=json", "Accept", "text/html"); code != 200 || !strings.HasPrefix(body, "{") {
		t.Errorf("JSON on demand: %d %s", code, body)
	}
	if code, body := ask(t, "GET", url+"/plan"); code != 200 || !strings.Contains(body, `"Op": "keep"`) {
		t.Errorf("plan: %d %s", code, body)
	}
	if code, body := ask(t, "GET", url+"/plan?format=table"); code != 200 || !strings.HasPrefix(body, "CONTAINER") || !strings.Contains(body, "h:web-1:80") {
		t.Errorf("plan as a table: %d %s", code, body)
	}
	if code, _ := ask(t, "GET", url+"/plan?format=xml"); code != 400 {
		t.Errorf("plan in a format that there is not: %d, want 400", code)
	}
	if code, body := ask(t, "GET", url+"/metrics"); code != 200 || !strings.Contains(body, "registrator_test_total 0") {
		t.Errorf("metrics: %d", code)
	}
	if code, _ := ask(t, "GET", url+"/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	if code, _ := ask(t, "GET", url+"/nothing"); code != 404 {
		t.Errorf("an unknown page: %d, want 404", code)
	}
	if code, _ := ask(t, "POST", url+"/containers"); code != 405 {
		t.Errorf("a wrong method: %d, want 405", code)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	p, url := serve(t)
	for name, c := range map[string]struct {
		engine  watcher.State
		catalog reconcile.State
		code    int
		text    string
	}{
		"all well":             {watcher.State{Connected: true, Complete: true}, reconcile.State{Connected: true, Settled: true}, 200, "ready"},
		"engine away":          {watcher.State{Complete: true, Err: "no socket"}, reconcile.State{Connected: true, Settled: true}, 503, "no socket"},
		"no set yet":           {watcher.State{Connected: true}, reconcile.State{}, 503, "not known"},
		"catalog never seen":   {watcher.State{Connected: true, Complete: true}, reconcile.State{Since: time.Now(), Err: "refused"}, 503, "refused"},
		"catalog just gone":    {watcher.State{Connected: true, Complete: true}, reconcile.State{Settled: true, Since: time.Now()}, 200, "ready"},
		"catalog long gone":    {watcher.State{Connected: true, Complete: true}, reconcile.State{Settled: true, Since: time.Now().Add(-time.Minute), Err: "refused"}, 503, "refused"},
		"first writes to come": {watcher.State{Connected: true, Complete: true}, reconcile.State{Connected: true, Pending: 3}, 503, "3 writes"},
	} {
		p.mu.Lock()
		p.engine, p.catalog = c.engine, c.catalog
		p.mu.Unlock()
		if code, body := ask(t, "GET", url+"/readyz"); code != c.code || !strings.Contains(body, c.text) {
			t.Errorf("%s: %d %q, want %d with %q", name, code, body, c.code, c.text)
		}
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	p, url := serve(t)
	if code, body := ask(t, "POST", url+"/drain/web-1"); code != 200 || !strings.Contains(body, "id of web-1") || !p.drained["web-1"] {
		t.Errorf("drain: %d %s", code, body)
	}
	if code, _ := ask(t, "DELETE", url+"/drain/web-1"); code != 200 || p.drained["web-1"] {
		t.Errorf("undrain: %d", code)
	}
	if code, _ := ask(t, "POST", url+"/drain"); code != 200 || !p.drained[""] {
		t.Errorf("drain all: %d", code)
	}
	if code, body := ask(t, "POST", url+"/drain/nobody"); code != 404 || !strings.Contains(body, "nobody") {
		t.Errorf("drain of nobody: %d %s", code, body)
	}
	p.mu.Lock()
	p.late = errors.New("too slow")
	p.mu.Unlock()
	if code, body := ask(t, "POST", url+"/drain/web-1"); code != 504 || !strings.Contains(body, "too slow") {
		t.Errorf("the catalog does not follow: %d %s", code, body)
	}
	if code, _ := ask(t, "POST", url+"/drain/web-2", "Sec-Fetch-Site", "cross-site"); code != 403 || p.drained["web-2"] {
		t.Errorf("a page of another site drains: %d", code)
	}
}
