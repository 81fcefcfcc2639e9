package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/templater/internal/guard"
)

// defaultConf is what nginx's packages read.
const defaultConf = "/etc/nginx/nginx.conf"

// master finds the process to signal. It never gives one that is no master, since SIGHUP
// ends most others, nor one that reads another configuration.
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
	file, why := pidFile(n.conf()), "no master process that reads "+n.conf()+" is here"
	if file != "" {
		if pid, err := readPID(file); err == nil && isMaster(pid) {
			return pid, nil
		}
		why += ", and its pid file " + file + " names none"
	}
	return only(why, func(pid int) bool {
		// one that sees the files that we see would have written the pid file that we read
		return !nested(pid) && !(file != "" && sameMounts(pid)) && n.reads(title(pid))
	})
}

// beheld is the master whose workers show that a reload by other means took: also one in a
// container, which is not for us to signal.
func (n *Nginx) beheld() (int, error) {
	pid, err := n.master()
	if n.PID != "" || !errors.Is(err, ErrNotRunning) {
		return pid, err
	}
	if pid, inside := only("", nested); !errors.Is(inside, ErrNotRunning) {
		return pid, inside
	}
	return 0, err
}

// only gives the one master that is meant; why says what it means that there is none.
func only(why string, meant func(pid int) bool) (int, error) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	var found []int
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && isMaster(pid) && meant(pid) {
			found = append(found, pid)
		}
	}
	var forked []int
	for _, pid := range found {
		forked = append(forked, children(pid)...)
	}
	found = slices.DeleteFunc(found, func(pid int) bool { // a worker in the making still has its master's title
		return slices.Contains(forked, pid) && len(children(pid)) == 0
	})
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("nginx is %w: %s; -nginx-pid names it or its pid file", ErrNotRunning, why)
	case 1:
		return found[0], nil
	}
	return 0, fmt.Errorf("several nginx master processes run here (%v); -nginx-pid names the one that is meant", found)
}

// nested reports whether a process has a pid namespace below ours: a container's.
func nested(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(ids)) > 1
		}
	}
	return false // an old kernel
}

// sameMounts reports whether a process surely sees the files that we see.
func sameMounts(pid int) bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return false
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid)) // not everybody may
	return err == nil && own == its
}

// reads reports whether a master reads the configuration that is meant, by its title, which
// has its command line.
func (n *Nginx) reads(title string) bool {
	conf, prefix := options(strings.TrimPrefix(title, "nginx: master process"))
	ours, err := filepath.Abs(n.conf())
	if err != nil {
		return false
	}
	if conf == "" && filepath.Clean(ours) == defaultConf {
		return true
	}
	if conf == "" || !filepath.IsAbs(conf) && prefix == "" {
		built := n.builtin()
		if conf == "" {
			conf = built.conf
		}
		if prefix == "" {
			prefix = built.prefix
		}
	}
	switch {
	case filepath.IsAbs(conf):
	case filepath.IsAbs(prefix):
		conf = filepath.Join(prefix, conf)
	default: // from where that was started, which is not for everybody to know
		return strings.HasSuffix(ours, "/"+filepath.Join(".", prefix, conf))
	}
	return filepath.Clean(conf) == ours || resolve(conf) == resolve(ours)
}

// options gives the configuration and the prefix of a command line of nginx, whose words
// are no more told apart than by spaces.
func options(line string) (conf, prefix string) {
	to := new(string) // where a value goes
	for i, word := range strings.Fields(line) {
		if i == 0 {
			continue
		}
		flags, ok := strings.CutPrefix(word, "-")
		if !ok {
			*to = strings.TrimPrefix(*to+" "+word, " ")
			continue
		}
		to = new(string)
		if at := strings.IndexAny(flags, "cpegs"); at >= 0 {
			switch flags[at] {
			case 'c':
				to = &conf
			case 'p':
				to = &prefix
			}
			*to = flags[at+1:]
		}
	}
	return conf, prefix
}

// paths are where nginx looks if it is not told.
type paths struct{ conf, prefix string }

// asked keeps what nginx said of its paths.
type asked struct {
	mu    sync.Mutex
	built *paths // guarded by mu; nil before it has answered
}

var (
	prefixOption = regexp.MustCompile(`--prefix=(\S+)`)
	confOption   = regexp.MustCompile(`--conf-path=(\S+)`)
)

// builtin asks nginx's binary, once.
func (n *Nginx) builtin() paths {
	n.asked.mu.Lock()
	defer n.asked.mu.Unlock()
	if n.asked.built != nil {
		return *n.asked.built
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, n.bin(), "-V").CombinedOutput()
	if err != nil {
		return paths{conf: defaultConf}
	}
	p := &paths{"conf/nginx.conf", "/usr/local/nginx"} // what it is built with where nothing is said
	if m := prefixOption.FindSubmatch(out); m != nil {
		p.prefix = string(m[1])
	}
	if m := confOption.FindSubmatch(out); m != nil {
		p.conf = string(m[1])
	}
	n.asked.built = p
	return *p
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
