package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/templater/internal/guard"
)

// Nginx checks and reloads an nginx. It never restarts or stops it.
type Nginx struct {
	Bin  string // default nginx
	Conf string // default /etc/nginx/nginx.conf
	// PID is a process id, or a file that holds it. "" reads the configuration's pid file,
	// and where that is of no use looks for a master process.
	PID string
	// Timeout bounds a check, and how long new workers are waited for. Default 5s.
	Timeout time.Duration
	Log     *slog.Logger // may be nil

	said map[string]bool // files of which sayLeftOut spoke; used by one apply at a time
}

func (n *Nginx) conf() string {
	if n.Conf == "" {
		return "/etc/nginx/nginx.conf"
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
	dir, err := os.MkdirTemp("", "templater-check")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := &copier{dir: dir, base: filepath.Dir(n.conf()), staged: staged, taken: map[string]bool{}}
	main, err := c.candidate(n.conf())
	if err != nil {
		return fmt.Errorf("copy %s: %w", n.conf(), err)
	}
	n.sayLeftOut(staged, c.taken)
	cmd := &Command{Argv: []string{n.bin(), "-t", "-q", "-c", main}, Timeout: n.timeout()}
	if err := cmd.run(ctx, nil); err != nil {
		return errors.New(c.names(err.Error()))
	}
	return nil
}

// sayLeftOut tells, once, of files that no include of nginx takes in: nginx neither
// checks nor reads them.
func (n *Nginx) sayLeftOut(staged map[string]string, taken map[string]bool) {
	for dest := range staged {
		if taken[dest] || n.said[dest] || n.Log == nil {
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
func (n *Nginx) Reload(ctx context.Context) error {
	pid, err := n.master()
	if err != nil {
		return err
	}
	before := workers(pid)
	if err := syscall.Kill(pid, syscall.SIGHUP); errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("nginx is %w: process %d has ended", ErrNotRunning, pid)
	} else if err != nil {
		return fmt.Errorf("signal nginx (pid %d): %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, n.timeout())
	defer cancel()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		for _, w := range workers(pid) {
			if !slices.Contains(before, w) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			if !isMaster(pid) {
				return fmt.Errorf("nginx is %w: process %d has ended", ErrNotRunning, pid)
			}
			return fmt.Errorf("nginx (pid %d) has no new workers %s after the signal: its error log says why", pid, n.timeout())
		case <-look.C:
		}
	}
}

// master finds the process to signal. It never gives one that is no master: SIGHUP ends
// most others.
func (n *Nginx) master() (int, error) {
	if pid, err := strconv.Atoi(n.PID); err == nil {
		return master(pid)
	}
	if n.PID != "" {
		pid, err := readPID(n.PID)
		if err != nil {
			return 0, err
		}
		return master(pid)
	}
	if file := pidFile(n.conf()); file != "" {
		if pid, err := readPID(file); err == nil && isMaster(pid) {
			return pid, nil
		}
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	var found []int
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && isMaster(pid) {
			found = append(found, pid)
		}
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("nginx is %w: no master process is here; -nginx-pid names it or its pid file", ErrNotRunning)
	case 1:
		return found[0], nil
	}
	return 0, fmt.Errorf("several nginx master processes run here (%v); -nginx-pid names the one that is meant", found)
}

func master(pid int) (int, error) {
	if !isMaster(pid) {
		return 0, fmt.Errorf("nginx is %w: process %d is no nginx master", ErrNotRunning, pid)
	}
	return pid, nil
}

func readPID(file string) (int, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("nginx is %w: it has no pid file %s", ErrNotRunning, file)
	}
	if err != nil {
		return 0, fmt.Errorf("read nginx's pid file: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 1 {
		return 0, fmt.Errorf("nginx is %w: its pid file %s holds no process id", ErrNotRunning, file)
	}
	return pid, nil
}

// pidFile reads the pid directive of a configuration, "" where there is none.
func pidFile(conf string) string {
	b, err := os.ReadFile(conf)
	if err != nil {
		return ""
	}
	file, words := "", []string(nil)
	guard.Tokens(b, func(t guard.Token) {
		if t.Text == ";" && len(words) == 2 && words[0] == "pid" {
			file = words[1]
		}
		if t.Text == ";" || t.Text == "{" || t.Text == "}" {
			words = nil
			return
		}
		words = append(words, t.Text)
	})
	if file != "" && !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(conf), file)
	}
	return file
}

func isMaster(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.HasPrefix(string(b), "nginx: master process")
}

// workers lists a process's children.
func workers(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return childrenByStat(pid)
	}
	var out []int
	for _, f := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// childrenByStat is for kernels that do not list children.
func childrenByStat(parent int) []int {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", p.Name(), "stat"))
		if err != nil {
			continue
		}
		_, rest, ok := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); ok && len(f) > 1 && f[1] == strconv.Itoa(parent) {
			out = append(out, pid)
		}
	}
	return out
}
