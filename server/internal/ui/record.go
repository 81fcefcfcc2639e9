package ui

import (
	"context"
	"time"

	"github.com/rollcall/rollcall/internal/announce"
	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/delay"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

const (
	leaderWait  = 5 * time.Minute // at most, for another leader
	leaderAgain = time.Second     // after a look that failed or told nothing new
)

// standing is whether the cluster has a leader, as this agent sees it.
type standing struct {
	Leader string    // address, "" without one
	Since  time.Time // when that was first seen
	Known  bool      // false before the first look
}

// record writes down what changes, until ctx ends. It looks with this agent's own token,
// and shares the read with every page that has the same.
func (u *UI) record(ctx context.Context) {
	token := u.cfg.OwnToken()
	f, release, err := u.hub.use(ctx, topic{kind: endpoint.UINodes, token: token})
	if err != nil {
		return
	}
	defer func() { release() }()
	suiteFeed, releaseSuite, err := u.hub.use(ctx, topic{kind: endpoint.KVList, name: announce.Prefix, token: token})
	if err != nil {
		return
	}
	defer func() { releaseSuite() }()
	minute := time.NewTicker(slotTime / 4)
	defer minute.Stop()
	var last *catalog
	var told suite
	for {
		s, moved := f.now()
		if now, ok := s.value.(*catalog); ok && now != last {
			if last != nil {
				u.timeline.add(diff(last, now, s.at)...)
			}
			last = now
			u.timeline.note(now, time.Now())
		}
		a, announced := suiteFeed.now()
		if now, ok := a.value.(suite); ok {
			if told != nil {
				u.timeline.add(now.news(told, time.Now())...)
			}
			told = now
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		case <-announced:
		case <-minute.C:
			if last != nil {
				u.timeline.note(last, time.Now())
			}
			if own := u.cfg.OwnToken(); own != token { // it sees more or less: that is no change of the catalog
				token, last, told = own, nil, nil
				next, done, err := u.hub.use(ctx, topic{kind: endpoint.UINodes, token: token})
				if err != nil {
					return
				}
				nextSuite, doneSuite, err := u.hub.use(ctx, topic{kind: endpoint.KVList, name: announce.Prefix, token: token})
				if err != nil {
					done()
					return
				}
				release()
				releaseSuite()
				f, release, suiteFeed, releaseSuite = next, done, nextSuite, doneSuite
			}
		}
	}
}

// watchLeader follows who leads, until ctx ends: each look waits for another leader than
// the one that is known.
func (u *UI) watchLeader(ctx context.Context) {
	for {
		was := u.standing.Load()
		leader, err := u.lookLeader(ctx, was)
		if ctx.Err() != nil {
			return
		}
		changed := !was.Known || was.Leader != leader
		if changed {
			u.standing.Store(&standing{Leader: leader, Since: time.Now(), Known: true})
			if was.Known {
				e := &event{Kind: led, At: time.Now(), Status: api.Passing, Node: leader}
				if leader == "" {
					e.Status, e.Cause = api.Critical, "writes are refused, reads may be old"
				} else {
					e.Cause = "raft elected it"
				}
				u.timeline.add(e)
			}
			u.bell.ring()
		}
		// a server of before this kind of wait answers at once
		if (err != nil || !changed) && !delay.For(ctx, leaderAgain) {
			return
		}
	}
}

// lookLeader gives the leader's address, "" if there is none or nobody knows, with the
// error. It waits while the leader is the one that was known.
func (u *UI) lookLeader(ctx context.Context, was *standing) (string, error) {
	q := &endpoint.Query{Kind: endpoint.Leader, QueryOptions: api.QueryOptions{Consistency: api.Stale}}
	if was.Known {
		q.Args = map[string]string{endpoint.ArgKnown: was.Leader}
		q.MinIndex, q.MaxWait = 1, leaderWait
	}
	ans, err := u.cfg.Endpoint.Read(ctx, q)
	if err != nil {
		return "", err
	}
	return endpoint.Into[string](ans)
}
