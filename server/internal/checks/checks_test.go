package checks

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// desk takes reports, and says what is wanted.
type desk struct {
	mu      sync.Mutex
	wanted  map[string]Wanted
	changed chan struct{}
	reports []string
}

func newDesk() *desk { return &desk{wanted: map[string]Wanted{}, changed: make(chan struct{})} }

func (d *desk) report(id, status, output string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports = append(d.reports, fmt.Sprintf("%s %s %s", id, status, output))
}

func (d *desk) want(f func(map[string]Wanted)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d.wanted)
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *desk) desired() map[string]Wanted {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]Wanted{}
	for k, v := range d.wanted {
		out[k] = v
	}
	return out
}

func (d *desk) watch() <-chan struct{} { d.mu.Lock(); defer d.mu.Unlock(); return d.changed }

func (d *desk) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.reports...)
}

func run(t *testing.T, d *desk) (stop func()) {
	t.Helper()
	r := New(Config{Report: d.report, Splay: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx, d.watch, d.desired); err != nil {
			t.Error(err)
		}
	})
	return func() { cancel(); running.Wait() }
}

func TestTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		defer run(t, d)()
		def := &api.CheckDefinition{TTL: api.Duration(10 * time.Second)}
		d.want(func(w map[string]Wanted) { w["c"] = Wanted{Def: def, Status: api.Passing, Output: "last words"} })
		time.Sleep(9 * time.Second)
		d.want(func(w map[string]Wanted) { // a report came: a new expiry
			w["c"] = Wanted{Def: def, Status: api.Passing, Output: "last words", Expires: time.Now().Add(10 * time.Second)}
		})
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if got := d.all(); len(got) != 0 {
			t.Fatalf("reports before the TTL was over: %v", got)
		}
		time.Sleep(1001 * time.Millisecond)
		synctest.Wait()
		got := d.all()
		if len(got) != 1 || !strings.HasPrefix(got[0], "c critical TTL expired") || !strings.Contains(got[0], "last words") {
			t.Errorf("at the TTL: %v", got)
		}
	})
}

// A definition that did not change is not started anew; one that changed is; one that is
// gone reports no more.
func TestOnlyChangesRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		defer run(t, d)()
		def := func(ttl time.Duration) Wanted { return Wanted{Def: &api.CheckDefinition{TTL: api.Duration(ttl)}} }
		d.want(func(w map[string]Wanted) {
			w["same"], w["changed"], w["gone"] = def(10*time.Second), def(10*time.Second), def(10*time.Second)
		})
		time.Sleep(5 * time.Second)
		d.want(func(w map[string]Wanted) {
			w["same"], w["changed"] = def(10*time.Second), def(20*time.Second)
			delete(w, "gone")
		})
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := d.all(); len(got) != 1 || !strings.HasPrefix(got[0], "same ") {
			t.Errorf("after 11 s: %v, want the report of same alone", got)
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := d.all(); len(got) != 2 || !strings.HasPrefix(got[1], "changed ") {
			t.Errorf("after 26 s: %v", got)
		}
	})
}

func TestThresholds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		def     api.CheckDefinition
		results string // p, w, c
		want    string
	}{
		"none":     {api.CheckDefinition{}, "pcpw", "pcpw"},
		"success":  {api.CheckDefinition{SuccessBeforePassing: 2}, "ppcp", "cpcc"},
		"critical": {api.CheckDefinition{FailuresBeforeCritical: 3}, "pcccpcc", "pppcppp"},
		"warning":  {api.CheckDefinition{FailuresBeforeWarning: 1, FailuresBeforeCritical: 3}, "pcccp", "pwwcp"},
	} {
		word := map[rune]string{'p': api.Passing, 'w': api.Warning, 'c': api.Critical}
		th := threshold{def: &c.def, status: api.Critical}
		got := ""
		for _, r := range c.results {
			got += th.take(word[r])[:1]
		}
		if got != c.want {
			t.Errorf("%s: results %s: got %s, want %s", name, c.results, got, c.want)
		}
	}
}

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
		p, done := httpProbe(&api.CheckDefinition{HTTP: srv.URL + path, Header: map[string][]string{"x-key": {"v"}}})
		status, output := p(t.Context())
		done()
		if status != want {
			t.Errorf("%s: got %s (%s), want %s", path, status, output, want)
		}
		if path == "/200" && output != "HTTP GET "+srv.URL+"/200: 200 OK Output: GET Consul Health Check v" {
			t.Errorf("output: %q", output)
		}
	}
	p, done := httpProbe(&api.CheckDefinition{HTTP: srv.URL + "/redirect", DisableRedirects: true})
	defer done()
	if status, _ := p(t.Context()); status != api.Critical {
		t.Errorf("a redirect that is not followed: %s", status)
	}
	gone, done := httpProbe(&api.CheckDefinition{HTTP: "http://127.0.0.1:1/"})
	defer done()
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
	p := tcpProbe(&api.CheckDefinition{TCP: addr})
	if status, output := p(t.Context()); status != api.Passing || output != "TCP connect "+addr+": Success" {
		t.Errorf("got %s %q", status, output)
	}
	l.Close()
	if status, output := p(t.Context()); status != api.Critical || !strings.Contains(output, "refused") {
		t.Errorf("closed: %s %q", status, output)
	}
}

func TestSupported(t *testing.T) {
	t.Parallel()
	if err := Supported(&api.CheckDefinition{UDP: "x:1"}); err == nil || !strings.Contains(err.Error(), "udp") {
		t.Errorf("udp: %v, want a refusal that names it", err)
	}
	if err := Supported(&api.CheckDefinition{TCP: "x:1"}); err != nil {
		t.Errorf("tcp: %v", err)
	}
}
