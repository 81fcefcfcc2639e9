package leader

import (
	"context"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// ttlFactor: a session lives for twice its TTL after it was last renewed, so that a
// holder that renews each TTL has time to spare.
const ttlFactor = 2

// Sessions ends sessions that nobody renewed. Only the leader counts, and a new leader
// begins to count anew: nobody loses a lock because leadership moved.
type Sessions struct {
	mu     sync.Mutex
	lead   *term                 // nil unless leading; guarded by mu
	timers map[string]*countdown // by session; guarded by mu
}

type countdown struct{ *time.Timer }

// term is one time of leading.
type term struct {
	ctx   context.Context
	store *store.Store
	end   func(ctx context.Context, c command.Command) error
	warn  func(msg string, args ...any)
}

// NewSessions makes a counter that counts nothing yet.
func NewSessions() *Sessions { return &Sessions{timers: map[string]*countdown{}} }

// Renew begins a session's time anew; of one without a TTL, or while another server
// leads, it does nothing.
func (s *Sessions) Renew(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lead == nil {
		return
	}
	row, _ := s.lead.store.State().Session(id)
	if row == nil {
		return
	}
	if ttl := ttlOf(&row.Session); ttl > 0 {
		s.arm(id, ttl)
	}
}

func ttlOf(s *api.Session) time.Duration {
	d, err := time.ParseDuration(s.TTL)
	if err != nil { // "" too; others were refused
		return 0
	}
	return ttlFactor * d
}

// arm is called with mu held.
func (s *Sessions) arm(id string, after time.Duration) {
	if t := s.timers[id]; t != nil {
		t.Stop()
	}
	lead, c := s.lead, &countdown{}
	c.Timer = time.AfterFunc(after, func() { s.expire(lead, id, c) })
	s.timers[id] = c
}

// expire ends a session whose time is over; if that fails it tries again.
func (s *Sessions) expire(lead *term, id string, c *countdown) {
	s.mu.Lock()
	if s.lead != lead || s.timers[id] != c { // renewed, or no longer ours to count
		s.mu.Unlock()
		return
	}
	delete(s.timers, id)
	row, _ := lead.store.State().Session(id)
	s.mu.Unlock()
	if row == nil {
		return
	}
	err := lead.end(lead.ctx, &command.EndSession{ID: id, Reason: "not renewed within twice its TTL of " + row.TTL})
	if err == nil || lead.ctx.Err() != nil {
		return
	}
	lead.warn("session not ended", "session", id, "err", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lead == lead && s.timers[id] == nil {
		s.arm(id, retryAfter)
	}
}

// count counts all sessions that have a TTL until ctx ends.
func (s *Sessions) count(lead *term) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lead = lead
	s.armAll()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.lead != lead {
			return
		}
		s.lead = nil
		for id, t := range s.timers {
			t.Stop()
			delete(s.timers, id)
		}
	}
}

// armAll begins the time of every session that has none yet. Called with mu held.
func (s *Sessions) armAll() {
	rows, _ := s.lead.store.State().Sessions()
	for _, row := range rows {
		if ttl := ttlOf(&row.Session); ttl > 0 && s.timers[row.ID] == nil {
			s.arm(row.ID, ttl)
		}
	}
}

// restored takes in the sessions that came with another state.
func (s *Sessions) restored() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lead != nil {
		s.armAll()
	}
}

// tellEnds logs why sessions end, until ctx ends. After a restore it has the sessions that
// came with it counted, and says so on restored.
func (l *Leader) tellEnds(ctx context.Context, restored chan<- struct{}) {
	told := l.store.State().Index()
	for {
		watch := l.store.Watch(store.TopicSessions())
		for _, e := range l.store.State().SessionEnds(told) {
			l.log.Info("session ended", "session", e.ID, "node", e.Node, "reason", e.Reason)
			told = max(told, e.Index)
		}
		select {
		case <-ctx.Done():
			watch.Stop()
			return
		case <-watch.C:
			if watch.Restored() {
				told = l.store.State().Index()
				if l.cfg.Sessions != nil {
					l.cfg.Sessions.restored()
				}
				select {
				case restored <- struct{}{}:
				default:
				}
			}
		}
	}
}
