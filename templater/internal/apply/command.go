package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Command runs a program, as a check or a reload. A single string with spaces is run by
// a shell, as consul-template does.
type Command struct {
	Argv    []string
	Timeout time.Duration // 0 is 30 s; below 0 it is started and left alone
	Environ []string      // nil is the process's own
	Shown   bool          // what it prints goes where this process prints, too
	Dir     string        // where it runs; "" is where this process does
	// KillSignal ends it when its time is up, and KillTimeout later it is killed; 0 kills it
	// at once.
	KillSignal  syscall.Signal
	KillTimeout time.Duration
	Tree        bool // as a check it runs in a tree with the staged files in their places
}

// ShellCommand makes a command of what a configuration says in one string.
func ShellCommand(text string, timeout time.Duration) *Command {
	if strings.ContainsAny(text, " \t\n") {
		return &Command{Argv: []string{"/bin/sh", "-c", text}, Timeout: timeout}
	}
	return &Command{Argv: []string{text}, Timeout: timeout}
}

// Reload runs the command; its failure is the reload's.
func (c *Command) Reload(ctx context.Context, _ string) error {
	if c.Timeout < 0 {
		return c.leave()
	}
	return c.run(ctx, nil)
}

// leave starts the command and does not wait for it.
func (c *Command) leave() error {
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Env = c.Environ
	if c.Shown {
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // its end is nobody's business, but it must be collected
	return nil
}

// Check runs the command; the staged files are named in TEMPLATER_STAGED, one a line as
// "destination<TAB>staged", and the root of a tree in TEMPLATER_TREE.
func (c *Command) Check(ctx context.Context, staged map[string]string) error {
	var list []string
	for _, dest := range slices.Sorted(maps.Keys(staged)) {
		list = append(list, dest+"\t"+staged[dest])
	}
	env := []string{"TEMPLATER_STAGED=" + strings.Join(list, "\n")}
	if !c.Tree {
		return c.run(ctx, env)
	}
	root, err := os.MkdirTemp("", "templater-tree")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	cwd := c.Dir
	if dests := slices.Sorted(maps.Keys(staged)); cwd == "" && len(dests) > 0 {
		cwd = filepath.Dir(dests[0])
	}
	if cwd, err = filepath.Abs(cwd); err == nil {
		err = lay(root, cwd, staged)
	}
	if err != nil {
		return fmt.Errorf("stage a tree to run in %s: %w", cwd, err)
	}
	within := *c
	within.Dir = filepath.Join(root, cwd)
	if err := within.run(ctx, append(env, "TEMPLATER_TREE="+root)); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), root, "")) // by the names that the files will have
	}
	return nil
}

func (c *Command) run(ctx context.Context, env []string) error {
	limit := c.Timeout
	if limit <= 0 {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	own := c.Environ
	if own == nil {
		own = os.Environ()
	}
	cmd.Env, cmd.Dir = append(slices.Clone(own), env...), c.Dir
	// what the command starts ends with it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = kill, time.Second
	var last *time.Timer // written before Run returns
	if c.KillSignal != 0 {
		cmd.WaitDelay += c.KillTimeout
		cmd.Cancel = func() error {
			last = time.AfterFunc(c.KillTimeout, func() { _ = kill() }) // it may have ended
			return syscall.Kill(-cmd.Process.Pid, c.KillSignal)
		}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if c.Shown {
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, os.Stdout), io.MultiWriter(&errs, os.Stderr)
	}
	err := cmd.Run()
	if last != nil && last.Stop() {
		_ = kill() // what it started and left
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.Canceled) {
		err = fmt.Errorf("no end after %s", limit)
	}
	if text := lastLines(out.String()+errs.String(), 3); text != "" {
		return fmt.Errorf("%s: %w: %s", strings.Join(c.Argv, " "), err, text)
	}
	return fmt.Errorf("%s: %w", strings.Join(c.Argv, " "), err)
}

// moment is when, and in which process, nginx says something; frame is what it says of
// every fault.
var (
	moment = regexp.MustCompile(`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (\[[a-z]+\]) \d+#\d+: `)
	frame  = regexp.MustCompile(`^(\S+ -t) -q -c \S+: exit status \d+: (.*?)( / nginx: configuration file \S+ test failed)?$`)
)

// fault leaves of what nginx's check says the fault itself, which is the same each time
// that nginx finds it.
func fault(said string) string {
	return frame.ReplaceAllString(moment.ReplaceAllString(said, "$1 "), "$1: $2")
}

// lastLines joins the last lines of a command's output into one.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], " / ")
}
