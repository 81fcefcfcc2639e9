package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/registrator/internal/mapping"
)

// errRefused is an answer of the fake agent; errGone is none.
var (
	errRefused = errors.New("500: refused")
	errGone    = errors.New("connection refused")
)

// agent is a catalog in memory.
type agent struct {
	mu       sync.Mutex
	services map[string]Registered
	away     bool
	refuse   map[string]bool // ids
	forgets  bool            // a registration drops the outputs of its checks
	silent   bool            // no outputs are kept
	writes   []string
	seen     []string // what has gave after each write
	most     int      // writes at once
	now      int
	slow     time.Duration
}

var _ Catalog = (*agent)(nil)

func newAgent() *agent { return &agent{services: map[string]Registered{}, refuse: map[string]bool{}} }

func (a *agent) IsAnswer(err error) bool { return errors.Is(err, errRefused) }

func (a *agent) Read(context.Context) (Reading, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return Reading{}, errGone
	}
	out := Reading{NodeAddress: "10.0.0.5", Services: map[string]Registered{}}
	for id, s := range a.services {
		s.Checks = maps.Clone(s.Checks)
		out.Services[id] = s
	}
	return out, nil
}

func (a *agent) Hash(_ context.Context, id string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return "", errGone
	}
	return a.services[id].Hash, nil
}

// write runs one write, as slow and as refusing as the test says.
func (a *agent) write(ctx context.Context, id, what string, f func() error) error {
	a.mu.Lock()
	a.now++
	a.most = max(a.most, a.now)
	slow := a.slow
	a.mu.Unlock()
	if slow > 0 {
		t := time.NewTimer(slow)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now--
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if a.away {
		return errGone
	}
	if a.refuse[id] {
		return errRefused
	}
	a.writes = append(a.writes, what+" "+id)
	err := f()
	a.seen = append(a.seen, a.list())
	return err
}

func (a *agent) Register(ctx context.Context, s *mapping.Service) error {
	return a.write(ctx, s.ID, "register", func() error {
		n := Registered{Owner: s.Meta[mapping.MetaOwner], Container: s.Meta[mapping.MetaContainer], Hash: s.Hash, Address: s.Address, Port: s.Port,
			Checks: maps.Clone(a.services[s.ID].Checks), Maintenance: a.services[s.ID].Maintenance, Reason: a.services[s.ID].Reason}
		if n.Checks == nil {
			n.Checks = map[string]Check{}
		}
		for id, c := range n.Checks {
			if a.forgets {
				n.Checks[id] = Check{Status: c.Status}
			}
		}
		for _, c := range s.Checks {
			if _, ok := n.Checks[c.CheckID]; !ok {
				n.Checks[c.CheckID] = Check{Status: c.Status}
			}
		}
		a.services[s.ID] = n
		return nil
	})
}

func (a *agent) Deregister(ctx context.Context, id, _ string) error {
	return a.write(ctx, id, "deregister", func() error { delete(a.services, id); return nil })
}

func (a *agent) SetCheck(ctx context.Context, id, status, output, _ string) error {
	return a.write(ctx, id, "check", func() error {
		if a.silent {
			output = ""
		}
		for _, s := range a.services {
			if _, ok := s.Checks[id]; ok {
				s.Checks[id] = Check{status, output}
				return nil
			}
		}
		return errRefused // unknown check
	})
}

func (a *agent) DropCheck(ctx context.Context, id, _ string) error {
	return a.write(ctx, id, "drop", func() error {
		for _, s := range a.services {
			delete(s.Checks, id)
		}
		return nil
	})
}

func (a *agent) Maintain(ctx context.Context, id, reason, _ string) error {
	return a.write(ctx, id, "maintain", func() error {
		s, ok := a.services[id]
		if !ok {
			return errRefused
		}
		s.Maintenance, s.Reason = reason != "", reason
		a.services[id] = s
		return nil
	})
}

func (a *agent) do(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// took gives the writes since the last call, sorted.
func (a *agent) took() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.writes
	a.writes = nil
	slices.Sort(w)
	return strings.Join(w, ", ")
}

// has gives what is registered: "id@port", with the states that matter.
func (a *agent) has() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list()
}

func (a *agent) list() string {
	var out []string
	for id, s := range a.services {
		line := fmt.Sprintf("%s@%d", id, s.Port)
		if s.Maintenance {
			line += "(out)"
		}
		if c, ok := s.Checks["docker:"+id]; ok {
			line += "(" + c.Status + ")"
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
