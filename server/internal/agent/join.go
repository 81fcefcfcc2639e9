package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
)

// startJoin joins the addresses of start_join once; it is an error when none answers.
func (a *Agent) startJoin(ctx context.Context) error {
	addrs := a.cfg().StartJoin
	if len(addrs) == 0 {
		return nil
	}
	n, err := a.pool.Join(ctx, addrs)
	if n == 0 && err != nil {
		return fmt.Errorf("start_join: no agent answered at %v: %w: is one running there, and is its gossip port open? -retry-join keeps trying", addrs, err)
	}
	a.log.Info("joined", "agents", n)
	return nil
}

// keepJoined joins the addresses of retry_join: once in any case, for whoever found this
// agent first may be as lost as it is, and again whenever it is alone or, as a server,
// without a leader. At first quickly, then every retry_interval. Names are resolved anew
// each time, so a cluster whose addresses all changed is found again.
func (a *Agent) keepJoined(ctx context.Context) error {
	cfg := a.cfg()
	if len(cfg.RetryJoin) == 0 {
		<-ctx.Done()
		return nil
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = min(500*time.Millisecond, cfg.RetryInterval)
	pause.MaxInterval = cfg.RetryInterval
	tries, joined, alone := 0, false, false
	for {
		changed := a.pool.Watch()
		wait := cfg.RetryInterval
		if !joined || !a.inCompany() || a.leaderless() {
			n, err := a.pool.Join(ctx, cfg.RetryJoin)
			wait = pause.NextBackOff()
			switch {
			case ctx.Err() != nil:
				return nil
			case n > 0:
				if !joined || alone {
					a.log.Info("joined", "agents", n)
				}
				tries, joined, alone = 0, true, false
			default:
				if tries++; cfg.RetryMax > 0 && tries >= cfg.RetryMax {
					return fmt.Errorf("retry_join: no agent answered at %v after %d tries: %w", cfg.RetryJoin, tries, err)
				}
				if !alone {
					a.log.Warn("no agent answers yet; trying on", "addrs", cfg.RetryJoin, "err", err)
				}
				alone = true
			}
			changed = nil // a try is news to oneself: keep to the pause
		} else {
			pause.Reset()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// leaderless reports whether this is a server that knows no leader: it may be in a
// company that lacks the others.
func (a *Agent) leaderless() bool {
	if a.raft == nil {
		return false
	}
	_, addr := a.raft.Leader()
	return addr == ""
}

// inCompany reports whether this agent knows whom it needs: a client a living server, a
// server any other living member.
func (a *Agent) inCompany() bool {
	self := a.pool.Local().Name
	if !a.cfg().Server {
		for _, s := range a.pool.Servers() {
			if s.Status == api.StatusAlive {
				return true
			}
		}
		return false
	}
	for _, m := range a.pool.Members() {
		if m.Name != self && m.Status == api.StatusAlive {
			return true
		}
	}
	return false
}
