package endpoint

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// Bounds of a session. The least TTL is configured.
const (
	maxTTL       = 24 * time.Hour
	maxLockDelay = time.Minute
)

// newSession fills in what a new session leaves open and refuses what cannot be meant.
func newSession(s *api.Session, minTTL time.Duration) error {
	if s.Node == "" {
		return api.Errorf(api.Internal, "Must provide Node")
	}
	switch s.Behavior {
	case "":
		s.Behavior = api.ReleaseKeys
	case api.ReleaseKeys, api.DeleteKeys:
	default:
		return api.Errorf(api.Internal, "Invalid Behavior setting '%s'", s.Behavior)
	}
	s.LockDelay = min(max(s.LockDelay, 0), maxLockDelay)
	if s.TTL != "" {
		ttl, err := time.ParseDuration(s.TTL)
		if err != nil {
			return api.Errorf(api.Internal, "Session TTL '%s' invalid: %v", s.TTL, err)
		}
		if ttl != 0 && (ttl < minTTL || ttl > maxTTL) {
			return api.Errorf(api.Internal, "Invalid Session TTL '%d', must be between [%v=%v]", ttl, minTTL, maxTTL)
		}
	}
	if s.ID == "" {
		s.ID = uuid.NewString()
	}
	return nil
}

// validUUID refuses an id that cannot be one, in Consul's words.
func validUUID(what, id string) error {
	switch {
	case len(id) != 36:
		return api.Errorf(api.Internal, "failed %s lookup: index error: UUID must be 36 characters", what)
	case uuid.Validate(id) != nil:
		return api.Errorf(api.Internal, "failed %s lookup: index error: %q is no UUID", what, id)
	}
	return nil
}

// renew restarts a session's TTL, which the leader counts.
func (l *Local) renew(ctx context.Context, q *Query) (*Answer, error) {
	if err := validUUID("session", q.Name); err != nil {
		return nil, err
	}
	return atLeader(ctx, l, true, func(context.Context, <-chan struct{}) (*Answer, error) {
		if err := l.mayRenew(q); err != nil {
			return nil, err
		}
		a, err := l.look(&Query{Kind: SessionInfo, Name: q.Name, QueryOptions: q.QueryOptions})
		if err != nil || a.Found {
			if err == nil && l.cfg.Renew != nil {
				l.cfg.Renew(q.Name)
			}
			return a, err
		}
		why := ""
		if e := l.cfg.Store.State().SessionEnd(q.Name); e != nil {
			why = ": it has ended: " + e.Reason
		}
		return nil, api.Errorf(api.NotFound, "Session id '%s' not found%s", q.Name, why)
	}, func(ctx context.Context, leader Endpoint) (*Answer, error) { return leader.Read(ctx, q) })
}

// began has the leader count the TTL of a session that a write has begun.
func (l *Local) began(c command.Command) {
	if s, ok := c.(*command.CreateSession); ok && l.cfg.Renew != nil {
		l.cfg.Renew(s.ID)
	}
}

func sessions(rows ...*store.Session) *Answer {
	if len(rows) == 1 && rows[0] == nil {
		rows = nil
	}
	out := make([]*api.Session, len(rows))
	for i, s := range rows {
		out[i] = &s.Session
	}
	return &Answer{Found: len(rows) > 0, Value: out, body: &body{encode: func() ([]byte, error) { return join(rows), nil }}}
}
