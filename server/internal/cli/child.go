package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// interruptible gives a context that also ends when a person or a service manager says so,
// the terminal is closed, or nobody reads the output any more.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
}

// childGrace is how long a child has after SIGTERM.
const childGrace = 5 * time.Second

// child makes the command of a program with its arguments, or with shell of a line.
func child(args []string, shell bool) *exec.Cmd {
	var cmd *exec.Cmd
	if shell {
		sh := os.Getenv("SHELL")
		if sh == "" {
			sh = "/bin/sh"
		}
		line := ""
		for i, a := range args {
			if i > 0 {
				line += " "
			}
			line += a
		}
		cmd = exec.Command(sh, "-c", line)
	} else {
		cmd = exec.Command(args[0], args[1:]...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it started ends with it
	return cmd
}

// await runs a started child until it ends, or stop closes: then it is asked to end, and
// after a while made to. It gives the child's exit code, -1 if a signal ended it.
func await(cmd *exec.Cmd, stop <-chan struct{}) (code int, err error) {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-stop:
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may be gone
		timer := time.NewTimer(childGrace)
		defer timer.Stop()
		select {
		case err = <-done:
		case <-timer.C:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			err = <-done
		}
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return failed.ExitCode(), nil
	}
	return 0, err
}
