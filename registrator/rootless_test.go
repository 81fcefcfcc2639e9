package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// rootlessScript starts Docker without root as a user whom only this mount namespace knows,
// with ids of its own and the right to make a tap device. $1 is its folder. The shell stays:
// setpriv would lose the tie to the one who started it.
const rootlessScript = `set -e
cd "$1"
for f in passwd group; do cp /etc/$f $f; done
echo "rootless:x:4242:4242::$1:/bin/sh" >>passwd
echo "rootless:x:4242:" >>group
echo "rootless:1000000:65536" | tee subuid >subgid
mknod tun c 10 200
chmod 666 tun
for f in passwd group subuid subgid; do [ -e /etc/$f ] || touch /etc/$f; mount --bind $f /etc/$f; done
mount --bind tun /dev/net/tun
mkdir -p run
chown 4242:4242 . run
chmod 700 run
setpriv --reuid=4242 --regid=4242 --clear-groups \
	env HOME="$1" TMPDIR="$1" XDG_RUNTIME_DIR="$1/run" PATH=/usr/sbin:/usr/bin:/sbin:/bin DOCKERD_ROOTLESS_ROOTLESSKIT_NET=slirp4netns \
	"$2" --storage-driver=vfs --data-root="$1/data"
`

// startRootless starts an engine that does not run as root, as Docker's own script does.
func startRootless(t *testing.T) *ownEngine {
	t.Helper()
	engine(t)
	if os.Getuid() != 0 {
		t.Skip("a user of the test's own needs root")
	}
	script := ""
	for _, path := range []string{"/usr/share/docker.io/contrib/dockerd-rootless.sh", "/usr/bin/dockerd-rootless.sh"} {
		if _, err := os.Stat(path); err == nil {
			script = path
		}
	}
	for _, need := range []string{"rootlesskit", "slirp4netns", "newuidmap", "setpriv"} {
		if _, err := exec.LookPath(need); err != nil || script == "" {
			t.Skipf("Docker cannot run without root here: no dockerd-rootless.sh, or no %s", need)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("Docker cannot run without root here: %v", err)
	}
	if out, err := exec.Command("unshare", "--mount", "--pid", "--user", "--map-root-user", "--fork", "true").CombinedOutput(); err != nil {
		t.Skipf("Docker cannot run without root here, which takes namespaces: %v\n%s", err, out)
	}
	dir, err := os.MkdirTemp("", "rootless") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	e := &ownEngine{t: t, host: "unix://" + filepath.Join(dir, "run", "docker.sock")}
	launch(t, func() *exec.Cmd { // with its process namespace everything in it ends
		return exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", rootlessScript, "sh", dir, script)
	})
	e.await()
	load := exec.Command("sh", "-c", "docker save "+imageTag+"plain | DOCKER_HOST="+e.host+" docker load -q")
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("the workload into the engine: %v\n%s", err, out)
	}
	return e
}

// What an engine without root publishes is reached at the host's address, and registered
// with it, as with any other engine.
func TestRootlessDocker(t *testing.T) {
	t.Parallel()
	e := startRootless(t)
	c := startCatalog(t, rollcall(t), false)
	reg := launch(t, func() *exec.Cmd {
		return command(t, "-docker="+e.host, "-host=h", "-listen=off", "consul://"+c.addr)
	})
	e.docker("network", "create", "shop")
	for _, net := range []string{"bridge", "shop"} {
		e.docker("run", "-d", "--network="+net, "-p", "127.0.0.1::8080", "--name=on-"+net, "-e", "SERVICE_NAME="+net, imageTag+"plain")
		at := e.docker("port", "on-"+net, "8080/tcp")
		eventually(t, soon, "registered", func() error { return c.has(net, at) })
		eventually(t, soon, "and reached there", func() error {
			code, body, err := get("http://" + at + "/")
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("%d %q", code, body)
			}
			return err
		})
		e.docker("kill", "on-"+net)
		eventually(t, soon, "gone with its container", func() error { return c.has(net) })
	}
	reg.lives()
}
