package apply

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// An nginx that is not ours is never reloaded in ours' place, however many there are: ours
// does not run, and its files wait for it.
func TestNginxForeign(t *testing.T) {
	t.Parallel()
	ours := nginxTree(t)
	for range 2 {
		foreign := nginxTree(t)
		foreign.start(t)
		within(t, "it has its workers", func() bool { return len(children(foreign.cmd.Process.Pid)) == 2 })
		before := children(foreign.cmd.Process.Pid)
		g := ours.group(t)
		if _, err := g.Apply(t.Context(), ours.file("one")); !errors.Is(err, ErrNotRunning) {
			t.Fatalf("beside another nginx: %v", err)
		}
		if onDisk, applied := g.Current(ours.file("one")); !onDisk || applied {
			t.Errorf("on disk %t, applied %t; want the file there and not applied", onDisk, applied)
		}
		if after := children(foreign.cmd.Process.Pid); !slices.Equal(before, after) {
			t.Errorf("the other one has workers %v, had %v", after, before)
		}
	}
}

// Without its pid file a master is found where it sees other files than we do and reads
// our configuration, as beside us in a pod; not where it would have written that file, nor
// in a container of its own.
func TestNginxMaster(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags uintptr
		want  bool
	}{
		"here":            {0, false},
		"other files":     {syscall.CLONE_NEWNS, true},
		"other processes": {syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.flags != 0 && os.Getuid() != 0 {
				t.Skip("namespaces need root")
			}
			s := nginxTree(t)
			s.cmd = exec.Command(s.bin, "-c", s.conf(), "-p", s.dir)
			s.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: c.flags}
			if err := s.cmd.Start(); errors.Is(err, syscall.EPERM) {
				t.Skip("namespaces are not allowed here")
			} else if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.stop(t) })
			within(t, "nginx is up", func() bool { return s.ask("probe") == "up" })
			if err := os.Remove(filepath.Join(s.dir, "pid")); err != nil {
				t.Fatal(err)
			}
			n := s.group(t).Reloader.(*Nginx)
			pid, err := n.master()
			if c.want && (err != nil || pid != s.cmd.Process.Pid) || !c.want && !errors.Is(err, ErrNotRunning) {
				t.Errorf("found %d, %v; want %d: %t", pid, err, s.cmd.Process.Pid, c.want)
			}
			if pid, err := n.beheld(); c.flags&syscall.CLONE_NEWPID != 0 && pid != s.cmd.Process.Pid && (err == nil || !strings.Contains(err.Error(), "several")) {
				t.Errorf("in its container it is %d, %v", pid, err)
			}
		})
	}
}

// What configuration a master reads stands in its title.
func TestNginxReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin := filepath.Join(dir, "nginx")
	script := "#!/bin/sh\necho 'configure arguments: --prefix=/opt/web --conf-path=/opt/etc/nginx.conf' >&2\n"
	link := filepath.Join(dir, "link.conf")
	if err := errors.Join(os.WriteFile(bin, []byte(script), 0o755), os.WriteFile(filepath.Join(dir, "a b.conf"), nil, 0o644), os.Symlink("a b.conf", link)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		conf, line string
		want       bool
	}{
		{"", "nginx -g daemon off;", true},
		{"", "/usr/sbin/nginx -g daemon on; master_process on;", true},
		{"", "/usr/sbin/nginx -c /etc/nginx/nginx.conf", true},
		{"", "nginx -c/etc/nginx/../nginx/nginx.conf -g daemon off;", true},
		{"", "nginx -p /etc/nginx -c nginx.conf", true},
		{"", "nginx -c /etc/nginx/other.conf", false},
		{"", "nginx -p /srv -c nginx.conf", false},
		{"/srv/n.conf", "nginx", false},
		{"/srv/n.conf", "nginx -p . -c n.conf -g daemon off;", true}, // for all one knows
		{"/srv/n.conf", "nginx -p . -c m.conf", false},
		{"/opt/etc/nginx.conf", "nginx -g daemon off;", true},
		{"/opt/web/n.conf", "nginx -c n.conf", true},
		{dir + "/a b.conf", "nginx -c " + dir + "/a b.conf -e /dev/null", true},
		{dir + "/a b.conf", "nginx -c " + link, true},
		{link, "nginx -c " + dir + "/a b.conf", true},
	} {
		n := &Nginx{Bin: bin, Conf: c.conf}
		if got := n.reads(fmt.Sprint("nginx: master process ", c.line)); got != c.want {
			t.Errorf("%q reads %q: %t, want %t", c.line, c.conf, got, c.want)
		}
	}
}

// A worker that was forked and has no title of its own yet is no second master.
func TestNginxWorkerInTheMaking(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	cmd := exec.Command("bash", "-c", "(read; :) <&0 & echo; wait")
	cmd.Args[0] = "nginx: master process nginx -c " + conf
	in, err := cmd.StdinPipe() // the child waits for it
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	twins := 0
	for _, pid := range append(children(cmd.Process.Pid), cmd.Process.Pid) {
		if isMaster(pid) {
			twins++
		}
	}
	if pid, err := only("", func(pid int) bool { return strings.Contains(title(pid), conf) }); pid != cmd.Process.Pid || err != nil || twins != 2 {
		t.Errorf("found %d, %v of %d with that title, want %d of 2", pid, err, twins, cmd.Process.Pid)
	}
}
