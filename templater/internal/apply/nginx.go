package apply

import (
	"context"
	"errors"
	"fmt"
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

// Check has nginx read the whole configuration as it would be: a copy of every file in
// which an include leads to a staged one, and the live ones for the rest.
func (n *Nginx) Check(ctx context.Context, staged map[string]string) error {
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
	dir, err := os.MkdirTemp("", "templater-check")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	main, err := candidate(dir, n.conf(), staged)
	if err != nil {
		return fmt.Errorf("copy %s: %w", n.conf(), err)
	}
	bin := n.Bin
	if bin == "" {
		bin = "nginx"
	}
	c := &Command{Argv: []string{bin, "-t", "-q", "-c", main}, Timeout: n.timeout()}
	if err := c.run(ctx, nil); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), dir, filepath.Dir(n.conf())))
	}
	return nil
}

// candidate writes the main file and all that it includes and that is, or leads to, a
// staged file, into dir, and gives the main file's path. Everything else of the
// configuration's directory is linked there, since nginx looks for relative names beside
// the main file.
func candidate(dir, conf string, staged map[string]string) (string, error) {
	base := filepath.Dir(conf)
	entries, err := os.ReadDir(base)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(base, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return "", err
		}
	}
	c := &copier{dir: dir, base: base, staged: staged}
	b, err := os.ReadFile(conf)
	if err != nil {
		return "", err
	}
	main := filepath.Join(dir, filepath.Base(conf))
	if err := os.Remove(main); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	out, err := c.rewrite(b, 0)
	if err != nil {
		return "", err
	}
	return main, os.WriteFile(main, out, 0o600)
}

type copier struct {
	dir, base string
	staged    map[string]string
	n         int
}

// rewrite gives a configuration in which every include names the files it takes in, one
// by one, each as it would be.
func (c *copier) rewrite(src []byte, depth int) ([]byte, error) {
	if depth > 20 {
		return nil, errors.New("includes go too deep; is there a circle?")
	}
	var out []byte
	var fault error
	last := 0
	var words []guard.Token
	guard.Tokens(src, func(t guard.Token) {
		if fault != nil {
			return
		}
		if t.Quoted || t.Text != "{" && t.Text != "}" && t.Text != ";" {
			words = append(words, t)
			return
		}
		if t.Text == ";" && len(words) == 2 && words[0].Text == "include" && !words[0].Quoted {
			var lines []byte
			if lines, fault = c.include(words[1].Text, depth); fault == nil {
				out = append(out, src[last:words[0].Start]...)
				out = append(out, lines...)
				last = t.End
			}
		}
		words = nil
	})
	return append(out, src[last:]...), fault
}

// include gives include directives for all that a pattern takes in.
func (c *copier) include(pattern string, depth int) ([]byte, error) {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(c.base, pattern)
	}
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	for dest := range c.staged { // one that is not there yet
		if ok, err := filepath.Match(pattern, dest); err == nil && ok && !slices.Contains(paths, dest) {
			paths = append(paths, dest)
		}
	}
	if strings.ContainsAny(pattern, "*?[") { // as nginx does
		paths = slices.DeleteFunc(paths, func(p string) bool { return strings.HasPrefix(filepath.Base(p), ".") })
	} else if len(paths) == 0 {
		paths = []string{pattern} // for nginx to say that it is not there
	}
	slices.Sort(paths)
	var out []byte
	for _, p := range paths {
		from := p
		if s, ok := c.staged[p]; ok {
			from = s
		}
		b, err := os.ReadFile(from)
		if err != nil {
			out = fmt.Appendf(out, "include %q;\n", p) // nginx says it better
			continue
		}
		text, err := c.rewrite(b, depth+1)
		if err != nil {
			return nil, err
		}
		c.n++
		to := filepath.Join(c.dir, fmt.Sprintf(".included-%d-%s", c.n, filepath.Base(p)))
		if err := os.WriteFile(to, text, 0o600); err != nil {
			return nil, err
		}
		out = fmt.Appendf(out, "include %q;\n", to)
	}
	return out, nil
}

// Reload signals the master and waits until it has new workers: a master that does not
// like a configuration goes on with the old ones and says nothing.
func (n *Nginx) Reload(ctx context.Context) error {
	pid, err := n.master()
	if err != nil {
		return err
	}
	before := workers(pid)
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
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
			return fmt.Errorf("nginx (pid %d) has no new workers %s after the signal: its error log says why", pid, n.timeout())
		case <-look.C:
		}
	}
}

// master finds the process to signal.
func (n *Nginx) master() (int, error) {
	if pid, err := strconv.Atoi(n.PID); err == nil && n.PID != "" {
		return pid, nil
	}
	if n.PID != "" {
		return readPID(n.PID)
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
		return 0, errors.New("no nginx master process runs here; -nginx-pid names it or its pid file")
	case 1:
		return found[0], nil
	}
	return 0, fmt.Errorf("several nginx master processes run here (%v); -nginx-pid names the one that is meant", found)
}

func readPID(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read nginx's pid file: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 1 {
		return 0, fmt.Errorf("nginx's pid file %s holds no process id: is nginx running?", file)
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
