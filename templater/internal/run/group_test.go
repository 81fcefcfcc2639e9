package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/templater/internal/apply"
	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/watch"
)

// deaf takes no set, and counts how often it was asked to.
type deaf struct{ tries atomic.Int32 }

func (d *deaf) Reload(_ context.Context, generation string) error {
	time.Sleep(time.Millisecond) // of the bubble: a reload takes time
	if generation != "" {        // else what was before is to be reloaded
		d.tries.Add(1)
	}
	return errors.New("no")
}

// A set whose reload failed is tried again after the pause that the configuration names,
// which grows.
func TestRetry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text         string
		first, later time.Duration // by when it is not, and surely is, tried a second time
	}{
		"default": {"", 400 * time.Millisecond, 2 * time.Second},
		"set":     {"reload {\n retry = \"20s:60s\"\n}\n", 9 * time.Second, 31 * time.Second}, // a half more or less
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := filepath.Join(t.TempDir(), "out")
			synctest.Test(t, func(t *testing.T) {
				cfg := config.Default()
				if _, err := cfg.ReadText("x.hcl", "group \"g\" {\n"+c.text+"template {\n contents = \"x\"\n destination = \""+dest+"\"\n }\n}"); err != nil {
					t.Fatal(err)
				}
				if err := cfg.Validate(); err != nil {
					t.Fatal(err)
				}
				log := slog.New(slog.NewTextHandler(t.Output(), nil))
				g := newGroup(cfg, cfg.AllGroups()[0], watch.New(nil, watch.Config{}, log), log)
				asked := &deaf{}
				g.apply.Reloader = asked
				g.want = &set{files: []apply.File{{Dest: dest, Content: []byte("x")}}}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); g.work(ctx) }()
				g.poke()
				time.Sleep(c.first) // of the bubble
				synctest.Wait()
				if got := asked.tries.Load(); got != 1 {
					t.Errorf("%d tries after %s, want 1", got, c.first)
				}
				time.Sleep(c.later - c.first)
				synctest.Wait()
				if got := asked.tries.Load(); got < 2 {
					t.Errorf("%d tries after %s, want a second", got, c.later)
				}
				stop()
				<-ended
			})
		})
	}
}

// The bounds that a group names hold for nginx's own check and for its workers, however
// nginx is reloaded.
func TestNginxBounds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"slow": "#!/bin/sh\nexec sleep 60\n", "nginx.conf": "events { }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash, which gives a process another name")
	}
	master := exec.Command(bash, "-c", "exec -a 'nginx: master process' sleep 60")
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	defer master.Wait()
	defer master.Process.Kill()
	cfg := config.Default()
	text := fmt.Sprintf(`nginx {
  conf = "%[1]s/nginx.conf"
  bin  = "%[1]s/slow"
  pid  = "%[2]d"
}
group "g" {
  nginx = true
  check {
    timeout = "150ms"
  }
  reload {
    command = "true"
  }
  verify {
    mode    = "workers"
    timeout = "160ms"
  }
  template {
    contents    = "x"
    destination = "%[1]s/out"
  }
}`, dir, master.Process.Pid)
	if _, err := cfg.ReadText("x.hcl", text); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	g := newGroup(cfg, cfg.AllGroups()[0], watch.New(nil, watch.Config{}, log), log)
	if err := g.apply.Check(t.Context(), []apply.File{{Dest: filepath.Join(dir, "out"), Content: []byte("x")}}); err == nil || !strings.Contains(err.Error(), "no end after 150ms") {
		t.Errorf("the check: %v", err)
	}
	named := func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", master.Process.Pid))
		return err == nil && strings.HasPrefix(string(b), "nginx: master process")
	}
	for end := time.Now().Add(20 * time.Second); !named(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the process has not taken its name")
		}
	}
	if err := g.apply.Reloader.Reload(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "160ms after the signal") {
		t.Errorf("the reload: %v", err)
	}
}

// Every check of a group has its say, the templates' own too, after nginx's.
func TestChecks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := config.Default()
	text := fmt.Sprintf(`group "g" {
  check {
    command = "echo group >> %[1]s/said"
  }
  template {
    contents    = "x"
    destination = "%[1]s/a"
    check       = "echo one >> %[1]s/said"
  }
  template {
    contents    = "x"
    destination = "%[1]s/b"
    check       = "echo two >> %[1]s/said; exit 3"
  }
  template {
    contents    = "x"
    destination = "%[1]s/c"
    check       = "echo one >> %[1]s/said"
  }
}`, dir)
	if _, err := cfg.ReadText("x.hcl", text); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	g := newGroup(cfg, cfg.AllGroups()[0], watch.New(nil, watch.Config{}, log), log)
	err := g.apply.Check(t.Context(), []apply.File{{Dest: filepath.Join(dir, "a"), Content: []byte("x")}})
	if !errors.Is(err, apply.ErrRefused) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("the check: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "said")); err != nil || string(b) != "group\none\ntwo\n" {
		t.Errorf("said %q, %v", b, err)
	}
	nginx := config.Default()
	if _, err := nginx.ReadText("x.hcl", "nginx {\n enabled = true\n conf = \""+dir+"/none\"\n}\ntemplate {\n contents = \"x\"\n destination = \""+dir+"/d\"\n check = \"true\"\n}"); err != nil {
		t.Fatal(err)
	}
	if err := nginx.Validate(); err != nil {
		t.Fatal(err)
	}
	g = newGroup(nginx, nginx.AllGroups()[0], watch.New(nil, watch.Config{}, log), log)
	if err := g.apply.Check(t.Context(), []apply.File{{Dest: filepath.Join(dir, "d"), Content: []byte("x")}}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("nginx's own check was not made: %v", err)
	}
}
