package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// engine is a Docker engine, by the value of DOCKER_HOST ("" is the machine's).
type engine struct {
	t    testing.TB
	host string
	ip   string // of the host, "" for the machine's loopback
}

// machine gives the machine's engine with the lab's images in it, or skips.
func machine(t testing.TB) *engine {
	t.Helper()
	if err := exec.Command("docker", "version").Run(); err != nil {
		t.Skip("no Docker engine answers on this machine")
	}
	if err := webImage(); err != nil {
		t.Fatal(err)
	}
	return &engine{t: t}
}

// own makes a name that another run of these tests beside this one does not have.
func own(name string) string { return fmt.Sprintf("%s-%d", name, os.Getpid()) }

var (
	webTag     = own("rollcall/web:e2e")
	checkedTag = own("rollcall/web:e2e-checked") // with a HEALTHCHECK
	labelled   = own("rollcall.e2e")             // every container of ours carries it
)

// webImage makes the workload's images from the built binary, once.
var webImage = sync.OnceValue(func() error {
	dir, err := buildOnce()
	if err != nil {
		return err
	}
	ctx := filepath.Join(dir, "webctx")
	if err := os.MkdirAll(ctx, 0o755); err != nil {
		return err
	}
	if err := os.Link(filepath.Join(dir, "web"), filepath.Join(ctx, "web")); err != nil {
		return err
	}
	plain := "FROM scratch\nCOPY web /bin/web\nEXPOSE 8080\nENTRYPOINT [\"/bin/web\"]\n"
	for tag, text := range map[string]string{
		webTag:     plain,
		checkedTag: plain + "HEALTHCHECK --interval=200ms --timeout=30s --retries=1 CMD [\"/bin/web\", \"-probe\"]\n",
	} {
		if err := os.WriteFile(filepath.Join(ctx, "Dockerfile"), []byte(text), 0o644); err != nil {
			return err
		}
		if out, err := exec.Command("docker", "build", "-q", "-t", tag, ctx).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", tag, err, out)
		}
	}
	return nil
})

// docker runs the client against the engine; it has to succeed.
func (e *engine) docker(args ...string) string {
	e.t.Helper()
	out, errs, code := outcome(e.t, e.env(), "docker", args...)
	if code != 0 {
		e.t.Fatalf("docker %v: exit %d\n%s%s", args, code, out, errs)
	}
	return strings.TrimSpace(out)
}

func (e *engine) env() []string {
	if e.host == "" {
		return nil
	}
	return []string{"DOCKER_HOST=" + e.host}
}

// web starts a container of the workload for a service, its port published on loopback,
// and gives its id. It is removed with the test.
func (e *engine) web(service string, args ...string) string {
	e.t.Helper()
	return e.run(webTag, service, args...)
}

// run does so with an image, behind which may stand the arguments of its program.
func (e *engine) run(image, service string, args ...string) string {
	e.t.Helper()
	publish := "127.0.0.1::8080"
	if e.ip != "" {
		publish = "8080"
	}
	run := append([]string{"run", "-d", "-p", publish, "--label", labelled + "=" + e.t.Name(),
		"--label", "SERVICE_NAME=" + service}, args...)
	id := e.docker(append(run, strings.Fields(image)...)...)
	e.t.Cleanup(func() { e.remove(id) })
	return id
}

// remove takes containers away, quietly where they are gone.
func (e *engine) remove(ids ...string) { e.quietly(append([]string{"rm", "-f"}, ids...)...) }

// quietly runs the client whether or not it succeeds, also after the test.
func (e *engine) quietly(args ...string) {
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), e.env()...)
	cmd.Run()
}

// published gives the host's side of a container's port: "127.0.0.1:32768".
func (e *engine) published(id string) string {
	e.t.Helper()
	first, _, _ := strings.Cut(e.docker("port", id, "8080/tcp"), "\n")
	if e.ip != "" {
		return e.ip + first[strings.LastIndex(first, ":"):]
	}
	return first
}
