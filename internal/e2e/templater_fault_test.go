package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What has to hold when something breaks. One catalog serves them all, each case has keys
// of its own.
func TestTemplaterFaults(t *testing.T) {
	t.Parallel()
	c := startServer(t)
	for name, run := range map[string]func(*testing.T, *agent, string){
		"04 one command, one reload":     oneReload,
		"05 06 a broken file":            brokenFile,
		"07 a failing command":           failingCommand,
		"08 a master that does not heed": deafMaster,
		"18 signals":                     stopSignals,
		"19 a broken configuration":      brokenConfig,
		"20 an edited template":          editedTemplate,
		"21 plan":                        planDiffers,
		"22 a missing key":               missingKey,
		"28 keep-alive clients":          keepAlive,
		"30 rollback":                    rollBack,
		"31 same meaning":                sameMeaning,
		"32 a generation served":         generationServed,
		"33 exec":                        execMode,
		"34 nginx starts later":          nginxLater,
		"35 watch":                       liveView,
		"36 half of the news":            halfTheNews,
		"37 a fallback":                  fallBack,
		"38 a failed lookup":             failedLookup,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := *c // what goes wrong is this case's
			own.t = t
			run(t, &own, strings.Fields(name)[0]+"/")
		})
	}
}

// page is a template of one server that says what a key holds.
func page(key string) string {
	return "template {\n  contents = \"server { listen LISTEN; location / { default_type text/plain; return 200 \\\"{{ key \\\"" + key + "\\\" }}\\\"; } }\"\n  destination = \"CONF/page.conf\"\n}\n"
}

func (e *edge) says(want string) func() error {
	return func() error {
		_, body, err := get(e.nginx.url)
		if err == nil && body != want {
			err = fmt.Errorf("nginx says %q, want %q", body, want)
		}
		return err
	}
}

