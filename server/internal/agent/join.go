package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/seed"
)

// joining is how one gossip pool finds its others.
type joining struct {
	pool               *gossip.Pool
	self               string   // where it gossips itself
	startKey, retryKey string   // the settings' names
	first, retry       []string // addresses
	interval           time.Duration
	max                int         // tries of retry; 0 is no bound
	lost               func() bool // whether to join again
	log                *slog.Logger
}

// joins gives what this agent joins.
func (a *Agent) joins() []*joining {
	cfg := a.cfg()
	out := []*joining{{
		pool: a.pool, self: net.JoinHostPort(a.addr.advertise, strconv.Itoa(cfg.Ports.SerfLAN)), startKey: "start_join", retryKey: "retry_join",
		first: cfg.StartJoin, retry: cfg.RetryJoin, interval: cfg.RetryInterval, max: cfg.RetryMax,
		lost: func() bool { return !a.inCompany() || a.leaderless() }, log: a.log,
	}}
	if a.wan != nil {
		out = append(out, &joining{
			pool: a.wan, self: net.JoinHostPort(a.addr.wan, strconv.Itoa(cfg.Ports.SerfWAN)), startKey: "start_join_wan", retryKey: "retry_join_wan",
			first: cfg.StartJoinWAN, retry: cfg.RetryJoinWAN,
			interval: cfg.RetryIntervalWAN, max: cfg.RetryMaxWAN, lost: func() bool { return !a.federated() }, log: a.log.With("pool", "WAN"),
		})
	}
	return out
}

// start joins the addresses of start_join once; it is an error when none answers.
func (j *joining) start(ctx context.Context) error {
	if len(j.first) == 0 {
		return nil
	}
	n, err := j.join(ctx, j.first)
	if n == 0 && err != nil {
		return fmt.Errorf("%s: no agent answered at %v: %w: is one running there, and is its gossip port open? %s keeps trying", j.startKey, j.first, err, j.retryKey)
	}
	j.log.Info("joined", "agents", n)
	return nil
}

// keep joins the addresses of retry_join: once in any case, for whoever found this
// agent first may be as lost as it is, and again whenever it is alone or, as a server,
// without a leader. At first quickly, then every interval. Names are resolved anew
// each time, so a cluster whose addresses all changed is found again.
func (j *joining) keep(ctx context.Context) error {
	if len(j.retry) == 0 {
		<-ctx.Done()
		return nil
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = min(500*time.Millisecond, j.interval)
	pause.MaxInterval = j.interval
	tries, joined, alone := 0, false, false
	for {
		changed := j.pool.Watch()
		wait := j.interval
		if !joined || j.lost() {
			n, err := j.join(ctx, j.retry)
			wait = pause.NextBackOff()
			switch {
			case ctx.Err() != nil:
				return nil
			case n > 0:
				if !joined || alone {
					j.log.Info("joined", "agents", n)
				}
				tries, joined, alone = 0, true, false
			default:
				if tries++; j.max > 0 && tries >= j.max {
					return fmt.Errorf("%s: no agent answered at %v after %d tries: %w", j.retryKey, j.retry, tries, err)
				}
				if !alone {
					j.log.Warn("no agent answers yet; trying on", "addrs", j.retry, "err", err)
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

// federated reports whether a living server of another datacenter is known.
func (a *Agent) federated() bool {
	for _, s := range a.wan.Servers() {
		if s.Status == api.StatusAlive && s.Datacenter != a.cfg().Datacenter {
			return true
		}
	}
	return false
}

// join joins those whom entries stand for now, and gives how many answered; an error only
// where none did.
func (j *joining) join(ctx context.Context, entries []string) (int, error) {
	addrs, err := seed.Finder{Self: j.self}.Find(ctx, entries)
	if len(addrs) == 0 {
		if err == nil {
			err = errors.New("nobody else is found")
		}
		return 0, err
	}
	n, failed := j.pool.Join(ctx, addrs)
	if n > 0 {
		return n, nil
	}
	return 0, errors.Join(err, failed)
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
