// Package child runs a program beside the templater for as long as that lives: started
// once everything is rendered, told of changes by a signal or by being started anew, and
// given every signal that the templater gets.
package child

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/internal/delay"
)

// Config is what program, and how it is treated.
type Config struct {
	Argv         []string
	Environ      []string
	ReloadSignal syscall.Signal // 0 ends it and starts it again
	KillSignal   syscall.Signal // 0 is SIGINT
	KillTimeout  time.Duration  // 0 is 30s; then it is killed
	Splay        time.Duration  // wait up to so long, at random, before telling it
}

// Exit is why the child, and with it the templater, ended.
type Exit struct{ Code int }

// Error says the code.
func (e *Exit) Error() string { return "the program of exec has ended" }

// Run starts the program at the first change and tells it of every later one, until ctx
// ends or the program does: then the error is an *Exit with its code. signals are passed
// on.
func Run(ctx context.Context, cfg Config, changes <-chan struct{}, signals <-chan os.Signal, log *slog.Logger) error {
	if cfg.KillSignal == 0 {
		cfg.KillSignal = syscall.SIGINT
	}
	if cfg.KillTimeout <= 0 {
		cfg.KillTimeout = 30 * time.Second
	}
	select {
	case <-ctx.Done():
		return nil
	case <-changes:
	}
	for {
		again, err := one(ctx, cfg, changes, signals, log)
		if !again {
			return err
		}
	}
}

// one runs the program once. It reports whether it is to be started again.
func one(ctx context.Context, cfg Config, changes <-chan struct{}, signals <-chan os.Signal, log *slog.Logger) (again bool, err error) {
	cmd := exec.Command(cfg.Argv[0], cfg.Argv[1:]...)
	cmd.Env = cfg.Environ
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a shell's children get the signals too
	if err := cmd.Start(); err != nil {
		return false, err
	}
	log.Info("program started", "pid", cmd.Process.Pid, "program", cfg.Argv[0])
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tell := func(s syscall.Signal) {
		if err := syscall.Kill(-cmd.Process.Pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			log.Warn("program not signalled", "signal", s.String(), "err", err)
		}
	}
	stop := func() {
		tell(cfg.KillSignal)
		t := time.NewTimer(cfg.KillTimeout)
		defer t.Stop()
		select {
		case <-ended:
		case <-t.C:
			log.Warn("program killed: it did not end in time", "after", cfg.KillTimeout.String())
			tell(syscall.SIGKILL)
			<-ended
		}
	}
	for {
		select {
		case <-ctx.Done():
			stop()
			return false, nil
		case <-ended:
			return false, &Exit{cmd.ProcessState.ExitCode()}
		case s := <-signals:
			if sig, ok := s.(syscall.Signal); ok {
				tell(sig)
			}
		case <-changes:
			pause(ctx, cfg.Splay)
			if cfg.ReloadSignal == 0 {
				stop()
				return ctx.Err() == nil, nil
			}
			tell(cfg.ReloadSignal)
		}
	}
}

func pause(ctx context.Context, most time.Duration) {
	if most > 0 {
		delay.For(ctx, rand.N(most))
	}
}
