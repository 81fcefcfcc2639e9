package apply

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// server is an nginx of the test's own, on loopback, with conf.d beside its main file.
type server struct {
	bin, dir string
	links    bool // groups write by links
	cmd      *exec.Cmd
}

// nginxTree lays an nginx's files out, or skips where there is no nginx.
func nginxTree(t *testing.T) *server {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Skip("no nginx on this machine: make deps installs it")
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"conf.d", "logs"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/logs/error.log;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
    server { listen unix:%[1]s/probe; return 200 up; }
    include %[1]s/conf.d/*.conf;
}
`, dir)
	s := &server{bin: bin, dir: dir}
	if os.Getuid() == 0 {
		conf = "user root; " + conf
	}
	if err := os.WriteFile(s.conf(), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) conf() string { return filepath.Join(s.dir, "nginx.conf") }

// start runs nginx and waits until it answers.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(s.bin, "-p", s.dir, "-c", s.conf())
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(t) })
	within(t, "nginx is up", func() bool { return s.ask("probe") == "up" })
}

func (s *server) stop(t *testing.T) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	if err := s.cmd.Wait(); err != nil {
		t.Logf("nginx: %v", err)
	}
	s.cmd = nil
}

// ask gives what a server block on a socket of the tree says, "" where none answers.
func (s *server) ask(socket string) string {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: unix(filepath.Join(s.dir, socket))}}
	resp, err := c.Get("http://nginx/")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// file is a set of one file, with a server that answers word on the socket "app".
func (s *server) file(word string) []File {
	text := fmt.Sprintf("upstream u { server 127.0.0.1:1; }\nserver { listen unix:%s/app; return 200 %s; }\n", s.dir, word)
	return []File{{Dest: filepath.Join(s.dir, "conf.d", "app.conf"), Content: []byte(text)}}
}

func (s *server) group(t testing.TB) *Group {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	n := &Nginx{Bin: s.bin, Conf: s.conf(), Log: log}
	return &Group{Name: "nginx", Links: s.links, Checker: n, Reloader: n, Log: log}
}

// valid has nginx read what is on disk.
func (s *server) valid(t *testing.T) {
	t.Helper()
	if out, err := exec.Command(s.bin, "-t", "-q", "-p", s.dir, "-c", s.conf()).CombinedOutput(); err != nil {
		t.Errorf("nginx refuses what is on disk: %v\n%s", err, out)
	}
}

// From the first file on: served when Apply returns; refused as a whole where nginx
// would refuse, with the name and line of the file and nothing touched.
func TestNginxApply(t *testing.T) {
	t.Parallel()
	s := nginxTree(t)
	s.start(t)
	g := s.group(t)
	for _, word := range []string{"one", "two", "three"} {
		if _, err := g.Apply(t.Context(), s.file(word)); err != nil {
			t.Fatal(err)
		}
		within(t, "nginx says "+word, func() bool { return s.ask("app") == word })
	}
	// Old workers may answer for a moment still: when there are no more than shall be, they are gone.
	within(t, "only the new workers are left", func() bool { return len(children(s.cmd.Process.Pid)) == 2 })
	for name, c := range map[string]struct{ text, want string }{
		"syntax":           {"server {\n listen unix:" + s.dir + "/x;\n nonsense on;\n}", "conf.d/app.conf:3"},
		"empty upstream":   {"upstream web { }", `upstream "web" would have no server`},
		"duplicate":        {"upstream web { server 127.0.0.1:1; }\nupstream web { server 127.0.0.1:1; }", "duplicate upstream"},
		"unknown host":     {"upstream web { server nowhere.invalid:80; }", "host not found"},
		"cut short":        {"# nothing\n", "would be empty"},
		"leaves its block": {"}\n", "conf.d/app.conf:1"},
	} {
		files := s.file("")
		files[0].Content = []byte(c.text)
		if _, err := g.Apply(t.Context(), files); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want a refusal with %q", name, err, c.want)
		}
		if got := s.ask("app"); got != "three" {
			t.Errorf("%s: nginx says %q, want three", name, got)
		}
	}
	s.valid(t)
}

// A master that takes no notice of the signal has the files before put back.
func TestNginxNotReloaded(t *testing.T) {
	t.Parallel()
	s := nginxTree(t)
	s.start(t)
	g := s.group(t)
	if _, err := g.Apply(t.Context(), s.file("one")); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	g.Reloader.(*Nginx).Timeout = 500 * time.Millisecond
	_, err := g.Apply(t.Context(), s.file("two"))
	if err == nil || !strings.Contains(err.Error(), "no new workers") {
		t.Errorf("a stopped master: %v", err)
	}
	if b, err := os.ReadFile(s.file("")[0].Dest); err != nil || string(b) != string(s.file("one")[0].Content) {
		t.Errorf("on disk %q, %v; want the file before", b, err)
	}
	if _, applied := g.Current(s.file("one")); applied {
		t.Error("the mark says that the file before is applied, which is not known")
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.Reloader.(*Nginx).Timeout = 0
	if _, err := g.Apply(t.Context(), s.file("two")); err != nil {
		t.Errorf("once it goes on: %v", err)
	}
	within(t, "nginx says two", func() bool { return s.ask("app") == "two" })
}

// A master that ends instead of reloading is not waited for.
func TestNginxEndsInstead(t *testing.T) {
	t.Parallel()
	s := nginxTree(t)
	s.start(t)
	n := s.group(t).Reloader.(*Nginx)
	n.Timeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := n.renewed(ctx, s.cmd.Process.Pid, func() error { return s.cmd.Process.Signal(syscall.SIGTERM) })
	if !errors.Is(err, ErrNotRunning) || ctx.Err() != nil {
		t.Errorf("it ended: %v, %v", err, ctx.Err())
	}
}

// A destination, and nginx's configuration, may be named from where this process runs.
func TestNginxRelative(t *testing.T) {
	t.Parallel()
	s := nginxTree(t)
	s.start(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	g, files := s.group(t), s.file("one")
	n := g.Checker.(*Nginx)
	for _, name := range []*string{&n.Conf, &files[0].Dest} {
		if *name, err = filepath.Rel(here, *name); err != nil {
			t.Fatal(err)
		}
	}
	bad := []File{{Dest: files[0].Dest, Content: []byte("nonsense;")}}
	for range 2 { // as a new file, and over one that is there
		if _, err := g.Apply(t.Context(), bad); !errors.Is(err, ErrRefused) {
			t.Errorf("nonsense: %v", err)
		}
		if _, err := g.Apply(t.Context(), files); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "nginx says one", func() bool { return s.ask("app") == "one" })
}

// Once new workers take connections the old ones are told to go, though their master is
// in no hurry to say so: here it is stopped before it can.
func TestNginxOldWorkers(t *testing.T) {
	t.Parallel()
	s := nginxTree(t)
	s.start(t)
	g, master := s.group(t), s.cmd.Process
	n := g.Reloader.(*Nginx)
	if _, err := g.Apply(t.Context(), s.file("one")); err != nil {
		t.Fatal(err)
	}
	within(t, "only its workers are left", func() bool { return len(children(master.Pid)) == 2 && s.ask("app") == "one" })
	before := children(master.Pid)
	if err := os.WriteFile(s.file("")[0].Dest, s.file("two")[0].Content, 0o644); err != nil {
		t.Fatal(err)
	}
	defer master.Signal(syscall.SIGCONT)
	err := n.renewed(t.Context(), master.Pid, func() error {
		err := master.Signal(syscall.SIGHUP)
		within(t, "new workers", func() bool { _, fresh := serving(master.Pid, before); return len(fresh) == 2 })
		return errors.Join(err, master.Signal(syscall.SIGSTOP))
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the old ones take no more", func() bool { old, _ := serving(master.Pid, before); return len(old) == 0 })
	for range 20 {
		if got := s.ask("app"); got != "two" {
			t.Fatalf("nginx says %q, want two", got)
		}
	}
	if err := master.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	within(t, "the master goes on with two workers", func() bool {
		old, fresh := serving(master.Pid, before)
		return len(old) == 0 && len(fresh) == 2 && len(children(master.Pid)) == 2
	})
}

// An nginx that does not run gets its files, and the reload later.
func TestNginxNotRunning(t *testing.T) {
	t.Parallel()
	s := nginxTree(t)
	g := s.group(t)
	pid := filepath.Join(s.dir, "pid")
	g.Reloader.(*Nginx).PID = pid
	if _, err := g.Apply(t.Context(), s.file("one")); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("without nginx: %v", err)
	}
	if onDisk, applied := g.Current(s.file("one")); !onDisk || applied {
		t.Fatalf("on disk %t, applied %t; want the file there and not applied", onDisk, applied)
	}
	s.start(t)
	if got := s.ask("app"); got != "one" {
		t.Errorf("nginx started with %q, want one", got)
	}
	if _, err := g.Touch(t.Context(), s.file("one")); err != nil {
		t.Error(err)
	}
	if _, applied := g.Current(s.file("one")); !applied {
		t.Error("not applied after the reload")
	}
	// a process that is no nginx is never signalled: SIGHUP would end it
	if err := os.WriteFile(pid, fmt.Append(nil, os.Getpid()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := g.Reloader.Reload(t.Context(), ""); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a pid file with another process: %v", err)
	}
}

// A destination that is a link, or that nginx reaches through one, is checked and
// replaced where it is; the link stays.
func TestNginxLinks(t *testing.T) {
	t.Parallel()
	s := nginxTree(t)
	s.start(t)
	sites := filepath.Join(s.dir, "sites")
	if err := os.Mkdir(sites, 0o755); err != nil {
		t.Fatal(err)
	}
	link, target := s.file("")[0].Dest, filepath.Join(sites, "app")
	if err := errors.Join(os.WriteFile(target, []byte("# none\n"), 0o644), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	g := s.group(t)
	for i, dest := range []string{link, target} {
		bad := []File{{Dest: dest, Content: []byte("nonsense;")}}
		if _, err := g.Apply(t.Context(), bad); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: nonsense: %v", dest, err)
		}
		files := s.file(fmt.Sprint("word", i))
		files[0].Dest = dest
		if _, err := g.Apply(t.Context(), files); err != nil {
			t.Errorf("%s: %v", dest, err)
		}
		within(t, "nginx says the word", func() bool { return s.ask("app") == fmt.Sprint("word", i) })
	}
	other := filepath.Join(s.dir, "other") // another name of conf.d, and a file that is not there yet
	if err := os.Symlink(filepath.Join(s.dir, "conf.d"), other); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Apply(t.Context(), []File{{Dest: filepath.Join(other, "new.conf"), Content: []byte("nonsense;")}}); !errors.Is(err, ErrRefused) {
		t.Errorf("a new file by another name of its folder: %v", err)
	}
	if to, err := os.Readlink(link); err != nil || to != target {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

// chaosRounds is how often the process is killed.
const chaosRounds = 200

// A process that is killed at any moment, again and again, leaves a disk that nginx
// accepts, and never a mixed set; the next one goes on. Two files that need each other
// change in one instant.
func TestKill(t *testing.T) {
	t.Parallel()
	s := nginxTree(t)
	s.links = true
	s.start(t)
	files := chaosFiles(s.dir, 0)
	for round := range chaosRounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChaosProcess$")
		cmd.Env = append(os.Environ(), "TEMPLATER_CHAOS="+s.dir, "TEMPLATER_CHAOS_NGINX="+s.bin)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && lines.Text() != "applied" { // the first is whole
		}
		timer := time.NewTimer(time.Duration(round) * 150 * time.Microsecond) // somewhere in one of the next
		<-timer.C
		cmd.Process.Kill() // it cannot have ended
		io.Copy(io.Discard, out)
		cmd.Wait()
		s.valid(t)
		if _, err := s.group(t).Recover(files); err != nil {
			t.Fatal(err)
		}
		a, b := number(t, files[0].Dest), number(t, files[1].Dest)
		if a != b || a == "" {
			t.Fatalf("round %d: a mixed set after the recovery: %q and %q", round, a, b)
		}
		s.valid(t)
	}
	if _, err := s.group(t).Apply(t.Context(), chaosFiles(s.dir, 1)); err != nil {
		t.Fatal(err)
	}
	within(t, "nginx says 1 in the end", func() bool { return s.ask("n1") == "1" })
}

// chaosFiles are two files of which either needs the other of the same number.
func chaosFiles(dir string, n int) []File {
	return []File{
		{Dest: filepath.Join(dir, "conf.d", "a.conf"), Content: fmt.Appendf(nil, "# %d\nupstream u%d { server 127.0.0.1:1; }\n", n, n)},
		{Dest: filepath.Join(dir, "conf.d", "b.conf"), Content: fmt.Appendf(nil, "# %d\nserver { listen unix:%s/n1; location / { return 200 %d; } location /x { proxy_pass http://u%d/; } }\n", n, dir, n, n)},
	}
}

func number(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// TestChaosProcess is the process that TestKill kills.
func TestChaosProcess(t *testing.T) {
	dir := os.Getenv("TEMPLATER_CHAOS")
	if dir == "" {
		t.Skip("run by TestKill")
	}
	s := &server{bin: os.Getenv("TEMPLATER_CHAOS_NGINX"), dir: dir, links: true}
	g := s.group(t)
	for n := 1; n < 10_000; n++ {
		if _, err := g.Apply(context.Background(), chaosFiles(dir, n)); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("applied")
	}
}

// within waits for a fact.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	end := time.NewTimer(10 * time.Second)
	defer end.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-end.C:
			t.Fatalf("not within 10s: %s", what)
		}
	}
}
