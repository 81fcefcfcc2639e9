package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/delay"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

const (
	strangersWait  = 10 * time.Minute       // each blocking read, if the servers' limit is not lower
	strangersPause = 500 * time.Millisecond // between two looks, so that a storm costs little
	// strangersGrace is for whoever registers by the catalog what is to be looked at for a
	// moment only, as tests written for Consul do, which takes a minute or two.
	strangersGrace = 3 * time.Second
)

// watchStrangers has this node's entries in the catalog compared with the local ones when
// somebody else changed them: an edit by hand, a restored snapshot, a leader that took the
// node for dead. Without it, they would stay wrong until the next full round.
func (a *Agent) watchStrangers(ctx context.Context, ep endpoint.Endpoint, wrote *highest) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, 30*time.Second
	patience := min(strangersWait, a.cfg().MaxQueryTime)
	look := func(index uint64) (uint64, error) {
		ans, err := ep.Read(ctx, &endpoint.Query{Kind: endpoint.NodeAge, Name: a.cfg().NodeName, QueryOptions: api.QueryOptions{
			Token: a.agentToken(), Consistency: api.Stale, MinIndex: index, MaxWait: patience,
		}})
		if err != nil {
			return 0, err
		}
		return ans.Meta.Index, nil
	}
	var index, settled uint64 // settled is the last write that was looked after
	for {
		// A read that blocks does not tell that the index went back while nobody looked, so
		// each round begins with one that does not.
		now, err := look(0)
		// What was there may be the same again, without what this agent wrote since: a snapshot
		// was restored while nobody looked. (Or a follower lags, or the write changed nothing:
		// then one comparison too many is made.)
		lost := err == nil && now < wrote.Load() && settled != wrote.Load()
		strange := lost || err == nil && foreign(index, now, wrote.Load(), false)
		if err == nil && !strange {
			index = now
			began := time.Now()
			now, err = look(index)
			strange = err == nil && foreign(index, now, wrote.Load(), time.Since(began) < patience)
		}
		wait := strangersPause + rand.N(strangersPause)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			index, wait = 0, pause.NextBackOff() // anti-entropy says what is wrong
		default:
			pause.Reset()
			index = now
		}
		if strange {
			a.log.Debug("somebody else changed this node in the catalog; comparing soon", "index", now)
			if !delay.For(ctx, strangersGrace) {
				return nil
			}
			settled = wrote.Load()
			a.syncer.Trigger()
		}
		if !delay.For(ctx, wait) {
			return nil
		}
	}
}

// foreign reports whether an answer shows a change that this agent did not make: an index
// beyond its last write; one that went back, or an answer without a new index that came
// early, as after a restore.
func foreign(before, after, wrote uint64, early bool) bool {
	switch {
	case before == 0: // the first look: the agent has just compared everything
		return false
	case after > before:
		return after > wrote
	}
	return after < before || early
}
