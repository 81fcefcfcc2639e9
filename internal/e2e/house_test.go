package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// house is the whole story on one machine: a server, a registrator on the machine's
// engine, an nginx, and a templater beside it. Only containers of this test are
// registered.
type house struct {
	t           testing.TB
	engine      *engine
	server      *agent
	registrator *process
	nginx       *nginx
	templater   *process
	tplURL      string   // the templater's status page
	both        []string // flags of registrator and templater alike
}

// startHouse brings it up and waits until nginx answers, without a service yet.
func startHouse(t testing.TB, server *agent, both ...string) *house {
	t.Helper()
	h := &house{t: t, both: both, engine: machine(t), server: server, nginx: startNginx(t)}
	if h.server == nil {
		h.server = startServer(t)
	}
	h.registrator = start(t, bins(t, "registrator"), append(both, "-explicit", "-log-level=debug", "-resync=5s", "-filter=label:"+labelled+"="+t.Name(),
		"-owner="+t.Name(), "consul://"+h.server.http)...)
	h.startTemplater()
	return h
}

// startTemplater puts the templater beside nginx and waits for the first configuration.
func (h *house) startTemplater() {
	t := h.t
	t.Helper()
	port := freePorts(t, 1)[0]
	h.tplURL = fmt.Sprintf("http://127.0.0.1:%d", port)
	tpl := filepath.Join(h.nginx.dir, "nginx.conf.ctmpl")
	write(t, tpl, h.nginx.template(t))
	h.templater = start(t, bins(t, "templater"), append(h.both, "-consul-addr="+h.server.http, "-nginx", "-nginx-conf="+filepath.Join(h.nginx.dir, "nginx.conf"),
		"-nginx-pid="+h.nginx.pid, fmt.Sprintf("-listen=127.0.0.1:%d", port), "-template="+tpl+":"+h.nginx.conf("default.conf"))...)
	eventually(t, soon, "nginx has its first configuration", func() error {
		code, _, err := get(h.nginx.url)
		if err == nil && code != http.StatusServiceUnavailable {
			err = fmt.Errorf("status %d, want 503 before there is a service", code)
		}
		return err
	})
}

// template is the shipped one, listening on this nginx's port.
func (n *nginx) template(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("../../templates/nginx.conf.ctmpl")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "listen 80", fmt.Sprintf("listen 127.0.0.1:%d", n.port))
	return strings.ReplaceAll(text, "listen [::]:80", fmt.Sprintf("# listen [::]:%d", n.port))
}

// wantServed is for eventually: nginx's service is answered by exactly these containers.
func (h *house) wantServed(service string, ids ...string) func() error {
	return func() error {
		seen := map[string]bool{}
		for range 4 * max(len(ids), 1) { // round robin over two workers
			code, name, err := h.request(service)
			if err != nil {
				return err
			}
			if code != http.StatusOK {
				if len(ids) == 0 && code == http.StatusServiceUnavailable {
					return nil
				}
				return fmt.Errorf("status %d", code)
			}
			seen[name] = true
		}
		want := map[string]bool{}
		for _, id := range ids {
			want[id[:12]] = true
		}
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			return fmt.Errorf("served by %v, want %v", seen, want)
		}
		return nil
	}
}

// request asks nginx for a service by name and says which container answered.
func (h *house) request(service string) (code int, instance string, err error) {
	req, err := http.NewRequest(http.MethodGet, h.nginx.url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = service
	resp, err := oneShot.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("X-Instance"), nil
}

// load asks for a service rate times a second until stop is called, which gives how many
// requests there were and what failed.
func (h *house) load(service string, rate int) (stop func() (total int, failures []string)) {
	return load(h.t, rate, func() (int, string, error) { return h.request(service) })
}

// load asks rate times a second, each time without waiting for the answer before.
func load(t testing.TB, rate int, ask func() (code int, instance string, err error)) (stop func() (total int, failures []string)) {
	ctx, cancel := context.WithCancel(t.Context())
	var total atomic.Int64
	var mu sync.Mutex
	var failures []string
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			wg.Go(func() {
				at := time.Now()
				code, name, err := ask()
				total.Add(1)
				if err != nil || code != http.StatusOK {
					mu.Lock()
					failures = append(failures, fmt.Sprintf("%s: %d from %q, %v", at.Format("05.000"), code, name, err))
					mu.Unlock()
				}
			})
		}
	})
	return func() (int, []string) {
		cancel()
		wg.Wait()
		return int(total.Load()), failures
	}
}

// A container that listens some time after it was started has its traffic as soon as it
// does, whatever its check's interval, and none before.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	h := startHouse(t, nil)
	check := []string{"--label", "SERVICE_CHECK_HTTP=/health", "--label", "SERVICE_CHECK_INTERVAL=1h"}
	one := h.engine.web("slow", check...)
	eventually(t, soon, "the first container is served", h.wantServed("slow", one))
	stop := h.load("slow", 50)
	two := h.engine.run(webTag+" -start 1s", "slow", check...)
	eventually(t, soon, "the second one too", h.wantServed("slow", one, two))
	if total, failures := stop(); len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failures), total, failures)
	}
}

