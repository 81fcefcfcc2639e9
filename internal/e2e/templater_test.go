package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// edge is a templater beside a private nginx, with a catalog that a test writes.
type edge struct {
	t       testing.TB
	catalog *agent
	nginx   *nginx
	file    string // its configuration
	tpl     *process
	url     string // its status page
}

// catalogs are what every case that is about the catalog is tried with.
var catalogs = map[string]func(testing.TB) *agent{
	"rollcall": func(t testing.TB) *agent { return startServer(t) },
	"consul":   func(t testing.TB) *agent { return startConsul(t) },
}

func startConsul(t testing.TB) *agent {
	t.Helper()
	a := startAgent(t, "server-host", options{bin: realConsul(t)}, "-server", "-bootstrap-expect=1")
	a.awaitLeader()
	return a
}

// newEdge makes the parts; nothing runs yet but nginx. more is configuration beside what
// leads to catalog, nginx and status page; TPL, DIR and CONF stand for the shipped
// template, the test's folder and nginx's conf.d.
func newEdge(t testing.TB, catalog *agent, more string) *edge {
	t.Helper()
	e := &edge{t: t, catalog: catalog, nginx: startNginx(t)}
	port := freePorts(t, 1)[0]
	e.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	e.file = filepath.Join(e.nginx.dir, "templater.hcl")
	tpl := filepath.Join(e.nginx.dir, "nginx.conf.ctmpl")
	write(t, tpl, e.nginx.template(t))
	address := "127.0.0.1:1" // nobody
	if catalog != nil {
		address = catalog.http
	}
	e.configure(fmt.Sprintf("consul {\n  address = %q\n}\nlisten = \"127.0.0.1:%d\"\nnginx {\n  enabled = true\n  conf = %q\n  pid = %q\n}\n%s",
		address, port, filepath.Join(e.nginx.dir, "nginx.conf"), e.nginx.pid, more))
	return e
}

func (e *edge) configure(text string) {
	e.t.Helper()
	write(e.t, e.file, e.fill(text))
}

func (e *edge) fill(text string) string {
	return strings.NewReplacer("TPL", filepath.Join(e.nginx.dir, "nginx.conf.ctmpl"), "DIR", e.nginx.dir, "CONF", filepath.Join(e.nginx.dir, "conf.d"),
		"LISTEN", fmt.Sprintf("127.0.0.1:%d", e.nginx.port)).Replace(text)
}

// shipped is the one template most cases need.
const shipped = "template {\n  source = \"TPL\"\n  destination = \"CONF/default.conf\"\n}\n"

func (e *edge) start() *edge {
	e.t.Helper()
	e.tpl = start(e.t, bins(e.t, "templater"), "-config="+e.file)
	return e
}

func (e *edge) ready() *edge {
	e.t.Helper()
	eventually(e.t, 20*time.Second, "the templater is ready", e.wantCode("/readyz", 200))
	return e
}

func (e *edge) wantCode(path string, want int) func() error {
	return func() error {
		code, body, err := get(e.url + path)
		if err == nil && code != want {
			err = fmt.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
		return err
	}
}

// groupStatus is what the page says of a group.
type groupStatus struct {
	Name, Generation, LastError, Held, Pinned, Stage string
	Ready                                            bool
	Applies, Reloads, Failures                       int
	Instances                                        map[string]int
	Templates                                        []struct {
		Name     string
		Executed int
	}
}

func (e *edge) groups() []groupStatus {
	e.t.Helper()
	var s struct{ Groups []groupStatus }
	code, body, err := get(e.url + "/status?format=json")
	if err != nil || code != 200 {
		e.t.Fatalf("status: %d, %v", code, err)
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		e.t.Fatal(err)
	}
	return s.Groups
}

func (e *edge) group() groupStatus { e.t.Helper(); return e.groups()[0] }

// metric is the value of a metric, of the first group if there are several.
func (e *edge) metric(name string) float64 {
	e.t.Helper()
	_, body, err := get(e.url + "/metrics")
	if err != nil {
		e.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `(?:\{[^}]*\})? (\S+)$`).FindStringSubmatch(body)
	if m == nil {
		e.t.Fatalf("there is no metric %s in\n%s", name, body)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		e.t.Fatal(err)
	}
	return v
}

// valid fails unless nginx accepts what is on disk.
func (n *nginx) valid(t testing.TB) {
	t.Helper()
	if _, errs, code := outcome(t, nil, n.name, "-t", "-q", "-p", n.dir, "-c", filepath.Join(n.dir, "nginx.conf")); code != 0 {
		t.Errorf("nginx refuses what is on disk: %s", errs)
	}
}

// backend is a server that answers its name, registered or not.
func backend(t testing.TB, name string) (port int) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Instance", name) }))
	t.Cleanup(s.Close)
	_, text, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// add registers an instance on a node of its own; status "" is passing.
func (a *agent) add(service, id string, port int, status string, tags ...string) {
	a.t.Helper()
	if status == "" {
		status = "passing"
	}
	b, err := json.Marshal(map[string]any{
		"Node": "node-" + id, "Address": "127.0.0.1", "SkipNodeUpdate": false,
		"Service": map[string]any{"ID": id, "Service": service, "Port": port, "Tags": tags},
		"Check":   map[string]any{"Name": "up", "CheckID": "check-" + id, "ServiceID": id, "Status": status},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	if err := a.put("/v1/catalog/register", string(b)); err != nil {
		a.t.Fatal(err)
	}
}

// drop takes an instance away.
func (a *agent) drop(id string) {
	a.t.Helper()
	if err := a.put("/v1/catalog/deregister", fmt.Sprintf(`{"Node":%q}`, "node-"+id)); err != nil {
		a.t.Fatal(err)
	}
}

// set writes a key.
func (a *agent) set(key, value string) {
	a.t.Helper()
	if err := a.put("/v1/kv/"+key, value); err != nil {
		a.t.Fatal(err)
	}
}

// served is for eventually: nginx has the service answered by exactly these instances.
func (e *edge) served(service string, want ...string) func() error {
	return func() error {
		seen := map[string]bool{}
		for range 4 * max(len(want), 1) {
			name, code, err := e.ask(service)
			if err != nil {
				return err
			}
			if code != 200 {
				if len(want) == 0 && code == 503 {
					return nil
				}
				return fmt.Errorf("status %d", code)
			}
			seen[name] = true
		}
		got := []string{}
		for name := range seen {
			got = append(got, name)
		}
		if !sameSet(got, want) {
			return fmt.Errorf("%s is served by %v, want %v", service, got, want)
		}
		return nil
	}
}

// load asks nginx for a service rate times a second.
func (e *edge) load(service string, rate int) (stop func() (total int, failures []string)) {
	return load(e.t, rate, func() (int, string, error) {
		name, code, err := e.ask(service)
		return code, name, err
	})
}

func (e *edge) ask(host string) (instance string, code int, err error) {
	req, err := http.NewRequest(http.MethodGet, e.nginx.url, nil)
	if err != nil {
		return "", 0, err
	}
	req.Host = host
	resp, err := oneShot.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	return resp.Header.Get("X-Instance"), resp.StatusCode, nil
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func listenOn(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}
