package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// ownEngine is an engine in a container, for what the machine's own may not suffer: a
// swarm, a restart.
type ownEngine struct {
	t        *testing.T
	box      string // the container it is in
	ip, host string // DOCKER_HOST
}

func startEngine(t *testing.T) *ownEngine {
	t.Helper()
	engine(t)
	if out, err := exec.Command("../deploy/lab/base-images.sh", "engine").CombinedOutput(); err != nil {
		t.Skipf("an image of an engine cannot be had here: %v\n%s", err, out)
	}
	entry, err := filepath.Abs("../deploy/lab/engine-entry.sh")
	if err != nil {
		t.Fatal(err)
	}
	e := &ownEngine{t: t, box: name()}
	lan := network(t) // where it is alone, so that a restart leaves it its address
	dockerCmd(t, "run", "-d", "--pull=never", "--network", lan, "--name", e.box, "--label", testLabel+"=1", "--cap-add=ALL", "--cap-drop=SYS_RESOURCE",
		"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--device-cgroup-rule=a *:* rwm",
		"--tmpfs=/run", "-v", "/var/lib/docker", "-v", entry+":/engine-entry.sh:ro", "--entrypoint=/bin/sh", "docker:28-dind-lab",
		"/engine-entry.sh", "dockerd", "--host=unix:///var/run/docker.sock", "--host=tcp://0.0.0.0:2375", "--tls=false")
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("docker", "logs", "--tail=20", e.box).CombinedOutput() // for people only
			t.Logf("the engine said last:\n%s", out)
		}
		exec.Command("docker", "rm", "-fv", e.box).Run()
	})
	e.ip = dockerCmd(t, "inspect", "-f", "{{(index .NetworkSettings.Networks \""+lan+"\").IPAddress}}", e.box)
	e.host = "tcp://" + e.ip + ":2375"
	e.await()
	load := exec.Command("sh", "-c", "docker save "+imageTag+"plain | DOCKER_HOST="+e.host+" docker load -q")
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("the workload into the engine: %v\n%s", err, out)
	}
	return e
}

func (e *ownEngine) await() {
	e.t.Helper()
	eventually(e.t, 60*time.Second, "the engine answers", func() error {
		_, err := e.try("version")
		return err
	})
}

func (e *ownEngine) try(args ...string) (string, error) {
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.host)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("docker %v: %w\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (e *ownEngine) docker(args ...string) string {
	e.t.Helper()
	out, err := e.try(args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// published are the ports of all that runs with a published port, at the engine's address.
func (e *ownEngine) published() ([]string, error) {
	out, err := e.try("ps", "--format", "{{.Ports}}")
	var at []string
	for _, line := range strings.Split(out, "\n") {
		if _, rest, ok := strings.Cut(line, "0.0.0.0:"); ok {
			port, _, _ := strings.Cut(rest, "->")
			at = append(at, e.ip+":"+port)
		}
	}
	slices.Sort(at)
	return at, err
}

// The engine is restarted: all containers end, unheard, and some come back with other
// ports. Nobody exits, and the catalog is right again.
func TestEngineRestarts(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	c := startCatalog(t, rollcall(t), false)
	reg := launch(t, func() *exec.Cmd {
		return command(t, "-docker="+e.host, "-ip="+e.ip, "-listen=off", "consul://"+c.addr)
	})
	for range 2 {
		e.docker("run", "-d", "-P", "--restart=always", "-e", "SERVICE_NAME=web", imageTag+"plain")
	}
	e.docker("run", "-d", "-P", "-e", "SERVICE_NAME=once", imageTag+"plain")
	right := func() error {
		at, err := e.published()
		if err != nil {
			return err
		}
		web, err := c.passing("web")
		if err != nil {
			return err
		}
		once, err := c.passing("once")
		if err != nil {
			return err
		}
		got := slices.Concat(web, once)
		if slices.Sort(got); !slices.Equal(got, at) {
			return fmt.Errorf("%v, want %v", got, at)
		}
		return nil
	}
	eventually(t, soon, "at first", right)
	if err := c.keeps("once"); err != nil {
		t.Fatal(err)
	}
	dockerCmd(t, "restart", "-t", "20", e.box)
	e.await()
	eventually(t, 60*time.Second, "two come back by themselves", func() error {
		at, err := e.published()
		if err == nil && len(at) != 2 {
			err = fmt.Errorf("%v", at)
		}
		return err
	})
	eventually(t, 30*time.Second, "the catalog is right", right)
	eventually(t, soon, "what did not come back is gone", func() error { return c.has("once") })
	reg.lives()
}

// Ports that a swarm's routing mesh publishes are registered for each task; what is on an
// overlay of the user's, at its address there where containers' addresses are wanted.
func TestSwarmIngress(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	c := startCatalog(t, rollcall(t), false)
	listen := fmt.Sprintf("127.0.0.1:%d", ports(t, 1)[0])
	reg := launch(t, func() *exec.Cmd {
		return command(t, "-docker="+e.host, "-ip="+e.ip, "-listen="+listen, "consul://"+c.addr)
	})
	if _, err := e.try("swarm", "init", "--advertise-addr=127.0.0.1"); err != nil {
		t.Skipf("no swarm can be made in an engine in a container here: %v", err)
	}
	e.docker("network", "create", "-d", "overlay", "--attachable", "lan")
	over := e.docker("run", "-d", "--network=lan", "-p", "8080", "-e", "SERVICE_NAME=over", "-e", "SERVICE_ADDRESS_MODE=container", imageTag+"plain")
	eventually(t, 60*time.Second, "on the overlay", func() error {
		return c.has("over", e.docker("inspect", "-f", "{{.NetworkSettings.Networks.lan.IPAddress}}", over)+":8080")
	})
	e.docker("service", "create", "-d", "--no-resolve-image", "--name=shop", "--replicas=2", "-p=8088:8080", "-e", "SERVICE_NAME=shop", imageTag+"plain")
	at := e.ip + ":8088"
	eventually(t, 60*time.Second, "both tasks, at the mesh's port", func() error { return c.has("shop", at, at) })
	rows, _, err := c.Catalog().Service("shop", "", nil)
	if err != nil || len(rows) != 2 || rows[0].ServiceMeta["swarm-service"] != "shop" {
		t.Errorf("rows %+v, %v; want the swarm's service in the metadata", rows, err)
	}
	// A swarm that has not yet heard from a task that it runs loses what it is asked
	// meanwhile ("update out of sequence"): its tasks run on, and so do their entries.
	eventually(t, 60*time.Second, "the swarm knows that both run", func() error {
		states, err := e.try("service", "ps", "--format", "{{.CurrentState}}", "shop")
		if err == nil && strings.Count(states, "Running") != 2 {
			err = fmt.Errorf("tasks: %q", states)
		}
		return err
	})
	e.docker("service", "scale", "-d", "shop=1")
	eventually(t, 60*time.Second, "one task", func() error { return c.has("shop", at) })
	e.docker("service", "rm", "shop")
	eventually(t, 60*time.Second, "none", func() error { return c.has("shop") })
	ask(t, http.MethodGet, "http://"+listen+"/readyz", 200)
	reg.lives()
}
