package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ownImage builds the image as its Dockerfile's last stage says, of a binary built here.
func ownImage(t *testing.T) string {
	t.Helper()
	file, err := os.ReadFile("../deploy/docker/registrator.Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, ok := strings.Cut(string(file), "\nFROM scratch\n")
	if !ok {
		t.Fatal("the last stage does not begin with FROM scratch")
	}
	dir := t.TempDir()
	for path, text := range map[string]string{"etc/ssl/certs/ca-certificates.crt": "", "out/tmp/.keep": "",
		"Dockerfile": "FROM scratch\nLABEL " + testLabel + "=1\n" + strings.ReplaceAll(last, "COPY --from=build /", "COPY ")} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := goBuild(filepath.Join(dir, "out/registrator"), "."); err != nil {
		t.Fatal(err)
	}
	tag := fmt.Sprintf("%sown-%d", imageTag, os.Getpid())
	dockerCmd(t, "build", "-q", "-t", tag, dir)
	t.Cleanup(func() { exec.Command("docker", "rmi", tag).Run() })
	return tag
}

// The image is nobody in particular, opens the socket by its group, says what is missing
// where it has not got that, and its HEALTHCHECK finds it by what it was told.
func TestImage(t *testing.T) {
	t.Parallel()
	needSocket(t)
	image := ownImage(t)
	c := startCatalog(t, rollcall(t), false)
	group := strings.TrimSpace(func() string {
		out, err := exec.Command("stat", "-Lc", "%g", engineSocket).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}())
	port := ports(t, 1)[0]
	run := func(args ...string) string {
		all := append([]string{"run", "-d", "--pull=never", "--name", name(), "--net=host", "-v", engineSocket + ":" + engineSocket, "--health-interval=500ms"}, args...)
		all = append(all, image, fmt.Sprintf("-listen=127.0.0.1:%d", port), "-host=h", "-filter=label:test="+own(t), "consul://"+c.addr)
		id := dockerCmd(t, all...)
		t.Cleanup(func() { exec.Command("docker", "rm", "-f", id).Run() })
		return id
	}
	if group != "0" {
		alone := run("--group-add=12345")
		eventually(t, soon, "it says what is missing", func() error {
			if out := dockerCmd(t, "logs", alone); !strings.Contains(out, "--group-add") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		remove(t, alone)
	}
	id := run("--group-add=" + group)
	web := start(t, "plain", "-e", "SERVICE_NAME=web")
	eventually(t, soon, "registered", func() error { return c.has("web", published(t, web)) })
	eventually(t, 30*time.Second, "healthy", func() error {
		if is := dockerCmd(t, "inspect", "-f", "{{.State.Health.Status}} {{.Config.User}}", id); is != "healthy 65532:65532" {
			return fmt.Errorf("it is %s: %s", is, dockerCmd(t, "inspect", "-f", "{{json .State.Health}}", id))
		}
		return nil
	})
}
