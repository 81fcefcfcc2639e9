package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// box is a container in which this machine's own systemd is the first process. It has
// the machine's /usr, to read only, so that nothing has to be fetched for it.
type box struct {
	*engine
	id, ip string
}

// startBox boots one with these files beside what a system needs, by path; a link where
// the text begins with "->".
func startBox(t *testing.T, files map[string]string) *box {
	t.Helper()
	e := machine(t)
	if !exists("/usr/lib/systemd/systemd") || !exists("/usr/lib/systemd/system/nginx.service") {
		t.Skip("no systemd and nginx on this machine: make deps installs them")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, text string) {
		t.Helper()
		h.Size = int64(len(text))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"usr", "root", "tmp", "run", "proc", "sys", "dev", "var/lib/nginx", "var/log/nginx", "etc/nginx/conf.d"} {
		add(tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	for path, text := range files {
		if to, ok := strings.CutPrefix(text, "->"); ok {
			add(tar.Header{Name: path, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}, "")
		} else {
			add(tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o644}, text)
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		add(tar.Header{Name: dir, Typeflag: tar.TypeSymlink, Linkname: "usr/" + dir, Mode: 0o777}, "")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	load := exec.Command("docker", "import", "-")
	load.Stdin = &b
	out, err := load.Output()
	if err != nil {
		t.Fatalf("docker import: %v", err)
	}
	image := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("docker", "rmi", image).Run() })
	programs := filepath.Dir(bins(t, "rollcall"))
	if err := os.Chmod(programs, 0o755); err != nil { // units run them as somebody else
		t.Fatal(err)
	}
	lan := own("rollcall-e2e-box")
	e.docker("network", "create", lan)
	t.Cleanup(func() { exec.Command("docker", "network", "rm", lan).Run() })
	// what systemd needs of the machine's cgroups, without --privileged
	boot := "mount -o remount,bind,rw /sys/fs/cgroup; for d in /sys/fs/cgroup/*/; do mount -o remount,bind,rw \"$d\"; done; exec /lib/systemd/systemd"
	id := e.docker("run", "-d", "--network="+lan, "--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
		"--tmpfs=/run", "--tmpfs=/tmp", "-v=/usr:/usr:ro", "-v="+programs+":/usr/local/bin:ro", "--stop-signal=SIGRTMIN+3", "-e=container=docker",
		image, "/bin/sh", "-c", boot)
	x := &box{engine: e, id: id}
	t.Cleanup(func() {
		if t.Failed() {
			text, err := exec.Command("docker", "exec", id, "journalctl", "--no-pager", "-n", "80").CombinedOutput()
			t.Logf("--- the journal\n%s, %v", text, err)
		}
		e.remove(id)
	})
	x.booted()
	return x
}

func (x *box) booted() {
	x.t.Helper()
	x.ip = x.docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", x.id)
	eventually(x.t, 60*time.Second, "the system is up", func() error {
		text, _, _ := outcome(x.t, nil, "docker", "exec", x.id, "systemctl", "list-jobs", "--no-legend")
		state, _, _ := outcome(x.t, nil, "docker", "exec", x.id, "systemctl", "is-active", "multi-user.target")
		if strings.TrimSpace(state) != "active" {
			return fmt.Errorf("%s%s", state, text)
		}
		return nil
	})
}

// sh runs something in the box.
func (x *box) sh(script string) (string, int) {
	x.t.Helper()
	out, errs, code := outcome(x.t, nil, "docker", "exec", x.id, "sh", "-c", script)
	return strings.TrimSpace(out + errs), code
}

// show is a property of a unit.
func (x *box) show(unit, property string) string {
	x.t.Helper()
	out, _ := x.sh("systemctl show --value -p " + property + " " + unit)
	return out
}

func (x *box) write(path, text string) {
	x.t.Helper()
	cmd := exec.Command("docker", "exec", "-i", x.id, "sh", "-c", "cat > "+path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		x.t.Fatalf("write %s: %v\n%s", path, err, out)
	}
}

// says is for eventually: nginx in the box answers that.
func (x *box) says(want string) func() error {
	return func() error {
		_, body, err := get("http://" + x.ip + "/")
		if err == nil && strings.TrimSpace(body) != want {
			err = fmt.Errorf("nginx says %q, want %q", body, want)
		}
		return err
	}
}

// follow has os_service checks follow units through their states.
func (x *box) follow(t *testing.T) {
	t.Helper()
	for name, text := range map[string]string{
		"idle": "ExecStart=/bin/sleep infinity\n", "slow": "ExecStartPre=/bin/sleep infinity\nExecStart=/bin/true\n", "broken": "ExecStart=/bin/false\n",
	} {
		x.write("/run/systemd/system/"+name+".service", "[Service]\n"+text)
	}
	x.sh("systemctl daemon-reload; systemctl start --no-block idle slow broken")
	agent := &agent{t: t, url: "http://" + x.ip + ":8500"}
	want := map[string][2]string{
		"nginx.service": {"passing", "Service nginx.service is active"}, "idle": {"passing", "Service idle is active"}, "slow": {"warning", "Service slow is activating"},
		"broken": {"critical", "Service broken is failed"}, "nowhere": {"critical", "Service nowhere is inactive"},
	}
	for unit := range want {
		if err := agent.put("/v1/agent/check/register", fmt.Sprintf(`{"Name": %q, "OSService": %q, "Interval": "1s"}`, unit, unit)); err != nil {
			t.Fatal(err)
		}
	}
	all := func() error {
		var checks map[string]struct{ Status, Output string }
		if err := agent.json("/v1/agent/checks", &checks); err != nil {
			return err
		}
		for unit, w := range want {
			if got := checks[unit]; got != struct{ Status, Output string }{w[0], w[1]} {
				return fmt.Errorf("%s: %+v, want %q", unit, got, w)
			}
		}
		return nil
	}
	eventually(t, soon, "the units' states", all)
	x.sh("systemctl stop idle; systemctl kill -s KILL slow")
	want["idle"] = [2]string{"critical", "Service idle is inactive"}
	want["slow"] = [2]string{"critical", "Service slow is failed"}
	eventually(t, soon, "one stopped, one killed", all)
	x.sh("systemctl start idle")
	want["idle"] = [2]string{"passing", "Service idle is active"}
	eventually(t, soon, "started again", all)
}

// The server host of the article under a real systemd, with the units as they are shipped.
func TestSystemd(t *testing.T) {
	t.Parallel()
	unit := func(name string) string { return read(t, "../../deploy/systemd/"+name) }
	config := func(word string) string {
		return `nginx { enabled = true }
listen = "0.0.0.0:8910"
template {
  contents    = "server { listen 80; location / { return 200 '` + word + ` {{ keyOrDefault \"word\" \"none\" }}'; } }"
  destination = "/etc/nginx/conf.d/default.conf"
}
`
	}
	const wants = "etc/systemd/system/multi-user.target.wants/"
	x := startBox(t, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\nrollcall:x:900:900::/:/usr/sbin/nologin\nmessagebus:x:901:901::/:/usr/sbin/nologin\n",
		"etc/group":  "root:x:0:\nadm:x:4:\ntty:x:5:\nwww-data:x:33:\nrollcall:x:900:\nmessagebus:x:901:\n",
		"etc/nginx/nginx.conf": "user www-data;\npid /run/nginx.pid;\nworker_processes 2;\nevents {}\n" +
			"http {\n  access_log off;\n  include /etc/nginx/conf.d/*.conf;\n}\n",
		"etc/machine-id":                       "00112233445566778899aabbccddeeff\n", // else all that can be is enabled
		"etc/rollcall.d/server.hcl":            "server = true\nbootstrap_expect = 1\nbind_addr = \"127.0.0.1\"\nclient_addr = \"0.0.0.0\"\n",
		"etc/templater/templater.hcl":          config("one"),
		"etc/systemd/system/rollcall.service":  unit("rollcall.service"),
		"etc/systemd/system/templater.service": unit("templater.service"),
		wants + "rollcall.service":             "->/etc/systemd/system/rollcall.service",
		wants + "templater.service":            "->/etc/systemd/system/templater.service",
		wants + "nginx.service":                "->/lib/systemd/system/nginx.service",
	})
	set := func(word string) {
		t.Helper()
		(&agent{t: t, url: "http://" + x.ip + ":8500"}).set("word", word)
	}
	active := func() error {
		for _, u := range []string{"rollcall", "nginx", "templater"} {
			if s := x.show(u, "ActiveState"); s != "active" {
				return fmt.Errorf("%s is %s: %s", u, s, x.show(u, "StatusText"))
			}
		}
		return nil
	}
	restarts := func(n string) func() error {
		return func() error {
			if got := x.show("templater", "NRestarts"); got != n {
				return fmt.Errorf("%s restarts, want %s", got, n)
			}
			return active()
		}
	}
	eventually(t, 30*time.Second, "all run", active)
	set("a")
	eventually(t, soon, "the catalog is followed", x.says("one a"))
	if text := x.show("templater", "StatusText"); !strings.Contains(text, "up to date") {
		t.Errorf("systemctl status says %q", text)
	}
	at := func(unit string) (n int) { fmt.Sscan(x.show(unit, "ActiveEnterTimestampMonotonic"), &n); return }
	if a, b := at("nginx"), at("templater"); a == 0 || b <= a {
		t.Errorf("nginx was active at %d, the templater at %d: want it after", a, b)
	}

	x.follow(t)

	x.write("/etc/templater/templater.hcl", config("two"))
	if out, code := x.sh("systemctl reload templater"); code != 0 {
		t.Errorf("reload: exit %d: %s", code, out)
	}
	eventually(t, soon, "reloaded", x.says("two a"))
	x.write("/etc/templater/templater.hcl", "templte {}\n")
	if out, code := x.sh("systemctl reload templater"); code == 0 {
		t.Errorf("reload of a broken configuration: exit 0: %s", out)
	}
	set("b")
	eventually(t, soon, "the old configuration goes on", x.says("two b"))
	x.write("/etc/templater/templater.hcl", config("three"))

	if out, code := x.sh("systemctl kill -s KILL templater"); code != 0 {
		t.Errorf("kill: %s", out)
	}
	eventually(t, soon, "killed, it is started again", restarts("1"))
	eventually(t, soon, "and follows", x.says("three b"))

	x.sh("mkdir -p /etc/systemd/system/templater.service.d")
	x.write("/etc/systemd/system/templater.service.d/short.conf", "[Service]\nWatchdogSec=2s\nTimeoutStopSec=1s\n")
	if out, code := x.sh("systemctl daemon-reload && systemctl restart templater"); code != 0 {
		t.Fatalf("restart: %s", out)
	}
	eventually(t, soon, "it runs with a short watchdog", restarts("0"))
	x.sh("systemctl kill -s STOP templater")
	eventually(t, 30*time.Second, "hung, it is started again", restarts("1"))
	if text, _ := x.sh("journalctl --no-pager -u templater"); !strings.Contains(text, "Watchdog timeout") {
		t.Error("it was not the watchdog that did it")
	}
	set("c")
	eventually(t, soon, "and follows", x.says("three c"))

	x.docker("kill", x.id) // the power goes
	x.docker("start", x.id)
	x.booted()
	eventually(t, 30*time.Second, "all run again", active)
	eventually(t, soon, "nginx has what it had", x.says("three c"))
	set("d")
	eventually(t, soon, "and follows", x.says("three d"))
	if out, code := x.sh("systemctl stop templater"); code != 0 || x.show("templater", "Result") != "success" {
		t.Errorf("stop: exit %d: %s, %s", code, out, x.show("templater", "Result"))
	}
}
