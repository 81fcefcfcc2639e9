package checks

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/docker"
)

// container starts a container that holds nothing but testdata/inside, or skips.
func container(t *testing.T) string {
	t.Helper()
	if err := exec.Command("docker", "version").Run(); err != nil {
		t.Skip("no Docker engine answers on this machine")
	}
	bin := filepath.Join(t.TempDir(), "inside")
	build := exec.Command("go", "build", "-o", bin, "./testdata/inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	if err := w.WriteHeader(&tar.Header{Name: "inside", Mode: 0o755, Size: int64(len(b))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	do := func(stdin *bytes.Buffer, args ...string) string {
		cmd := exec.Command("docker", args...)
		if stdin != nil {
			cmd.Stdin = stdin
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	img := do(&image, "import", "-")
	id := do(nil, "run", "-d", "--network=none", img, "/inside", "wait")
	t.Cleanup(func() {
		exec.Command("docker", "rm", "-f", id).Run()
		exec.Command("docker", "rmi", "-f", img).Run()
	})
	return id
}

func TestDocker(t *testing.T) {
	t.Parallel()
	id := container(t)
	engine, err := docker.New(docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	r := runner(Config{Docker: engine})
	for name, c := range map[string]struct {
		def            api.CheckDefinition
		status, output string
	}{
		"passes":   {api.CheckDefinition{Args: []string{"/inside", "exit", "0", "well"}}, api.Passing, "well\n"},
		"warns":    {api.CheckDefinition{Args: []string{"/inside", "exit", "1", "so so"}}, api.Warning, "so so\n"},
		"fails":    {api.CheckDefinition{Args: []string{"/inside", "exit", "3", "bad"}}, api.Critical, "err\n"},
		"long":     {api.CheckDefinition{Args: []string{"/inside", "exit", "0", "0123456789"}, OutputMaxSize: 5}, api.Passing, "Captured 5 of 11 bytes\n...\n6789\n"},
		"no file":  {api.CheckDefinition{Args: []string{"/absent"}}, api.Critical, "no such file"},
		"no shell": {api.CheckDefinition{Script: "true"}, api.Critical, "/bin/sh"},
		"shell":    {api.CheckDefinition{Script: "true", Shell: "/inside"}, api.Critical, "Timed out (1s)"}, // it waits
		"unknown":  {api.CheckDefinition{Args: []string{"true"}, DockerContainerID: "absent"}, api.Critical, docker.ErrNotFound.Error()},
	} {
		if c.def.DockerContainerID == "" {
			c.def.DockerContainerID = id
		}
		if name == "shell" {
			c.def.Timeout = api.Duration(time.Second)
		}
		status, output := look(t, r.dockerProbe(&c.def), &c.def)
		if status != c.status || !strings.Contains(output, c.output) {
			t.Errorf("%s: got %s %q, want %s and %q", name, status, output, c.status, c.output)
		}
	}
	exec.Command("docker", "rm", "-f", id).Run()
	def := api.CheckDefinition{Args: []string{"/inside", "exit", "0", "x"}, DockerContainerID: id}
	if status, output := look(t, r.dockerProbe(&def), &def); status != api.Critical || !strings.Contains(output, docker.ErrNotFound.Error()) {
		t.Errorf("a container that is gone: %s %q", status, output)
	}
}

// An engine that cannot be reached is a critical check, and says so.
func TestDockerAway(t *testing.T) {
	t.Parallel()
	engine, err := docker.New(docker.Options{Host: "unix://" + filepath.Join(t.TempDir(), "absent.sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	def := api.CheckDefinition{Args: []string{"true"}, DockerContainerID: "x"}
	for _, r := range []*Runner{runner(Config{Docker: engine}), runner(Config{})} {
		if status, output := look(t, r.dockerProbe(&def), &def); status != api.Critical || output == "" {
			t.Errorf("got %s %q", status, output)
		}
	}
}
