package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nginx is a private nginx on loopback, with conf.d as the templater finds it anywhere.
type nginx struct {
	*process
	dir, url, pid string
	port          int
}

// startNginx runs nginx in the foreground with an empty conf.d, or skips.
func startNginx(t testing.TB) *nginx {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Skip("no nginx on this machine: make deps installs it")
		}
	}
	dir, port := t.TempDir(), freePorts(t, 1)[0]
	for _, d := range []string{"conf.d", "logs"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`user root;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/logs/error.log notice;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
    include %[1]s/conf.d/*.conf;
}
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	n := &nginx{dir: dir, port: port, url: fmt.Sprintf("http://127.0.0.1:%d", port), pid: filepath.Join(dir, "nginx.pid")}
	t.Cleanup(func() { // before the directory goes
		if t.Failed() {
			n.tellErrors()
		}
	})
	n.process = start(t, bin, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-g", "daemon off;")
	eventually(t, soon, "nginx's pid file", func() error { _, err := os.Stat(n.pid); return err })
	return n
}

// tellErrors shows what nginx has had to say of upstreams, its first lines of each minute.
func (n *nginx) tellErrors() {
	b, _ := os.ReadFile(filepath.Join(n.dir, "logs", "error.log"))
	shown := map[string]int{}
	for line := range strings.Lines(string(b)) {
		minute := line[:min(len(line), len("2026/01/02 15:04"))]
		if !strings.Contains(line, "upstream") {
			continue
		}
		if shown[minute]++; shown[minute] <= 10 {
			n.t.Log(strings.TrimSpace(line))
		}
	}
}

// conf is where the templater writes.
func (n *nginx) conf(name string) string { return filepath.Join(n.dir, "conf.d", name) }
