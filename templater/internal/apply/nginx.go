package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/templater/internal/guard"
)

// Nginx checks and reloads an nginx. It never restarts or stops it.
type Nginx struct {
	Bin  string // default nginx
	Conf string // default /etc/nginx/nginx.conf
	// PID is a process id, or a file that holds it. "" reads the configuration's pid file,
	// and where it names none looks for a master process that reads the configuration and is
	// none of a container: one that sees other files, and so may have its pid file elsewhere.
	PID string
	// Timeout bounds how long new workers are waited for. Default 5s.
	Timeout time.Duration
	// CheckTimeout bounds a check, in which nginx may look names up. Default 10s.
	CheckTimeout time.Duration
	Log          *slog.Logger // may be nil

	asked asked
	said  map[string]bool // files of which sayLeftOut spoke; used by one apply at a time
}

func (n *Nginx) conf() string {
	if n.Conf == "" {
		return defaultConf
	}
	return n.Conf
}

func (n *Nginx) timeout() time.Duration {
	if n.Timeout <= 0 {
		return 5 * time.Second
	}
	return n.Timeout
}

// Guard refuses what would take everything from an nginx, before nginx is asked: an
// upstream without servers, or a file that says nothing in the place of one that did.
type Guard struct{}

// Check looks at the staged files only.
func (Guard) Check(_ context.Context, staged map[string]string) error {
	for dest, path := range staged {
		if path == "" { // it goes
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := guard.Empty(b); err != nil {
			return fmt.Errorf("%s: %w", dest, err)
		}
		if live, err := os.ReadFile(dest); err == nil && guard.Blank(b) && !guard.Blank(live) {
			return fmt.Errorf("%s would be empty: a template cut short? To empty it on purpose, remove the file first", dest)
		}
	}
	return nil
}

// Check has nginx read the whole configuration as it would be: a copy of every file in
// which an include leads to a staged one, and the live ones for the rest.
func (n *Nginx) Check(ctx context.Context, staged map[string]string) error {
	if err := (Guard{}).Check(ctx, staged); err != nil {
		return err
	}
	conf, whole, err := absolute(n.conf(), staged)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "templater-check")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := &copier{dir: dir, base: filepath.Dir(conf), staged: whole, taken: map[string]bool{}}
	main, err := c.candidate(conf)
	if err != nil {
		return fmt.Errorf("copy %s: %w", conf, err)
	}
	n.sayLeftOut(whole, c.taken)
	cmd := &Command{Argv: []string{n.bin(), "-t", "-q", "-c", main}, Timeout: cmp.Or(n.CheckTimeout, 10*time.Second)}
	if err := cmd.run(ctx, nil); err != nil {
		return errors.New(fault(c.names(err.Error())))
	}
	return nil
}

// absolute gives the names as nginx knows them, wherever this process runs.
func absolute(conf string, staged map[string]string) (string, map[string]string, error) {
	whole := map[string]string{}
	for dest, path := range staged {
		dest, err := filepath.Abs(dest)
		if err != nil {
			return "", nil, err
		}
		whole[dest] = path
	}
	conf, err := filepath.Abs(conf)
	return conf, whole, err
}

// sayLeftOut tells, once, of files that no include of nginx takes in: nginx neither
// checks nor reads them.
func (n *Nginx) sayLeftOut(staged map[string]string, taken map[string]bool) {
	for dest := range staged {
		if staged[dest] == "" || taken[dest] || n.said[dest] || n.Log == nil {
			continue
		}
		if n.said == nil {
			n.said = map[string]bool{}
		}
		n.said[dest] = true
		n.Log.Warn("nginx does not include this file, so it is not checked", "file", dest, "conf", n.conf())
	}
}

func (n *Nginx) bin() string {
	if n.Bin == "" {
		return "nginx"
	}
	return n.Bin
}

// Reload signals the master and waits until it has new workers: a master that does not
// like a configuration goes on with the old ones and says nothing.
func (n *Nginx) Reload(ctx context.Context, _ string) error {
	pid, err := n.master()
	if err != nil {
		return err
	}
	return n.renewed(ctx, pid, func() error {
		if err := syscall.Kill(pid, syscall.SIGHUP); errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("nginx is %w: process %d has ended", ErrNotRunning, pid)
		} else if err != nil {
			return fmt.Errorf("signal nginx (pid %d): %w", pid, err)
		}
		return nil
	})
}

// Watched is a reload by other means that counts when nginx has new workers.
func (n *Nginx) Watched(by Reloader) Reloader { return watched{n, by} }

type watched struct {
	nginx *Nginx
	by    Reloader
}

func (w watched) Reload(ctx context.Context, generation string) error {
	pid, err := w.nginx.beheld()
	if err != nil {
		return err
	}
	return w.nginx.renewed(ctx, pid, func() error { return w.by.Reload(ctx, generation) })
}
