package checks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// scriptProbe runs a command: exit 0 passes, 1 warns, all else is critical. At the
// timeout it is killed with everything that it started.
func (r *Runner) scriptProbe(def *api.CheckDefinition) probe {
	args := def.Args
	if len(args) == 0 {
		args = []string{shell(), "-c", def.Script}
	}
	size := r.outputSize(def)
	return func(ctx context.Context) (string, string) {
		out := &tail{limit: size}
		err := run(ctx, out, args)
		var exit *exec.ExitError
		switch {
		case timedOut(ctx):
			text := fmt.Sprintf("Timed out (%s) running check", timeout(def))
			if said := captured(out); said != "" {
				text += "\n\n" + said
			}
			return api.Critical, text
		case err == nil:
			return api.Passing, captured(out)
		case errors.As(err, &exit):
			return byExitCode(exit.ExitCode()), captured(out)
		}
		return api.Critical, err.Error()
	}
}

// shell is the one that runs commands given as a single string.
func shell() string {
	if s := os.Getenv("SHELL"); s != "" {
		return s
	}
	return "/bin/sh"
}

// byExitCode is what a command's exit code means.
func byExitCode(code int) string {
	switch code {
	case 0:
		return api.Passing
	case 1:
		return api.Warning
	}
	return api.Critical
}

// captured is a command's output; what was cut off is said.
func captured(out *tail) string {
	if out.cut() {
		return fmt.Sprintf("Captured %d of %d bytes\n...\n%s", out.limit, out.total, out)
	}
	return out.String()
}

// run runs a command in a process group of its own.
func run(ctx context.Context, out *tail, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out // the same writer, so one goroutine writes
	group(cmd)
	cmd.Cancel = func() error { return killTree(cmd.Process) }
	cmd.WaitDelay = pipeDelay
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // the command ended well, and left something in the background
	}
	return err
}

// pipeDelay is how long output is waited for once the command itself has ended: what it
// left in the background may hold the pipe for ever.
const pipeDelay = time.Second
