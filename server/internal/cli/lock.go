package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) lock() *cli.Command {
	return described("Exit code 2, with -child-exit-code: the command failed. The command sees CONSUL_LOCK_HELD=true.", asking("lock", "run a command while holding a lock", "PREFIX COMMAND…", "rollcall lock service/backup ./backup.sh", catalogFlags(
		&cli.BoolFlag{Name: "child-exit-code", Usage: "exit with 2 when the command fails"},
		&cli.IntFlag{Name: "n", Usage: "how many may hold it at once", Value: 1},
		&cli.StringFlag{Name: "name", Usage: "name of the session (default: the command)"},
		&cli.IntFlag{Name: "monitor-retry", Usage: "how often to try again when the servers cannot tell whether the lock is held", Value: 3},
		&cli.BoolFlag{Name: "pass-stdin", Usage: "let the command read what comes in here"},
		&cli.BoolFlag{Name: "shell", Usage: "give the command to a shell", Value: true},
		&cli.DurationFlag{Name: "timeout", Aliases: []string{"try"}, Usage: "wait no longer than this for the lock; -try is its old name"},
		&cli.BoolFlag{Name: "verbose", Usage: "say what happens"},
	), func(ctx context.Context, c *cli.Command, cl *consul.Client) error {
		args := c.Args().Slice()
		switch {
		case len(args) < 2:
			return misused(c, "Key prefix and child command must be specified")
		case c.Int("n") < 1:
			return misused(c, "-n is 1 or more")
		case c.Duration("timeout") < 0:
			return misused(c, "-timeout is above 0")
		}
		return a.locked(ctx, c, cl, strings.TrimPrefix(args[0], "/"), args[1:])
	}))
}

// latch is a lock or a semaphore.
type latch interface {
	take(stop <-chan struct{}) (lost <-chan struct{}, err error)
	free() error
	destroy() error
	key() string
}

type mutex struct {
	*consul.Lock
	name string
}

func (m mutex) take(stop <-chan struct{}) (<-chan struct{}, error) { return m.Lock.Lock(stop) }
func (m mutex) free() error                                        { return m.Unlock() }
func (m mutex) destroy() error                                     { return m.Destroy() }
func (m mutex) key() string                                        { return m.name }

type semaphore struct {
	*consul.Semaphore
	name string
}

func (s semaphore) take(stop <-chan struct{}) (<-chan struct{}, error) { return s.Acquire(stop) }
func (s semaphore) free() error                                        { return s.Release() }
func (s semaphore) destroy() error                                     { return s.Destroy() }
func (s semaphore) key() string                                        { return s.name }

func (a *app) newLatch(c *cli.Command, cl *consul.Client, prefix string, args []string) (latch, error) {
	name := c.String("name")
	if name == "" {
		name = fmt.Sprintf("Consul lock for '%s' at '%s'", strings.Join(args, " "), prefix)
	}
	wait := c.Duration("timeout")
	try := wait > 0
	if n := c.Int("n"); n > 1 {
		s, err := cl.SemaphoreOpts(&consul.SemaphoreOptions{
			Prefix: prefix, Limit: n, SessionName: name, MonitorRetries: c.Int("monitor-retry"), MonitorRetryTime: consul.DefaultMonitorRetryTime,
			SemaphoreTryOnce: try, SemaphoreWaitTime: wait,
		})
		return semaphore{s, path.Join(prefix, consul.DefaultSemaphoreKey)}, err
	}
	key := path.Join(prefix, ".lock")
	l, err := cl.LockOpts(&consul.LockOptions{
		Key: key, SessionName: name, MonitorRetries: c.Int("monitor-retry"), MonitorRetryTime: consul.DefaultMonitorRetryTime,
		LockTryOnce: try, LockWaitTime: wait,
	})
	return mutex{l, key}, err
}

func (a *app) locked(ctx context.Context, c *cli.Command, cl *consul.Client, prefix string, args []string) error {
	say := func(format string, args ...any) {
		if c.Bool("verbose") {
			a.printf(format+"\n", args...)
		}
	}
	l, err := a.newLatch(c, cl, prefix, args)
	if err != nil {
		return fmt.Errorf("Error setting up lock: %w", err)
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	say("Attempting to acquire lock at %s", l.key())
	lost, err := l.take(ctx.Done())
	switch {
	case err != nil:
		return explain("acquiring lock", err)
	case lost == nil && ctx.Err() != nil:
		return &exit{1, "Shutdown triggered or timeout during lock acquisition"}
	case lost == nil:
		return &exit{1, "Shutdown triggered or timeout during lock acquisition: it is held by others"}
	}
	say("Running command with lock %s", l.key())
	cmd := child(args, c.Bool("shell"))
	cmd.Stdout, cmd.Stderr = a.Stdout, a.Stderr
	cmd.Env = append(os.Environ(), "CONSUL_LOCK_HELD=true")
	if c.Bool("pass-stdin") {
		cmd.Stdin = a.Stdin
	}
	failed := false
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(a.Stderr, "Error running handler: %v\n", err)
		failed = true
	} else {
		end, over := make(chan struct{}), make(chan struct{})
		go func() {
			select {
			case <-lost:
				fmt.Fprintf(a.Stderr, "Lost lock at %s: the command is asked to end\n", l.key())
				close(end)
			case <-ctx.Done():
				close(end)
			case <-over:
			}
		}()
		code, err := await(cmd, end)
		close(over)
		switch {
		case err != nil:
			fmt.Fprintf(a.Stderr, "Error running handler: %v\n", err)
			failed = true
		case code < 0:
			fmt.Fprintln(a.Stderr, "Error running handler: a signal ended it")
			failed = true
		case code != 0:
			fmt.Fprintf(a.Stderr, "Error running handler: exit status %d\n", code)
			failed = true
		}
	}
	say("Releasing lock %s", l.key())
	if err := l.free(); err != nil && !errors.Is(err, consul.ErrLockNotHeld) && !errors.Is(err, consul.ErrSemaphoreNotHeld) {
		return fmt.Errorf("Error releasing lock: %w", err)
	}
	if err := l.destroy(); err != nil && !errors.Is(err, consul.ErrLockInUse) && !errors.Is(err, consul.ErrSemaphoreInUse) {
		say("Lock cleanup failed: %v", err)
	}
	if failed && c.Bool("child-exit-code") {
		return &exit{code: 2}
	}
	return nil
}
