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

// keepJoined joins the addresses of retry_join whenever this agent is alone, for a client
// also when it knows no living server: at first quickly, then every retry_interval. Names
// are resolved anew each time, so a cluster whose addresses all changed is found again.
func (a *Agent) keepJoined(ctx context.Context) error {
	cfg := a.cfg()
	if len(cfg.RetryJoin) == 0 {
		<-ctx.Done()
		return nil
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = min(500*time.Millisecond, cfg.RetryInterval)
	pause.MaxInterval = cfg.RetryInterval
	tries, alone := 0, false
	for {
		changed := a.pool.Watch()
		wait := cfg.RetryInterval
		if !a.inCompany() {
			n, err := a.pool.Join(ctx, cfg.RetryJoin)
			tries++
			switch {
			case ctx.Err() != nil:
				return nil
			case n > 0:
				a.log.Info("joined", "agents", n)
				pause.Reset()
				tries, alone = 0, false
			case cfg.RetryMax > 0 && tries >= cfg.RetryMax:
				return fmt.Errorf("retry_join: no agent answered at %v after %d tries: %w", cfg.RetryJoin, tries, err)
			default:
				if !alone {
					a.log.Warn("no agent answers yet; trying on", "addrs", cfg.RetryJoin, "err", err)
				}
				alone = true
				wait = pause.NextBackOff()
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-changed:
			if alone { // our own news: keep to the pause
				select {
				case <-ctx.Done():
				case <-timer.C:
				}
			}
		case <-timer.C:
		}
		timer.Stop()
	}
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
