package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command runs a program, as a check or a reload. A single string with spaces is run by
// a shell, as consul-template does.
type Command struct {
	Argv    []string
	Timeout time.Duration // 0 is 30 s
	Env     []string      // beside the process's own
}

// ShellCommand makes a command of what a configuration says in one string.
func ShellCommand(text string, timeout time.Duration) *Command {
	if strings.ContainsAny(text, " \t\n") {
		return &Command{Argv: []string{"/bin/sh", "-c", text}, Timeout: timeout}
	}
	return &Command{Argv: []string{text}, Timeout: timeout}
}

// Reload runs the command; its failure is the reload's.
func (c *Command) Reload(ctx context.Context) error { return c.run(ctx, nil) }

// Check runs the command; the staged files are named in TEMPLATER_STAGED, one a line as
// "destination<TAB>staged".
func (c *Command) Check(ctx context.Context, staged map[string]string) error {
	var list []string
	for dest, path := range staged {
		list = append(list, dest+"\t"+path)
	}
	return c.run(ctx, []string{"TEMPLATER_STAGED=" + strings.Join(list, "\n")})
}

func (c *Command) run(ctx context.Context, env []string) error {
	limit := c.Timeout
	if limit <= 0 {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(append(os.Environ(), c.Env...), env...)
	// what the command starts ends with it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.Canceled) {
		err = fmt.Errorf("no end after %s", limit)
	}
	if text := lastLines(out.String(), 3); text != "" {
		return fmt.Errorf("%s: %w: %s", strings.Join(c.Argv, " "), err, text)
	}
	return fmt.Errorf("%s: %w", strings.Join(c.Argv, " "), err)
}

// lastLines joins the last lines of a command's output into one.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], " / ")
}