func oneReload(t *testing.T, c *agent, k string) {
	e := newEdge(t, c, "")
	text := read(t, e.file)
	for _, name := range []string{"a", "b", "c"} {
		text += "template {\n  contents = \"# " + name + " {{ key \\\"" + k + "x\\\" }}\"\n  destination = \"DIR/" + name + "\"\n  command = \"echo reloaded >> DIR/reloads\"\n" +
			"  check = \"echo checked >> DIR/checks\"\n  wait = \"50ms:200ms\"\n}\n"
	}
	e.configure(text)
	c.set(k+"x", "1")
	e.start().ready()
	c.set(k+"x", "2")
	eventually(t, soon, "the change", func() error {
		if got := read(t, filepath.Join(e.nginx.dir, "c")); got != "# c 2" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	eventually(t, soon, "applied", e.wantCode("/readyz", 200))
	for file, word := range map[string]string{"reloads": "reloaded\n", "checks": "checked\n"} {
		eventually(t, soon, file, func() error {
			if got := read(t, filepath.Join(e.nginx.dir, file)); got != word+word {
				return fmt.Errorf("%q, want one at the start and one for the change of three files", got)
			}
			return nil
		})
	}
}

func brokenFile(t *testing.T, c *agent, k string) {
	c.set(k+"x", "good")
	e := newEdge(t, c, page(k+"x")).start().ready()
	eventually(t, soon, "good", e.says("good"))
	live := read(t, e.nginx.conf("page.conf"))
	failures := e.metric("templater_failures_total")
	c.set(k+"x", `"; nonsense; #`)
	eventually(t, soon, "not ready", e.wantCode("/readyz", 503))
	if got := read(t, e.nginx.conf("page.conf")); got != live {
		t.Errorf("the live file is %q", got)
	}
	if g := e.group(); g.Stage != "check" || !strings.Contains(g.LastError, "page.conf:1") {
		t.Errorf("the page says %+v", g)
	}
	if e.metric("templater_failures_total") <= failures || e.metric("templater_ready") != 0 || e.metric("templater_group_ready") != 0 {
		t.Error("the metrics do not say so")
	}
	for _, path := range []string{"/healthz", "/status"} {
		if err := e.wantCode(path, 200)(); err != nil {
			t.Error(err)
		}
	}
	e.nginx.valid(t)
	c.set(k+"x", "better")
	eventually(t, soon, "it recovers alone", e.says("better"))
	eventually(t, soon, "and is ready", e.wantCode("/readyz", 200))
}

func failingCommand(t *testing.T, c *agent, k string) {
	e := newEdge(t, c, "template {\n  contents = \"{{ key \\\""+k+"x\\\" }}\"\n  destination = \"DIR/out\"\n  command = \"test ! -e DIR/broken\"\n}\n")
	out, broken := filepath.Join(e.nginx.dir, "out"), filepath.Join(e.nginx.dir, "broken")
	c.set(k+"x", "one")
	e.start().ready()
	write(t, broken, "")
	c.set(k+"x", "two")
	eventually(t, soon, "the failure is seen", func() error {
		if g := e.group(); g.Stage != "apply" || !strings.Contains(g.LastError, "exit status 1") {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if got := read(t, out); got != "one" {
		t.Errorf("after the failure the file holds %q", got)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "it is tried again", func() error {
		if got := read(t, out); got != "two" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

func deafMaster(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, "group \"edge\" {\n  nginx = true\n  verify {\n    timeout = \"300ms\"\n  }\n"+page(k+"x")+"}\n").start().ready()
	eventually(t, soon, "one", e.says("one"))
	live := read(t, e.nginx.conf("page.conf"))
	e.nginx.signal(syscall.SIGSTOP)
	c.set(k+"x", "two")
	eventually(t, soon, "the reload is found missing", func() error {
		if g := e.group(); !strings.Contains(g.LastError, "no new workers") {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if got := read(t, e.nginx.conf("page.conf")); got != live {
		t.Errorf("not rolled back: %q", got)
	}
	e.nginx.signal(syscall.SIGCONT)
	eventually(t, soon, "once it heeds, the change is made", e.says("two"))
}

func stopSignals(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	for sig, want := range map[syscall.Signal]int{syscall.SIGTERM: 0, syscall.SIGINT: 12} {
		e := newEdge(t, c, page(k+"x")).start().ready()
		began := time.Now()
		e.tpl.stop(sig)
		if d := time.Since(began); d > soon {
			t.Errorf("%v: it took %s to stop", sig, d)
		}
		if code := e.tpl.exitCode(); code != want {
			t.Errorf("%v: exit %d, want %d", sig, code, want)
		}
	}
}

func brokenConfig(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, page(k+"x")).start().ready()
	good := read(t, e.file)
	write(t, e.file, good+"templte {}\n")
	e.tpl.signal(syscall.SIGHUP)
	eventually(t, soon, "it is refused", func() error {
		if !strings.Contains(e.tpl.output(), "reload refused") {
			return fmt.Errorf("no word of it")
		}
		return nil
	})
	c.set(k+"x", "two")
	eventually(t, soon, "the old one goes on", e.says("two"))
	write(t, e.file, strings.ReplaceAll(good, "/x\\\"", "/y\\\""))
	c.set(k+"y", "other")
	e.tpl.signal(syscall.SIGHUP)
	eventually(t, soon, "a good one is taken", e.says("other"))
	_, errs, code := outcome(t, nil, bins(t, "templater"), "config", "validate", "-config="+e.file)
	if code != 0 {
		t.Errorf("config validate: exit %d: %s", code, errs)
	}
	write(t, e.file, good+"templte {}\n")
	if _, errs, code := outcome(t, nil, bins(t, "templater"), "config", "validate", "-config="+e.file); code != 15 || !strings.Contains(errs, "did you mean template") {
		t.Errorf("config validate of a broken one: exit %d: %s", code, errs)
	}
}

func editedTemplate(t *testing.T, c *agent, k string) {
	e := newEdge(t, c, "template {\n  source = \"DIR/link\"\n  destination = \"DIR/out\"\n}\n")
	dir := e.nginx.dir
	write(t, filepath.Join(dir, "one"), "one")
	if err := os.Symlink("one", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	e.start().ready()
	says := func(want string, applies int) {
		t.Helper()
		eventually(t, soon, want, func() error {
			if got := read(t, filepath.Join(dir, "out")); got != want {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
		eventually(t, soon, "counted", func() error {
			if g := e.group(); g.Applies != applies {
				return fmt.Errorf("%d applies, want %d", g.Applies, applies)
			}
			return nil
		})
	}
	says("one", 1)
	write(t, filepath.Join(dir, "one"), "written over")
	says("written over", 2)
	write(t, filepath.Join(dir, "tmp"), "renamed")
	if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "one")); err != nil {
		t.Fatal(err)
	}
	says("renamed", 3)
	write(t, filepath.Join(dir, "two"), "led elsewhere")
	if err := os.Symlink("two", filepath.Join(dir, "link2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "link2"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	says("led elsewhere", 4)
	stage := func(want string) {
		t.Helper()
		eventually(t, soon, want, func() error {
			if g := e.group(); g.Stage != want {
				return fmt.Errorf("%+v", g)
			}
			return nil
		})
	}
	write(t, filepath.Join(dir, "two"), "{{ if }}")
	stage("template")
	write(t, filepath.Join(dir, "two"), "{{ key \""+k+"none\" }}") // mended, but it has to wait
	stage("")
	out, errs, _ := outcome(t, nil, bins(t, "templater"), "status", "-config="+e.file, "-why="+filepath.Join(dir, "out"))
	if !strings.Contains(out, "waits for key("+k+"none)") || strings.Contains(out, "missing value") {
		t.Errorf("status -why: %s%s", out, errs)
	}
}

func planDiffers(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, page(k+"x"))
	plan := func(args ...string) (string, int) {
		out, errs, code := outcome(t, nil, bins(t, "templater"), append([]string{"plan", "-config=" + e.file}, args...)...)
		return out + errs, code
	}
	out, code := plan()
	if code != 2 || !strings.Contains(out, "--- /dev/null\n+++ "+e.nginx.conf("page.conf")) || exists(e.nginx.conf("page.conf")) {
		t.Errorf("a new file: exit %d\n%s", code, out)
	}
	e.start().ready()
	eventually(t, soon, "one", e.says("one"))
	e.tpl.stop(syscall.SIGTERM)
	if out, code := plan(); code != 0 || out != "" {
		t.Errorf("nothing to do: exit %d\n%s", code, out)
	}
	text := read(t, e.file)
	write(t, e.file, strings.Replace(text, "  destination", "  perms = \"0640\"\n  destination", 1))
	if out, code := plan(); code != 2 || out != "# "+e.nginx.conf("page.conf")+": mode 0644, want 0640\n" {
		t.Errorf("another mode: exit %d\n%s", code, out)
	}
	write(t, e.file, text)
	live := read(t, e.nginx.conf("page.conf"))
	c.set(k+"x", "two")
	out, code = plan()
	if code != 2 || !strings.Contains(out, "-server") || !strings.Contains(out, "+server") || read(t, e.nginx.conf("page.conf")) != live {
		t.Errorf("a change: exit %d\n%s", code, out)
	}
	if out, code := plan("-redact"); code != 2 || out != e.nginx.conf("page.conf")+": +1 -1 lines\n" {
		t.Errorf("a change, redacted: exit %d\n%s", code, out)
	}
	check := func() (string, int) {
		out, errs, code := outcome(t, nil, bins(t, "templater"), "check", "-config="+e.file)
		return out + errs, code
	}
	if out, code := check(); code != 0 {
		t.Errorf("check: exit %d\n%s", code, out)
	}
	c.set(k+"x", `"; nonsense; #`)
	if out, code := check(); code != 1 || !strings.Contains(out, "page.conf:1") || read(t, e.nginx.conf("page.conf")) != live {
		t.Errorf("check of what nginx refuses: exit %d\n%s", code, out)
	}
	if err := c.send(http.MethodDelete, "/v1/kv/"+k+"x", ""); err != nil {
		t.Fatal(err)
	}
	if out, code := plan("-timeout=500ms"); code != 1 || !strings.Contains(out, "waits for key("+k+"x)") {
		t.Errorf("without the key: exit %d\n%s", code, out)
	}
}

func missingKey(t *testing.T, c *agent, k string) {
	e := newEdge(t, c, page(k+"x")+"template {\n  contents = \"{{ key \\\""+k+"none\\\" }}\"\n  destination = \"DIR/none\"\n  command = \"true\"\n}\n")
	c.set(k+"x", "one")
	e.start()
	eventually(t, soon, "the other one is served", e.says("one"))
	eventually(t, soon, "a word of the missing key", func() error {
		if out := e.tpl.output(); !strings.Contains(out, "level=WARN") || !strings.Contains(out, "key("+k+"none)") {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	out, _, _ := outcome(t, nil, bins(t, "templater"), "status", "-config="+e.file, "-why=none")
	if !strings.Contains(out, "waits for key("+k+"none)") {
		t.Errorf("status -why:\n%s", out)
	}
}

// Where that is wanted, a key that stays away ends the templater, and one that goes later
// does not.
func failedLookup(t *testing.T, c *agent, k string) {
	e := newEdge(t, c, "")
	text := read(t, e.file) + "err_on_failed_lookup = true\nblock_query_wait = \"1s\"\n" + page(k+"x")
	for _, how := range []string{"run", "once"} {
		e.configure(text + "template {\n  contents = \"{{ key \\\"" + k + "none\\\" }}\"\n  destination = \"DIR/none\"\n}\n")
		c.set(k+"x", "one")
		if _, errs, code := outcome(t, nil, bins(t, "templater"), how, "-config="+e.file); code != 14 || !strings.Contains(errs, "there is no key("+k+"none)") {
			t.Errorf("%s: exit %d: %s", how, code, errs)
		}
	}
	e.configure(text)
	e.start().ready()
	if err := c.send(http.MethodDelete, "/v1/kv/"+k+"x", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "it is missed", func() error {
		if out := e.tpl.output(); !strings.Contains(out, "waits for data") {
			return errors.New("not yet")
		}
		return nil
	})
	c.set(k+"x", "two")
	eventually(t, soon, "it is there again", e.says("two"))
}

// A hundred templates over a thousand services: each dependency has one query that waits,
// and a change executes only what reads it.
func TestTemplaterMany(t *testing.T) {
	t.Parallel()
	c := startServer(t, "-hcl=limits { http_max_conns_per_client = 4000 }") // 200 is the default, Consul's too
	var mu sync.Mutex
	open := map[string]int{} // blocking queries under way, by path
	target, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	var most atomic.Int64
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		open[r.URL.Path]++
		if n := int64(open[r.URL.Path]); n > most.Load() {
			most.Store(n)
		}
		mu.Unlock()
		defer func() { mu.Lock(); open[r.URL.Path]--; mu.Unlock() }()
		forward.ServeHTTP(w, r)
	})}
	port := freePorts(t, 1)[0]
	l, err := listenOn(port)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l) // ends with the server
	t.Cleanup(func() { server.Close() })
	for i := range 1000 {
		c.add(fmt.Sprintf("many-%d", i), fmt.Sprintf("many-%d", i), 1000+i, "")
	}
	e := newEdge(t, c, "")
	text := read(t, e.file)
	for i := range 100 {
		text += fmt.Sprintf("template {\n  contents = \"{{ range service \\\"many-0\\\" }}{{ .Port }}{{ end }}{{ range loop %d %d }}{{ range service (printf \\\"many-%%d\\\" .) }}{{ .Port }} {{ end }}{{ end }}\"\n  destination = \"DIR/out-%d\"\n}\n", i*10, i*10+10, i)
	}
	e.configure(text)
	began := time.Now()
	e.start().ready()
	t.Logf("first apply of 100 templates over 1,000 services after %s", time.Since(began).Round(time.Millisecond))
	e.tpl.kill()
	e.configure(strings.Replace(text, c.http, fmt.Sprintf("127.0.0.1:%d", port), 1)) // now with somebody who counts in between
	e.start().ready()
	eventually(t, soon, "one query for each of the 1,000", func() error {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for path, q := range open {
			if strings.Contains(path, "/health/service/many-") {
				n += q
			}
		}
		if n != 1000 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
	if most.Load() != 1 {
		t.Errorf("up to %d queries of one service at a time, want 1", most.Load())
	}
	executed := func() map[string]int {
		out := map[string]int{}
		for _, g := range e.groups() {
			out[g.Name] = g.Templates[0].Executed
		}
		return out
	}
	before := executed()
	c.add("many-555", "many-555", 9999, "")
	eventually(t, soon, "the change", func() error {
		if got := read(t, filepath.Join(e.nginx.dir, "out-55")); !strings.Contains(got, "9999 ") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	for name, n := range executed() {
		if want := before[name] + map[bool]int{true: 1}[strings.HasSuffix(name, "out-55")]; n != want {
			t.Errorf("%s was executed %d times, want %d", name, n, want)
		}
	}
	mb := e.tpl.memory()
	if mb > 70 { // under 60 in most runs: it depends on when garbage was last collected
		t.Errorf("%.1f MB, want at most 70", mb)
	}
	t.Logf("%.1f MB", mb)
}

// Forty clients that keep their connections: what a reload costs them is bounded.
func keepAlive(t *testing.T, c *agent, k string) {
	const clients = 40
	c.set(k+"x", "0")
	e := newEdge(t, c, page(k+"x")).start().ready()
	eventually(t, soon, "served", e.says("0"))
	var requests, failed atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				requests.Add(1)
				resp, err := client.Get(e.nginx.url)
				if err != nil {
					failed.Add(1)
					continue
				}
				resp.Body.Close()
			}
		})
	}
	before := e.group().Reloads
	for i := range 10 {
		want := fmt.Sprint(i + 1)
		c.set(k+"x", want)
		eventually(t, soon, want, e.says(want))
	}
	close(stop)
	wg.Wait()
	reloads := e.group().Reloads - before
	if got, most := failed.Load(), int64(reloads*clients); got > most {
		t.Errorf("%d of %d requests failed in %d reloads, want at most %d", got, requests.Load(), reloads, most)
	}
	t.Logf("%d of %d requests failed in %d reloads", failed.Load(), requests.Load(), reloads)
}

func rollBack(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, "group \"edge\" {\n  nginx = true\n"+page(k+"x")+"}\n").start().ready()
	for _, v := range []string{"one", "two", "three"} {
		c.set(k+"x", v)
		eventually(t, soon, v, e.says(v))
		eventually(t, soon, "applied", e.wantCode("/readyz", 200))
	}
	roll := func(args ...string) (string, int) {
		out, errs, code := outcome(t, nil, bins(t, "templater"), append([]string{"rollback", "-config=" + e.file, "edge"}, args...)...)
		return out + errs, code
	}
	if out, code := roll("2"); code != 0 {
		t.Fatalf("rollback: exit %d: %s", code, out)
	}
	eventually(t, soon, "two generations back", e.says("one"))
	c.set(k+"x", "four")
	eventually(t, soon, "the running one leaves it", func() error {
		if g := e.group(); g.Pinned == "" || g.Held == "" {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if err := e.says("one")(); err != nil {
		t.Error(err)
	}
	if out, code := roll("99"); code != 1 || !strings.Contains(out, "generations before") {
		t.Errorf("too far back: exit %d: %s", code, out)
	}
	for range 2 { // the second time the running one hears of neither before it looks
		if out, code := roll("0"); code != 0 {
			t.Fatalf("rollback 0: exit %d: %s", code, out)
		}
		eventually(t, soon, "the catalog is followed again", e.says("four"))
		eventually(t, soon, "and well", e.wantCode("/readyz", 200))
		if out, code := roll("1"); code != 0 {
			t.Fatalf("rollback: exit %d: %s", code, out)
		}
	}
	if out, code := roll("0"); code != 0 {
		t.Fatalf("rollback 0: exit %d: %s", code, out)
	}
	eventually(t, soon, "the catalog is followed in the end", e.says("four"))
	if out, _, code := outcome(t, nil, bins(t, "templater"), "status", "-config="+e.file); code != 0 || !strings.Contains(out, "applied") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
}

func sameMeaning(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, "template {\n  contents = \"# {{ key \\\""+k+"x\\\" }}\\nserver { listen LISTEN; return 200 same; }\\n\"\n  destination = \"CONF/page.conf\"\n}\n").start().ready()
	eventually(t, soon, "served", e.says("same"))
	before := e.group()
	c.set(k+"x", "two")
	eventually(t, soon, "written", func() error {
		if got := read(t, e.nginx.conf("page.conf")); !strings.HasPrefix(got, "# two") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	eventually(t, soon, "applied", func() error {
		if g := e.group(); g.Applies != before.Applies+1 {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if g := e.group(); g.Reloads != before.Reloads {
		t.Errorf("reloaded for a comment: %+v", g)
	}
}

func generationServed(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, "")
	e.configure(strings.Replace(read(t, e.file), "nginx {\n", "nginx {\n  generation = \"unix:DIR/generation\"\n", 1) + page(k+"x"))
	e.start().ready()
	for _, v := range []string{"one", "two"} {
		c.set(k+"x", v)
		eventually(t, soon, v, e.says(v))
	}
	eventually(t, soon, "nginx and the page agree", func() error {
		if !strings.Contains(read(t, e.nginx.conf("templater-generation.conf")), e.group().Generation) {
			return fmt.Errorf("%s is not in the file", e.group().Generation)
		}
		return e.wantCode("/readyz", 200)()
	})
	e.nginx.valid(t)
}

func execMode(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, "exec {\n  command = \"trap 'echo hup >> DIR/log' HUP; trap 'echo usr >> DIR/log; exit 9' USR1; echo up $WORD >> DIR/log; while :; do sleep 0.05; done\"\n"+
		"  reload_signal = \"SIGHUP\"\n  env {\n    custom = [\"WORD=here\"]\n  }\n}\n"+page(k+"x")).start().ready()
	logged := func(want string) func() error {
		return func() error {
			b, err := os.ReadFile(filepath.Join(e.nginx.dir, "log"))
			if got := strings.ReplaceAll(string(b), "\n", " "); err == nil && got != want {
				err = fmt.Errorf("the program saw %q, want %q", got, want)
			}
			return err
		}
	}
	eventually(t, soon, "started", logged("up here "))
	c.set(k+"x", "two")
	eventually(t, soon, "told", logged("up here hup "))
	e.tpl.signal(syscall.SIGUSR1)
	eventually(t, soon, "passed on", logged("up here hup usr "))
	if code := e.tpl.exitCode(); code != 9 {
		t.Errorf("exit %d, want the program's 9", code)
	}
}

// While nginx does not run, its files are kept right; once it does, it is told.
func nginxLater(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, page(k+"x")).start().ready()
	eventually(t, soon, "one", e.says("one"))
	e.nginx.stop(syscall.SIGQUIT)
	c.set(k+"x", "two")
	eventually(t, soon, "the file follows", func() error {
		if got := read(t, e.nginx.conf("page.conf")); !strings.Contains(got, "two") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	e.nginx.run()
	eventually(t, soon, "it starts with it", e.says("two"))
	eventually(t, 90*time.Second, "and in the end all is well", e.wantCode("/readyz", 200))
}

// On a terminal the status is shown live, until it is interrupted.
func liveView(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	e := newEdge(t, c, page(k+"x")).start().ready()
	templater := bins(t, "templater")
	out, _, code := outcome(t, nil, tool(t, "script"), "-qec", "timeout --signal=INT --preserve-status 2 "+templater+" watch -config="+e.file, "/dev/null")
	if code != 0 || strings.Count(out, "GROUP") < 2 || !strings.Contains(out, "applied") || !strings.HasSuffix(strings.TrimSpace(out), "\x1b[?1049l") {
		t.Errorf("exit %d: %q", code, out)
	}
	if _, errs, code := outcome(t, nil, templater, "watch", "-config="+e.file); code != 1 || !strings.Contains(errs, "terminal") {
		t.Errorf("without a terminal: exit %d: %s", code, errs)
	}
}

// A catalog that was lost and came back without a service is doubted although, for now,
// another template of the group still shows that service.
func halfTheNews(t *testing.T, c *agent, k string) {
	service := strings.Trim(k, "/") + "-web"
	c.add(service, service, backend(t, "one"), "")
	l := startLiar(t, c.url)
	e := newEdge(t, c, "")
	e.configure(strings.Replace(read(t, e.file), c.http, l.addr, 1) + shipped +
		"template {\n  contents = \"# {{ range service \\\"" + service + "\\\" }}{{ .ID }} {{ end }}\\n\"\n  destination = \"CONF/names.conf\"\n}\n")
	e.start().ready()
	eventually(t, soon, "served", e.served(service, "one"))
	l.tell(lies["an error"])
	eventually(t, soon, "the catalog is missed", func() error {
		if e.metric("templater_catalog_connected") != 0 {
			return errors.New("not yet")
		}
		return nil
	})
	l.tell(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/catalog/services" || r.FormValue("index") != "" {
			<-r.Context().Done() // what else there is to say comes later
			return
		}
		w.Header().Set("X-Consul-Index", "3")
		fmt.Fprint(w, `{"consul": []}`)
	})
	eventually(t, soon, "the news is held", func() error {
		if g := e.group(); g.Held == "" {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if err := e.served(service, "one")(); err != nil {
		t.Error(err)
	}
	l.tell(nil)
	eventually(t, soon, "all is well", func() error {
		if g := e.group(); g.Held != "" || !g.Ready {
			return fmt.Errorf("%+v", g)
		}
		return e.served(service, "one")()
	})
}

// Where that is wanted, a file takes the place of what was rendered once the catalog has
// been away for long.
func fallBack(t *testing.T, c *agent, k string) {
	c.set(k+"x", "one")
	l := startLiar(t, c.url)
	e := newEdge(t, c, "")
	e.configure(strings.Replace(read(t, e.file), c.http, l.addr, 1) + "catalog {\n  on_loss = \"fallback\"\n  max_age = \"1s\"\n}\n" +
		strings.Replace(page(k+"x"), "destination", "fallback = \"DIR/fallback\"\n  destination", 1))
	write(t, filepath.Join(e.nginx.dir, "fallback"), e.fill("server { listen LISTEN; location / { return 200 lost; } }\n"))
	e.start().ready()
	eventually(t, soon, "one", e.says("one"))
	l.tell(lies["an error"])
	eventually(t, soon, "lost", e.says("lost"))
	c.set(k+"x", "two")
	l.tell(nil)
	eventually(t, soon, "it is followed again", e.says("two"))
	eventually(t, soon, "and well", e.wantCode("/readyz", 200))
}
