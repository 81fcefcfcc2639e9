package watchplan

import (
	"context"
	"log/slog"
	"sync"
)

// Set runs watches that may be replaced while it runs.
type Set struct {
	do  Doer
	log *slog.Logger

	mu      sync.Mutex
	wanted  map[string]Entry // guarded by mu
	changed chan struct{}    // 1: Run looks again
}

// Entry is a watch with its handler.
type Entry struct {
	Query  Query
	Handle Handler
}

// NewSet makes a set without watches.
func NewSet(do Doer, log *slog.Logger) *Set {
	return &Set{do: do, log: log, changed: make(chan struct{}, 1)}
}

// Replace says which watches run, by a key that names all there is to say of one: a watch
// whose key was there before goes on undisturbed.
func (s *Set) Replace(wanted map[string]Entry) {
	s.mu.Lock()
	s.wanted = wanted
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run runs the watches until ctx ends, and returns when all have ended. A watch that is
// not wanted any more has ended, its handler with it, before new ones begin.
func (s *Set) Run(ctx context.Context) error {
	type running struct {
		stop context.CancelFunc
		done chan struct{}
	}
	all := map[string]running{}
	end := func(keep map[string]Entry) {
		for key, r := range all {
			if _, ok := keep[key]; !ok {
				r.stop()
			}
		}
		for key, r := range all {
			if _, ok := keep[key]; !ok {
				<-r.done
				delete(all, key)
			}
		}
	}
	defer end(nil)
	for {
		s.mu.Lock()
		wanted := s.wanted
		s.mu.Unlock()
		end(wanted)
		for key, e := range wanted {
			if _, ok := all[key]; ok {
				continue
			}
			ctx, stop := context.WithCancel(ctx)
			r := running{stop, make(chan struct{})}
			all[key] = r
			go func() {
				defer close(r.done)
				Watch(ctx, s.do, e.Query, e.Handle, s.log)
			}()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		}
	}
}
