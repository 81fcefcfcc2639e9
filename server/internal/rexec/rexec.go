// Package rexec carries out commands that somebody asked a cluster to run (`rollcall
// exec`), in the protocol of Consul: an event names a session, below whose key stands the
// job; what happens is told in keys beside it, held by that session, so that they go when
// it does. It runs what it is told to: whoever may fire the event and write the keys has
// this agent's rights, which is why agents take part only where their configuration says
// so.
package rexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// EventName is that of the event that asks.
const EventName = "_rexec"

// Prefix is where the keys are, unless the event says otherwise.
const Prefix = "_rexec"

// Keys of a job, below prefix/session/, and of a node, below prefix/session/node/.
const (
	JobKey  = "job"
	AckKey  = "ack"
	OutKey  = "out"
	ExitKey = "exit"
)

// Bounds of what a node tells.
const (
	chunk    = 4 << 10                // bytes of output a key
	flush    = 500 * time.Millisecond // after which a shorter one is written
	backlog  = 64                     // chunks that wait to be written; then the program waits
	noStart  = 255                    // the exit code where nothing ran
	killedBy = 5 * time.Second        // after SIGTERM
)

// Event is the payload of the event.
type Event struct{ Prefix, Session string }

// Job is what shall be run: Script as a file, else Command by a shell, else Args. Wait is
// how long the asker waits for silence, in nanoseconds.
type Job struct {
	Command string
	Args    []string
	Script  []byte
	Wait    time.Duration
}

// KV is what is asked of the key-value store.
type KV interface {
	// Get gives a key's value; false if there is none.
	Get(ctx context.Context, key string) ([]byte, bool, error)
	// Hold writes a key for a session; false if the session may not, or is gone.
	Hold(ctx context.Context, key string, value []byte, session string) (bool, error)
}

// Carry carries out the job that an event names, and returns when it has ended and all is
// told, or ctx ends.
func Carry(ctx context.Context, kv KV, node string, payload []byte, log *slog.Logger) error {
	var e Event
	if err := json.Unmarshal(payload, &e); err != nil || e.Session == "" || e.Prefix == "" {
		return fmt.Errorf("the event names no job: %w", err)
	}
	base := e.Prefix + "/" + e.Session + "/"
	body, ok, err := kv.Get(ctx, base+JobKey)
	if err != nil || !ok {
		return errors.Join(fmt.Errorf("job %s is not there", e.Session), err)
	}
	var job Job
	if err := json.Unmarshal(body, &job); err != nil {
		return fmt.Errorf("job %s: %w", e.Session, err)
	}
	t := teller{kv: kv, base: base + node + "/", session: e.Session}
	if err := t.tell(ctx, AckKey, nil); err != nil {
		return err
	}
	log.Info("command asked for", "session", e.Session, "command", job.Command, "args", job.Args)
	code, failed := t.run(ctx, &job)
	if failed != nil {
		log.Warn("command not run", "session", e.Session, "err", failed)
	}
	return t.tell(ctx, ExitKey, []byte(strconv.Itoa(code)))
}

// teller writes what one node has to tell about one job.
type teller struct {
	kv            KV
	base, session string
}

func (t *teller) tell(ctx context.Context, key string, value []byte) error {
	ok, err := t.kv.Hold(ctx, t.base+key, value, t.session)
	if err == nil && !ok {
		err = errors.New("whoever asked is gone")
	}
	if err != nil {
		return fmt.Errorf("tell %s%s: %w", t.base, key, err)
	}
	return nil
}

// run runs a job and tells its output. The error is why it could not be run.
func (t *teller) run(ctx context.Context, job *Job) (code int, err error) {
	cmd, clean, err := command(job)
	if err != nil {
		return noStart, err
	}
	defer clean()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out := make(chan []byte, backlog)
	cmd.Stdout = writer{ctx, out}
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return noStart, err
	}
	var telling sync.WaitGroup
	telling.Go(func() {
		if t.stream(ctx, out) != nil {
			stop() // nobody reads any more
		}
	})
	ended := context.AfterFunc(ctx, func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may be gone
		time.AfterFunc(killedBy, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	})
	err = cmd.Wait()
	ended()
	close(out)
	telling.Wait()
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed) && failed.ExitCode() >= 0:
		return failed.ExitCode(), nil
	case err != nil:
		return noStart, err
	}
	return 0, nil
}

// command makes the process of a job; clean removes what was written for it.
func command(job *Job) (cmd *exec.Cmd, clean func(), err error) {
	switch {
	case len(job.Script) > 0:
		f, err := os.CreateTemp("", "rexec-")
		if err != nil {
			return nil, nil, err
		}
		clean := func() { os.Remove(f.Name()) }
		_, err = f.Write(job.Script)
		if err := errors.Join(err, f.Chmod(0o700), f.Close()); err != nil {
			clean()
			return nil, nil, err
		}
		return exec.Command("/bin/sh", "-c", `"$0"`, f.Name()), clean, nil // a shell runs also what does not say by what
	case job.Command != "":
		return exec.Command("/bin/sh", "-c", job.Command), func() {}, nil
	case len(job.Args) > 0:
		return exec.Command(job.Args[0], job.Args[1:]...), func() {}, nil
	}
	return nil, nil, errors.New("the job is empty")
}

// writer hands output on.
type writer struct {
	ctx context.Context
	out chan<- []byte
}

func (w writer) Write(b []byte) (int, error) {
	select {
	case w.out <- append([]byte(nil), b...):
		return len(b), nil
	case <-w.ctx.Done():
		return 0, context.Cause(w.ctx)
	}
}

// stream writes output to numbered keys: whole chunks at once, less after a while.
func (t *teller) stream(ctx context.Context, out <-chan []byte) error {
	var buf []byte
	n := 0
	write := func(b []byte) error {
		err := t.tell(ctx, fmt.Sprintf("%s/%05x", OutKey, n), b)
		n++
		return err
	}
	late := time.NewTimer(flush)
	late.Stop()
	defer late.Stop()
	for {
		select {
		case b, ok := <-out:
			if !ok {
				if len(buf) > 0 {
					return write(buf)
				}
				return nil
			}
			if len(buf) == 0 {
				late.Reset(flush)
			}
			buf = append(buf, b...)
			for len(buf) >= chunk {
				if err := write(buf[:chunk]); err != nil {
					return err
				}
				buf = buf[chunk:]
			}
		case <-late.C:
			if len(buf) > 0 {
				if err := write(buf); err != nil {
					return err
				}
				buf = nil
			}
		}
	}
}
