package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// podman is Podman's service on a socket of its own, with all that it keeps in a folder.
type podman struct {
	ownEngine
	dir     string
	user    *syscall.Credential // nil: root
	service *process
}

func startPodman(t *testing.T, user *syscall.Credential) *podman {
	t.Helper()
	engine(t) // for the workload
	if _, err := exec.LookPath("podman"); err != nil || os.Getuid() != 0 {
		t.Skip("no Podman, or not root")
	}
	dir, err := os.MkdirTemp("", "podman") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	// limits that a container without CAP_SYS_RESOURCE can set, the log in a file, and one
	// owner of all files where a user has no other
	for name, text := range map[string]string{
		"containers.conf": "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nlog_driver = \"k8s-file\"\n",
		"storage.conf":    fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = \"%[1]s/root\"\nrunroot = \"%[1]s/run\"\n[storage.options.vfs]\nignore_chown_errors = \"true\"\n", dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := &podman{ownEngine: ownEngine{t: t, host: "unix://" + dir + "/podman/podman.sock"}, dir: dir, user: user}
	err = os.Mkdir(dir+"/podman", 0o700)
	if user != nil {
		err = errors.Join(err, os.Chown(dir, int(user.Uid), int(user.Gid)), os.Chown(dir+"/podman", int(user.Uid), int(user.Gid)))
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := p.command("info").CombinedOutput(); err != nil {
		t.Skipf("Podman cannot run here: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		p.own("rm", "-af", "-t=0")
		eventually(t, soon, "what tidies up after containers has ended", p.quiet)
	})
	p.service = launch(t, func() *exec.Cmd { return p.command("system", "service", "--time=0", p.host) })
	p.await()
	load := exec.Command("sh", "-c", "docker save "+imageTag+"plain | DOCKER_HOST="+p.host+" docker load -q")
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("the workload into Podman: %v\n%s", err, out)
	}
	return p
}

// command is Podman's own command line, which needs no service.
func (p *podman) command(args ...string) *exec.Cmd {
	return p.as(exec.Command("podman", append([]string{"--tmpdir=" + p.dir + "/tmp", "--network-config-dir=" + p.dir + "/networks",
		"--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"}, args...)...))
}

// as has a command run as the user, at home in the folder.
func (p *podman) as(cmd *exec.Cmd) *exec.Cmd {
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "HOME="+p.dir, "XDG_RUNTIME_DIR="+p.dir, "CONTAINERS_CONF="+p.dir+"/containers.conf", "CONTAINERS_STORAGE_CONF="+p.dir+"/storage.conf")
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.user}
	return cmd
}

func (p *podman) own(args ...string) {
	p.t.Helper()
	if out, err := p.command(args...).CombinedOutput(); err != nil {
		p.t.Errorf("podman %v: %v\n%s", args, err, out)
	}
}

// quiet is a fact: nothing runs any more that has the folder among its arguments.
func (p *podman) quiet() error {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(p.dir+"/")) {
			return fmt.Errorf("%q", b)
		}
	}
	return err
}

// web runs a container and gives its published port's address.
func (p *podman) web(box string) string {
	p.t.Helper()
	p.docker("run", "-d", "--network=reg", "-p", "127.0.0.1::8080", "--name="+box, "-e", "SERVICE_NAME=web", "localhost/"+imageTag+"plain")
	return p.docker("port", box, "8080/tcp")
}

// Podman's socket serves as an engine's does: what starts, is renamed and ends is followed;
// what happens while the service is away, which containers do not need, is found afterwards.
func TestPodman(t *testing.T) {
	t.Parallel()
	p := startPodman(t, nil)
	p.docker("network", "create", "reg") // Podman's own one would leave its bridge behind
	t.Cleanup(func() { p.own("network", "rm", "-f", "reg") })
	c := startCatalog(t, rollcall(t), false)
	reg := launch(t, func() *exec.Cmd {
		return command(t, "-docker="+p.host, "-host=h", "-resync=2s", "-listen=off", "consul://"+c.addr)
	})
	one, two, three := p.web("one"), p.web("two"), p.web("three")
	eventually(t, soon, "three run", func() error { return c.has("web", one, two, three) })
	index := c.index(t, "h:two:8080")

	p.docker("rename", "one", "first")
	eventually(t, soon, "the new name", func() error {
		services, err := c.all()
		if err == nil && (services["h:first:8080"] == nil || services["h:one:8080"] != nil) {
			err = fmt.Errorf("%v", services)
		}
		return err
	})
	p.docker("stop", "-t=1", "first")
	eventually(t, soon, "the stopped one goes", func() error { return c.has("web", two, three) })
	reg.kill()
	p.docker("rm", "-f", "three")
	reg.run()
	eventually(t, soon, "another registrator knows whose they are", func() error { return c.has("web", two) })
	if got := c.index(t, "h:two:8080"); got != index {
		t.Errorf("what had not changed was written again: index %d, was %d", got, index)
	}

	p.service.kill()
	p.own("start", "first")
	p.own("rm", "-f", "-t=0", "two")
	p.service.run()
	p.await()
	first := p.docker("port", "first", "8080/tcp")
	eventually(t, soon, "what happened meanwhile", func() error { return c.has("web", first) })
	reg.lives()
}

// A user's registrator finds the user's Podman by itself, also beside an engine that only
// root may use.
func TestPodmanRootless(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	p := startPodman(t, &syscall.Credential{Uid: nobody, Gid: nobody})
	c := startCatalog(t, rollcall(t), false)
	binary := filepath.Join(p.dir, "registrator") // where a user may run it
	if err := goBuild(binary, "."); err != nil {
		t.Fatal(err)
	}
	reg := launch(t, func() *exec.Cmd {
		cmd := p.as(exec.Command(binary, "-host=h", "-ip=127.0.0.1", "-listen=off", "consul://"+c.addr))
		cmd.Env = append(cmd.Env, "DOCKER_HOST=")
		return cmd
	})
	at := ports(t, 1)[0]
	// a network of its own would need helpers with rights that the user has not
	p.docker("run", "-d", "--network=host", "--name=one", "-e", "SERVICE_NAME=web", "-e", fmt.Sprintf("SERVICE_PORT=%d", at),
		"localhost/"+imageTag+"plain", fmt.Sprintf("-listen=127.0.0.1:%d", at))
	eventually(t, soon, "it is found and registered", func() error { return c.has("web", fmt.Sprintf("127.0.0.1:%d", at)) })
	p.docker("stop", "-t=1", "one")
	eventually(t, soon, "it goes with its container", func() error { return c.has("web") })
	reg.lives()
}
