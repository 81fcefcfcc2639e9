package consensus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// IsLeader reports whether this server leads and has applied everything that was
// committed before it did.
func (r *Raft) IsLeader() bool {
	return r.raft.State() == raft.Leader && r.ready.Load() == r.raft.CurrentTerm() && !r.disk.isStalled()
}

// Leader gives id and address of the leader as far as this server knows, empty if
// there is none. One whose disk stalls is none.
func (r *Raft) Leader() (id, addr string) {
	a, i := r.raft.LeaderWithID()
	if string(i) == r.cfg.ID && r.disk.isStalled() {
		return "", ""
	}
	return string(i), string(a)
}

// Others gives the addresses of the other servers while this one cannot know who leads: Raft
// waits for its disk, and takes nothing in. Otherwise nil.
func (r *Raft) Others() []string {
	if !r.disk.isStalled() {
		return nil
	}
	var out []string
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		if string(s.ID) != r.cfg.ID {
			out = append(out, r.addressOf(s))
		}
	}
	return out
}

// Watch gives a channel that is closed when IsLeader or Leader may next answer
// otherwise. Take it before looking, or a change between the two is missed.
func (r *Raft) Watch() <-chan struct{} { return r.changed.watch() }

// VerifyLeader asks a quorum whether this server still leads; ErrNotLeader if not.
func (r *Raft) VerifyLeader(ctx context.Context) error {
	if err := r.disk.refusal(); errors.Is(err, ErrFull) && r.IsLeader() {
		return nil // alone, it needs nobody to confirm it, and Raft waits for the disk
	}
	ctx, done := r.disk.whileWriting(ctx)
	defer done()
	err := r.await(ctx, func() error {
		if err := r.raft.VerifyLeader().Error(); err != nil {
			return ErrNotLeader // whatever the reason: leadership is not proven
		}
		return nil
	})
	if err == nil && !r.IsLeader() {
		return ErrNotLeader
	}
	return err
}

// LastContact is how long ago this server heard from a leader: 0 on the leader, and
// hundreds of years where it never did.
func (r *Raft) LastContact() time.Duration {
	if r.raft.State() == raft.Leader && !r.disk.isStalled() {
		return 0
	}
	return time.Since(r.raft.LastContact())
}

// follow keeps ready and the watch up to date until ctx ends, or the log proves damaged.
func (r *Raft) follow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-r.fsm.damaged:
			return err
		case <-r.observed:
			if id, addr := r.Leader(); id != "" && id != r.cfg.ID {
				r.log.Info("leader found", "leader", id, "addr", addr)
			}
		case leading := <-r.raft.LeaderCh():
			if leading {
				r.establish()
			} else {
				r.log.Warn("leadership lost")
			}
		}
		r.changed.notify()
	}
}

// establish waits until everything committed under earlier leaders is applied here.
// It returns once that is so or leadership is lost, which a leader without a quorum
// notices within its lease. Where leadership is lost and won again meanwhile, the
// term does not fit and LeaderCh calls again.
func (r *Raft) establish() {
	term := r.raft.CurrentTerm()
	if err := r.raft.Barrier(0).Error(); err != nil {
		r.log.Warn("leadership lost before it was established", "term", term, "err", err)
		return
	}
	r.ready.Store(term)
	r.log.Info("leader elected", "leader", r.cfg.ID, "term", term)
}

// aloneIn reports whether this server is the only voter of c.
func (r *Raft) aloneIn(c raft.Configuration) bool {
	voters := 0
	alone := false
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			voters++
			alone = s.ID == raft.ServerID(r.cfg.ID)
		}
	}
	return alone && voters == 1
}

// campaign makes a follower that knows of no leader stand for election now, instead of
// after a timeout that would tell it nothing: it is alone, or the cluster is new. Raft
// looks at its timer at once when the timeout is lowered, so it is raised and lowered
// by the least amount.
func (r *Raft) campaign() {
	rc := r.raft.ReloadableConfig()
	normal := rc
	rc.HeartbeatTimeout++
	rc.ElectionTimeout++ // may not be below the heartbeat
	for _, c := range []raft.ReloadableConfig{rc, normal} {
		if err := r.raft.ReloadConfig(c); err != nil {
			r.log.Debug("election not hastened", "err", err)
			return
		}
	}
}

func isLeaderObservation(o *raft.Observation) bool {
	_, ok := o.Data.(raft.LeaderObservation)
	return ok
}

// signal tells any number of watchers that something changed.
type signal struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; closed at the next change; nil if nobody watches
}

func (s *signal) watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