func TestContainerToNginx(t *testing.T) {
	t.Parallel()
	h := startHouse(t, nil)
	one := h.engine.web("web")
	eventually(t, soon, "the first container in the catalog", h.server.wantInstances("web", h.engine.published(one)))
	eventually(t, soon, "the first container is served", h.wantServed("web", one))
	two := h.engine.web("web", "--label", "SERVICE_TAGS=a,b")
	other := h.engine.web("other")
	eventually(t, soon, "the second one too", h.wantServed("web", one, two))
	eventually(t, soon, "and the other service", h.wantServed("other", other))
	h.engine.remove(one)
	eventually(t, soon, "the first one is gone", h.wantServed("web", two))
	h.engine.remove(two)
	eventually(t, soon, "a service without an instance answers 503", h.wantServed("web"))
	eventually(t, soon, "the other one goes on", h.wantServed("other", other))
}

// A container that its HEALTHCHECK finds ill gets no traffic, and gets it back when well.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	h := startHouse(t, nil)
	id := h.engine.run(checkedTag, "web")
	eventually(t, soon, "healthy and served", h.wantServed("web", id))
	h.engine.docker("exec", id, "/bin/web", "-ill", "true")
	eventually(t, soon, "ill and not served", h.wantServed("web"))
	var checks []struct{ Status, Output string }
	if err := h.server.json("/v1/health/checks/web", &checks); err != nil || len(checks) != 1 || checks[0].Status != "critical" {
		t.Errorf("the check: %+v, %v", checks, err)
	}
	h.engine.docker("exec", id, "/bin/web", "-ill", "false")
	eventually(t, soon, "well and served", h.wantServed("web", id))
}

// Ten times an instance is stopped, ten times one is killed, under 200 requests a second:
// no user notices.
func TestNoRequestLost(t *testing.T) {
	h := startHouse(t, nil)
	keep := h.engine.web("web")
	for _, how := range [][]string{{"stop", "-t", "10"}, {"kill"}} {
		t.Run(how[0], func(t *testing.T) {
			for round := range 10 {
				id := h.engine.web("web")
				eventually(t, soon, "both are served", h.wantServed("web", keep, id))
				stop := h.load("web", 200)
				served := func() error { // traffic flows before the blow
					if got, _, err := h.request("web"); err != nil || got != http.StatusOK {
						return fmt.Errorf("%d, %v", got, err)
					}
					return nil
				}
				eventually(t, soon, "under load", served)
				h.engine.docker(append(how, id)...)
				eventually(t, soon, "one is left", h.wantServed("web", keep))
				total, failures := stop()
				if len(failures) > 0 {
					t.Errorf("round %d: %d of %d requests failed: %v", round, len(failures), total, failures[:min(len(failures), 5)])
				}
				h.engine.remove(id)
			}
		})
	}
}

// A storm of the size that is meant: go test ./internal/e2e -run TestKillStorm -storm 50
// -storms 5, or make soak.
var (
	storm  = flag.Int("storm", 20, "containers that TestKillStorm kills at once")
	storms = flag.Int("storms", 2, "how often it does")
)

// Many containers killed at once, again and again: within a second of the last death the
// catalog has none of them, and all of those that live.
func TestKillStorm(t *testing.T) {
	h := startHouse(t, nil)
	keep := h.engine.web("stays")
	for round := range *storms {
		ids := h.many("storm", *storm)
		eventually(t, 60*time.Second, "all are registered", func() error {
			got, err := h.server.instances("storm")
			if err == nil && len(got) != len(ids) {
				err = fmt.Errorf("%d of %d", len(got), len(ids))
			}
			return err
		})
		h.engine.docker(append([]string{"kill"}, ids...)...)
		died := time.Now()
		eventually(t, time.Second, "no stale entry a second after the last death", h.server.wantInstances("storm"))
		if err := h.server.wantInstances("stays", h.engine.published(keep))(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		t.Logf("round %d: clean %v after the last death", round, time.Since(died).Round(time.Millisecond))
		h.engine.docker(append([]string{"rm"}, ids...)...)
	}
}

// many starts n containers side by side.
func (h *house) many(service string, n int) []string {
	h.t.Helper()
	ids := make([]string, n)
	slots := make(chan struct{}, 4) // more at once and the engine takes longer
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ids[i] = h.engine.web(service)
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" {
			h.t.Fatal("not all started")
		}
	}
	return ids
}

// The server dies and comes back: nginx serves throughout, and the house heals.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	h := startHouse(t, nil)
	one := h.engine.web("web")
	eventually(t, soon, "served", h.wantServed("web", one))
	stop := h.load("web", 50)
	h.server.kill()
	two := h.engine.web("web") // while nobody hears of it
	if err := h.wantServed("web", one)(); err != nil {
		t.Errorf("while the catalog is away: %v", err)
	}
	h.server.run()
	h.server.awaitLeader()
	eventually(t, soon, "the second one is served", h.wantServed("web", one, two))
	if total, failures := stop(); len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failures), total, failures[:min(len(failures), 5)])
	}
}

