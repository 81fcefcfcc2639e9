package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// command executes a command line, and gives the exit code and what was said.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = execute(args, &out, &errs)
	return code, out.String(), errs.String()
}

// plain is a catalog without TLS that has nothing; it counts who asks.
func plain(t *testing.T, asked *atomic.Bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Store(true)
		w.Header().Set("X-Consul-Index", "5")
		w.Write([]byte("{}"))
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// Whoever says anything of certificates has no word go out in the clear; whoever says that
// TLS is off needs none of the files that are named.
func TestTLS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text  string
		args  []string
		plain bool
	}{
		"nothing":          {plain: true},
		"server name":      {text: `server_name = "x"`},
		"flag server name": {args: []string{"-consul-ssl-server-name=x"}},
		"flag verify":      {args: []string{"-consul-ssl-verify"}},
		"flag":             {args: []string{"-consul-ssl"}},
		"off":              {text: "enabled = false\n cert = \"/z\"\n key = \"/zz\"\n ca_path = \"/x\"", plain: true},
		"flag off":         {text: `server_name = "x"`, args: []string{"-consul-ssl=0"}, plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Bool
			dir := t.TempDir()
			file := filepath.Join(dir, "a.hcl")
			text := "consul {\n address = \"" + plain(t, &asked) + "\"\n ssl {\n " + c.text + "\n }\n retry {\n enabled = false\n }\n}\n" +
				"template {\n contents = \"{{ services }}\"\n destination = \"" + filepath.Join(dir, "out") + "\"\n}\n"
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			code, _, errs := command(t, append([]string{"-once", "-timeout=10s", "-config", file}, c.args...)...)
			if asked.Load() != c.plain || (code == 0) != c.plain {
				t.Errorf("asked in the clear: %t, want %t; exit %d: %s", asked.Load(), c.plain, code, errs)
			}
		})
	}
}

// -once asks as often as it is told to, and for ever where it is told nothing.
func TestOnceRetries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		args []string
		want int64 // questions; 0: until the time is up
	}{
		"off":          {args: []string{"-consul-retry=false"}, want: 1},
		"one":          {args: []string{"-consul-retry-attempts", "1"}, want: 2},
		"file off":     {text: "enabled = false", want: 1},
		"file two":     {text: "attempts = 2", want: 3},
		"flag goes":    {text: "enabled = false", args: []string{"-consul-retry", "-consul-retry-attempts=1"}, want: 2},
		"nothing said": {},
		"for ever":     {text: "enabled = true\n attempts = 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.WriteHeader(http.StatusInternalServerError)
			}))
			defer s.Close()
			dir, limit := t.TempDir(), "-timeout=1m"
			if c.want == 0 {
				limit = "-timeout=2s"
			}
			file := filepath.Join(dir, "a.hcl")
			text := "consul {\n address = \"" + s.URL + "\"\n retry {\n " + c.text + "\n }\n}\ntemplate {\n contents = \"{{ services }}\"\n destination = \"" + filepath.Join(dir, "out") + "\"\n}\n"
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			code, _, errs := command(t, append([]string{"-once", limit, "-config", file}, c.args...)...)
			if code != exitRunner || strings.Contains(errs, "the time is up") != (c.want == 0) {
				t.Errorf("exit %d, want %d: %s", code, exitRunner, errs)
			}
			if got := asked.Load(); c.want > 0 && got != c.want {
				t.Errorf("%d questions, want %d", got, c.want)
			}
		})
	}
}

// Templates, commands and the program of exec mode find how the catalog is reached in their
// environment; what the configuration gives a program itself goes before.
func TestEnvironment(t *testing.T) {
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	t.Setenv("CONSUL_HTTP_TOKEN", "")
	var asked atomic.Bool
	addr, dir := plain(t, &asked), t.TempDir()
	text := `
consul {
  address = "` + addr + `"
  token   = "secret"
  auth {
    username = "u"
    password = "p"
  }
  ssl {
    enabled = false
  }
}
template {
  contents    = "{{ services | len }} {{ env \"CONSUL_HTTP_ADDR\" }} {{ mustEnv \"CONSUL_HTTP_TOKEN\" }} {{ envOrDefault \"CONSUL_HTTP_AUTH\" \"none\" }} {{ envOrDefault \"CONSUL_HTTP_SSL_VERIFY\" \"none\" }}"
  destination = "DIR/out"
  exec {
    command = "/usr/bin/env > DIR/command"
    env {
      denylist = ["CONSUL*"]
    }
  }
}
exec {
  command = "/usr/bin/env > DIR/exec"
  env {
    pristine = true
    custom   = ["CONSUL_HTTP_TOKEN=own"]
  }
}
`
	file := filepath.Join(dir, "a.hcl")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "-once", "-timeout=1m", "-config", file); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	for name, want := range map[string]string{
		"command": "ADDR=" + addr + " AUTH=u:p SSL=false TOKEN=secret",
		"exec":    "ADDR=" + addr + " AUTH=u:p SSL=false TOKEN=own",
	} {
		var got []string
		for line := range strings.Lines(read(t, filepath.Join(dir, name))) {
			if kv, ok := strings.CutPrefix(line, "CONSUL_HTTP_"); ok {
				got = append(got, strings.TrimSpace(kv))
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got, want := read(t, filepath.Join(dir, "out")), "0 "+addr+" secret u:p none"; got != want {
		t.Errorf("the template: %q, want %q", got, want)
	}
}

// A pid file that cannot be written ends -once, too, before anything is rendered.
func TestOncePIDFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "-once", "-pid-file="+dir+"/none/pid", "-template="+in+":"+out); code != exitRunner || !strings.Contains(errs, "/none/pid") {
		t.Errorf("exit %d, want %d: %s", code, exitRunner, errs)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("it was rendered")
	}
	if code, _, errs := command(t, "-once", "-pid-file="+dir+"/pid", "-template="+in+":"+out); code != 0 || read(t, out) != "x" {
		t.Errorf("exit %d: %s", code, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
		t.Error("the pid file stays behind")
	}
}

// plan shows what can be rendered where something else waits for a key that is not there.
func TestPlanPart(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "5")
		if r.FormValue("index") != "" {
			<-r.Context().Done()
		} else if strings.HasPrefix(r.URL.Path, "/v1/kv/") {
			w.WriteHeader(http.StatusNotFound)
		} else {
			w.Write([]byte(`{"web":[]}`))
		}
	}))
	defer s.Close()
	defer s.CloseClientConnections()
	dir := t.TempDir()
	waits, has := filepath.Join(dir, "waits"), filepath.Join(dir, "has")
	err := errors.Join(os.WriteFile(waits, []byte(`{{ key "none" }}`), 0o644), os.WriteFile(has, []byte("{{ range services }}{{ .Name }}\n{{ end }}"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "plan", "-timeout=1s", "-consul-addr="+s.URL, "-template="+waits+":"+dir+"/1", "-template="+has+":"+dir+"/2")
	if want := "--- /dev/null\n+++ " + dir + "/2\n@@ -0,0 +1 @@\n+web\n"; out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if code != 1 || !strings.Contains(errs, dir+"/1 waits for key(none)") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
