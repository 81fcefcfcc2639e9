package apply

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Titles of a worker. It has the first one once it takes connections: until then it bears
// its master's.
const (
	titleServing = "nginx: worker process"
	titleLeaving = "nginx: worker process is shutting down"
)

// renewed reloads, and waits until new workers take connections. Then it tells the old ones
// to finish what they have and go. The master does so too, but a tenth of a second later,
// and until then they take new connections and treat them by the old configuration.
func (n *Nginx) renewed(ctx context.Context, pid int, reload func() error) error {
	before := children(pid)
	if err := reload(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.timeout())
	defer cancel()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		old, fresh := serving(pid, before)
		if len(fresh) > 0 && len(fresh) >= len(old) {
			for _, w := range old {
				// Where that is not allowed, the master's word will have to do. Until it has
				// come, the master collects no child, so the number is still the worker's.
				_ = syscall.Kill(w, syscall.SIGQUIT)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			if len(fresh) > 0 {
				return nil
			}
			if !isMaster(pid) {
				return fmt.Errorf("nginx is %w: process %d has ended", ErrNotRunning, pid)
			}
			return fmt.Errorf("nginx (pid %d) has no new workers %s after the signal: its error log says why", pid, n.timeout())
		case <-look.C:
			if title(pid) == "" {
				return fmt.Errorf("nginx is %w: process %d has ended", ErrNotRunning, pid)
			}
		}
	}
}

// serving lists the workers that take connections: those among before, and new ones.
func serving(pid int, before []int) (old, fresh []int) {
	for _, c := range children(pid) {
		switch {
		case title(c) != titleServing:
		case slices.Contains(before, c):
			old = append(old, c)
		default:
			fresh = append(fresh, c)
		}
	}
	return old, fresh
}

// title is what a process calls itself, "" of one that has ended.
func title(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\x00 ")
}

func isMaster(pid int) bool { return strings.HasPrefix(title(pid), "nginx: master process") }

// Draining counts old workers that still serve what they began with. Each keeps its
// memory until its last connection ends.
func (n *Nginx) Draining() int {
	pid, err := n.master()
	if err != nil {
		return 0
	}
	count := 0
	for _, c := range children(pid) {
		if title(c) == titleLeaving {
			count++
		}
	}
	return count
}

// children lists a process's.
func children(pid int) []int {
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
