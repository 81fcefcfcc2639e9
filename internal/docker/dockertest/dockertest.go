// Package dockertest is a Docker engine in memory, for tests: containers that the test
// puts there, events that it sends, and every fault that a real engine shows: away,
// stream cut or silent, single answers refused.
package dockertest

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
)

// ErrAway is what an engine that is away answers.
var ErrAway = errors.New("cannot connect to the engine")

// Engine implements docker.Engine. Its zero value is an engine without containers.
type Engine struct {
	// InspectFault, if set, is asked before each inspection; an error is the answer.
	// Set it before the engine is used.
	InspectFault func(id string) error

	mu         sync.Mutex
	info       docker.Info
	containers map[string]*docker.Container
	streams    map[chan docker.Event]context.CancelCauseFunc
	past       []docker.Event
	away       bool
	deaf       bool // events are lost
	inspected  int
	listed     int
}

var _ docker.Engine = (*Engine)(nil)

// Name sets what Info answers.
func (e *Engine) Name(info docker.Info) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.info = info
}

// Put adds or replaces a container without an event.
func (e *Engine) Put(c docker.Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.containers == nil {
		e.containers = map[string]*docker.Container{}
	}
	e.containers[c.ID] = &c
}

// Remove takes containers away without an event.
func (e *Engine) Remove(ids ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		delete(e.containers, id)
	}
}

// Start puts a container and tells of its start.
func (e *Engine) Start(c docker.Container) {
	if c.StartedAt.IsZero() {
		c.StartedAt = time.Now()
	}
	if c.State == "" {
		c.State = docker.StateRunning
	}
	e.Put(c)
	e.Send(docker.Event{Type: docker.TypeContainer, Action: docker.ActionStart, Container: c.ID})
}

// Kill tells that a container was sent a signal.
func (e *Engine) Kill(id string, signal int) {
	e.Send(docker.Event{Type: docker.TypeContainer, Action: docker.ActionKill, Container: id, Signal: signal})
}

// Die ends a container and tells of it.
func (e *Engine) Die(id string, code int) {
	e.mu.Lock()
	if c := e.containers[id]; c != nil {
		dead := *c
		dead.State, dead.ExitCode = docker.StateExited, code
		e.containers[id] = &dead
	}
	e.mu.Unlock()
	e.Send(docker.Event{Type: docker.TypeContainer, Action: docker.ActionDie, Container: id})
}

// Send gives an event, now if it has no time, to all subscribers.
func (e *Engine) Send(ev docker.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	if e.deaf {
		return
	}
	e.past = append(e.past, ev)
	for ch := range e.streams {
		select {
		case ch <- ev:
		default: // as a real engine does with a reader that is too slow
		}
	}
}

// Cut ends all streams.
func (e *Engine) Cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ch, cut := range e.streams {
		cut(io.ErrUnexpectedEOF)
		delete(e.streams, ch)
	}
}

// Away makes every call fail and cuts the streams, or ends that.
func (e *Engine) Away(away bool) {
	e.mu.Lock()
	e.away = away
	e.mu.Unlock()
	if away {
		e.Cut()
	}
}

// Deaf loses all further events, as a frozen stream does, or ends that.
func (e *Engine) Deaf(deaf bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf = deaf
}

// Calls counts lists and inspections so far.
func (e *Engine) Calls() (lists, inspections int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listed, e.inspected
}

// Info implements docker.Engine.
func (e *Engine) Info(context.Context) (docker.Info, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away {
		return docker.Info{}, ErrAway
	}
	return e.info, nil
}

// Events implements docker.Engine.
func (e *Engine) Events(ctx context.Context, since time.Time) (iter.Seq2[docker.Event, error], error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away {
		return nil, ErrAway
	}
	ctx, cut := context.WithCancelCause(ctx)
	ch := make(chan docker.Event, 1024) // what a real engine keeps for a reader
	if e.streams == nil {
		e.streams = map[chan docker.Event]context.CancelCauseFunc{}
	}
	e.streams[ch] = cut
	for _, ev := range e.past {
		if !since.IsZero() && !ev.Time.Before(since) && len(ch) < 256 {
			ch <- ev
		}
	}
	return func(yield func(docker.Event, error) bool) {
		defer func() {
			e.mu.Lock()
			delete(e.streams, ch)
			e.mu.Unlock()
			cut(nil)
		}()
		for {
			select {
			case <-ctx.Done():
				yield(docker.Event{}, context.Cause(ctx))
				return
			case ev := <-ch:
				if !yield(ev, nil) {
					return
				}
			}
		}
	}, nil
}

// List implements docker.Engine.
func (e *Engine) List(context.Context) ([]docker.Summary, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away {
		return nil, ErrAway
	}
	e.listed++
	var out []docker.Summary
	for _, c := range e.containers {
		out = append(out, docker.Summary{ID: c.ID, State: c.State})
	}
	return out, nil
}

// Inspect implements docker.Engine.
func (e *Engine) Inspect(_ context.Context, id string) (*docker.Container, error) {
	if e.InspectFault != nil {
		if err := e.InspectFault(id); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away {
		return nil, ErrAway
	}
	e.inspected++
	c, ok := e.containers[id]
	if !ok {
		return nil, docker.ErrNotFound
	}
	out := *c
	return &out, nil
}

// Exec implements docker.Engine; every command succeeds and says nothing.
func (e *Engine) Exec(_ context.Context, id string, _ []string, _ io.Writer) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away {
		return 0, ErrAway
	}
	if _, ok := e.containers[id]; !ok {
		return 0, docker.ErrNotFound
	}
	return 0, nil
}