// The registrator dies; what changes meanwhile is made good when it is back, and what
// did not change is not written again.
func TestRegistratorKilled(t *testing.T) {
	t.Parallel()
	h := startHouse(t, nil)
	stays := h.engine.web("web")
	gone := []string{h.engine.web("web"), h.engine.web("web")}
	eventually(t, soon, "three are served", h.wantServed("web", append(gone, stays)...))
	index := h.modifyIndex("web", h.engine.published(stays))
	h.registrator.kill()
	h.engine.remove(gone...)
	late := h.engine.web("web")
	h.registrator.run()
	eventually(t, soon, "the house is right again", h.wantServed("web", stays, late))
	if got := h.modifyIndex("web", h.engine.published(stays)); got != index {
		t.Errorf("the unchanged service was written again: index %d, was %d", got, index)
	}
}

func (h *house) modifyIndex(service, addr string) uint64 {
	h.t.Helper()
	var rows []struct {
		ServicePort int
		ModifyIndex uint64
	}
	if err := h.server.json("/v1/catalog/service/"+service, &rows); err != nil {
		h.t.Fatal(err)
	}
	for _, r := range rows {
		if strings.HasSuffix(addr, fmt.Sprintf(":%d", r.ServicePort)) {
			return r.ModifyIndex
		}
	}
	h.t.Fatalf("%s is not among %v", addr, rows)
	return 0
}

// The catalog is away for thirty seconds while five containers start and five stop.
func TestCatalogAway(t *testing.T) {
	t.Parallel()
	h := startHouse(t, nil)
	var old []string
	for range 5 {
		old = append(old, h.engine.web("web"))
	}
	stays := h.engine.web("web")
	eventually(t, soon, "all are served", h.wantServed("web", append(old, stays)...))
	stop := h.load("web", 20)
	h.server.kill()
	back := time.NewTimer(30 * time.Second) // the outage is what is tested
	var fresh []string
	for i := range 5 {
		fresh = append(fresh, h.engine.web("web"))
		h.engine.docker("stop", "-t", "5", old[i])
	}
	<-back.C
	h.server.run()
	h.server.awaitLeader()
	eventually(t, soon, "the house is right again", h.wantServed("web", append(fresh, stays)...))
	// nginx itself passes over the stopped ones: their ports refuse
	if total, failures := stop(); len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failures), total, failures[:min(len(failures), 5)])
	}
}

// A broken template never reaches nginx; mended, it does.
func TestBrokenTemplate(t *testing.T) {
	t.Parallel()
	h := startHouse(t, nil)
	id := h.engine.web("web")
	eventually(t, soon, "served", h.wantServed("web", id))
	live, err := os.ReadFile(h.nginx.conf("default.conf"))
	if err != nil {
		t.Fatal(err)
	}
	tpl := filepath.Join(h.nginx.dir, "nginx.conf.ctmpl")
	good := h.nginx.template(t)
	for name, broken := range map[string]string{
		"refused by nginx":  good + "\nthis is no directive;\n",
		"does not parse":    good + "\n{{ range }}\n",
		"fails when run":    good + "\n{{ parseJSON \"{\" }}\n",
		"an empty upstream": good + "\nupstream none { }\n",
	} {
		before := h.failures()
		write(t, tpl, broken)
		eventually(t, soon, name+": noticed", func() error {
			if n := h.failures(); n == before {
				return fmt.Errorf("status shows no failure")
			}
			return nil
		})
		if got, err := os.ReadFile(h.nginx.conf("default.conf")); err != nil || string(got) != string(live) {
			t.Errorf("%s: the live file changed, %v", name, err)
		}
		if err := h.wantServed("web", id)(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		write(t, tpl, good)
		eventually(t, soon, name+": mended", func() error {
			code, _, err := get(h.tplURL + "/readyz")
			if err == nil && code != 200 {
				err = fmt.Errorf("readyz %d", code)
			}
			return err
		})
	}
	two := h.engine.web("web")
	eventually(t, soon, "and it goes on", h.wantServed("web", id, two))
	h.templater.stop(syscall.SIGTERM)
	if code := h.templater.exitCode(); code != 0 {
		t.Errorf("templater after SIGTERM: exit %d, want 0", code)
	}
}

// failures is how often the templater refused or failed to apply something.
func (h *house) failures() int {
	var s struct {
		Groups []struct{ Failures int }
	}
	code, body, err := get(h.tplURL + "/status?format=json")
	if err != nil || code != 200 {
		return -1
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		h.t.Fatalf("status: %v\n%s", err, body)
	}
	n := 0
	for _, g := range s.Groups {
		n += g.Failures
	}
	return n
}
