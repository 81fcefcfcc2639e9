package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a newcomer does: a checkout, `make up`, a page; five instances by --scale; one
// stopped; `make down`, and nothing is left.
func TestLab(t *testing.T) {
	t.Parallel()
	machine(t) // or skip
	dir := checkout(t)
	ports := freePorts(t, 5)
	project := own("rollcall-e2e")
	tag := own("lab") // not that of webImage: the images go with this test
	env := []string{
		"COMPOSE_PROJECT_NAME=" + project, "ROLLCALL_TAG=" + tag, fmt.Sprintf("NGINX_PORT=%d", ports[0]), fmt.Sprintf("ROLLCALL_HTTP_PORT=%d", ports[1]),
		fmt.Sprintf("ROLLCALL_DNS_PORT=%d", ports[2]), fmt.Sprintf("REGISTRATOR_PORT=%d", ports[3]), fmt.Sprintf("TEMPLATER_PORT=%d", ports[4]),
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	t.Cleanup(func() {
		cmd := exec.Command("make", "down")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("make down: %v\n%s", err, out)
		}
		for _, kind := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
			out, err := exec.Command("docker", append(kind, "--filter", "label=com.docker.compose.project="+project)...).Output()
			if err != nil || len(out) > 0 {
				t.Errorf("after make down, docker %v: %s %v", kind, out, err)
			}
		}
		for _, part := range []string{"server", "registrator", "templater", "web"} {
			exec.Command("docker", "rmi", "rollcall/"+part+":"+tag).Run() // what was built of it
		}
	})
	began := time.Now()
	out := run("make", "up")
	t.Logf("make up took %v", time.Since(began).Round(time.Second))
	url := fmt.Sprintf("http://127.0.0.1:%d/", ports[0])
	if !strings.Contains(out, url) {
		t.Errorf("make up does not say where to look:\n%s", out)
	}
	if code, body, err := get(url); err != nil || code != 200 || !strings.HasPrefix(body, "hello from ") {
		t.Errorf("the page: %d %q, %v", code, body, err)
	}
	served := func(n int) func() error {
		return func() error {
			seen := map[string]bool{}
			for range 12 * n { // round robin, in each of nginx's workers
				code, body, err := get(url)
				if err != nil || code != 200 {
					return fmt.Errorf("%d, %v", code, err)
				}
				seen[body] = true
			}
			if len(seen) != n {
				return fmt.Errorf("served by %d containers, want %d", len(seen), n)
			}
			return nil
		}
	}
	eventually(t, 60*time.Second, "the registrator's own HEALTHCHECK", func() error {
		id := strings.TrimSpace(run("docker", "ps", "-q", "--filter", "label=com.docker.compose.project="+project, "--filter", "label=com.docker.compose.service=registrator"))
		if got := strings.TrimSpace(run("docker", "inspect", "-f", "{{.State.Health.Status}} {{.Config.User}}", id)); got != "healthy 65532:65532" {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
	compose := strings.Fields("docker-compose")
	if exec.Command("docker", "compose", "version").Run() == nil {
		compose = strings.Fields("docker compose")
	}
	scaled := time.Now()
	run(append(compose, "up", "-d", "--no-build", "--scale", "web=5")...)
	t.Logf("compose took %v to start three more", time.Since(scaled).Round(time.Second))
	eventually(t, soon, "five are served", served(5))
	web := strings.Fields(run(append(compose, "ps", "-q", "web")...))
	run("docker", "stop", web[0])
	eventually(t, soon, "four are served", served(4))
	for name, page := range map[string]string{
		"the registrator's verdicts": fmt.Sprintf("http://127.0.0.1:%d/containers", ports[3]),
		"the templater's status":     fmt.Sprintf("http://127.0.0.1:%d/status", ports[4]),
		"the catalog":                fmt.Sprintf("http://127.0.0.1:%d/v1/catalog/services", ports[1]),
		"the UI":                     fmt.Sprintf("http://127.0.0.1:%d/ui/", ports[1]),
	} {
		if code, body, err := get(page); err != nil || code != 200 || !strings.Contains(body, "web") {
			t.Errorf("%s: %d, %v\n%s", name, code, err, body)
		}
	}
	t.Run("two engines in containers", func(t *testing.T) { literalLab(t, dir, env) })
}

// The literal two hosts, two engines in containers, with the images that the lab built:
// one request through nginx on the one host to a container on the other.
func literalLab(t *testing.T, dir string, env []string) {
	nginx := "nginx:1.28"
	if b, err := os.ReadFile(filepath.Join(dir, ".env")); err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "NGINX_IMAGE="); ok {
				nginx = v
			}
		}
	}
	// a machine that refuses --privileged still has what an engine needs
	const image = "docker:28-dind-lab"
	if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "deploy/lab/base-images.sh"), "engine").CombinedOutput(); err != nil {
		t.Fatalf("engine image: %v\n%s", err, out)
	}
	ports := freePorts(t, 2)
	env = append(env, "LAB_ENGINE_IMAGE="+image, "LAB_PRIVILEGED=false", "LAB_PROJECT="+own("rollcall-e2e-engines"), fmt.Sprintf("LAB_SUBNET=10.214.%d", os.Getpid()%256), "NGINX_IMAGE="+nginx,
		fmt.Sprintf("LAB_NGINX_PORT=%d", ports[0]), fmt.Sprintf("LAB_HTTP_PORT=%d", ports[1]))
	script := func(args ...string) ([]byte, error) {
		cmd := exec.Command(filepath.Join(dir, "deploy/lab/two-engines.sh"), args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		return cmd.CombinedOutput()
	}
	t.Cleanup(func() {
		if out, err := script("down"); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	if out, err := script(); err != nil {
		t.Fatalf("two-engines.sh: %v\n%s", err, out)
	}
	eventually(t, soon, "two containers of the other host answer", func() error {
		seen := map[string]bool{}
		for range 12 {
			code, body, err := get(fmt.Sprintf("http://127.0.0.1:%d/", ports[0]))
			if err != nil || code != 200 {
				return fmt.Errorf("%d, %v", code, err)
			}
			seen[body] = true
		}
		if len(seen) != 2 {
			return fmt.Errorf("%d containers answer", len(seen))
		}
		return nil
	})
}

// checkout copies what git tracks or would track, as a fresh clone has it.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list := exec.Command("git", "ls-files", "-co", "--exclude-standard")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for _, f := range strings.Fields(string(out)) {
		b, err := os.ReadFile(filepath.Join("../..", f))
		if os.IsNotExist(err) {
			continue // removed and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join("../..", f))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The units are what systemd accepts without a word: it exits 0 on unknown keys.
func TestUnits(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd-analyze on this machine: make deps installs it")
	}
	for _, unit := range []string{"rollcall.service", "templater.service", "registrator.service"} {
		b, err := os.ReadFile("../../deploy/systemd/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		// the binaries are installed on a user's machine, not on this one
		text := strings.ReplaceAll(string(b), "/usr/local/bin/", filepath.Dir(bins(t, "rollcall"))+"/")
		path := filepath.Join(t.TempDir(), unit)
		write(t, path, text)
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", path).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}
