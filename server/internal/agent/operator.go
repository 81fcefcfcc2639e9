package agent

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/event"
	"github.com/rollcall/rollcall/server/internal/gossip"
)

// operator is what the HTTP API asks about operating the cluster.
type operator struct{ a *Agent }

// Keyring has the members of all gossip pools do what c says: a server asks them.
func (d operator) Keyring(ctx context.Context, token string, c *command.Keyring) ([]*api.KeyringAnswer, error) {
	res, err := d.a.endpoint.Write(ctx, &endpoint.Write{Token: token, Command: c})
	if err != nil {
		return nil, err
	}
	return res.Keyring, nil
}

// gossiping is what this server may have its pools do.
type gossiping struct{ a *Agent }

// Fire sends an event to all agents of this datacenter.
func (g gossiping) Fire(e *api.UserEvent) error {
	if err := event.Check(e); err != nil {
		return err
	}
	return g.a.pool.Fire(e)
}

// Keyring asks the pool between datacenters, this datacenter's, and servers of the others
// for theirs. All are asked, whatever goes wrong with some.
func (g gossiping) Keyring(ctx context.Context, token string, c *command.Keyring) ([]*api.KeyringAnswer, error) {
	asks := []func() ([]*api.KeyringAnswer, error){}
	in := func(p *gossip.Pool) func() ([]*api.KeyringAnswer, error) {
		return func() ([]*api.KeyringAnswer, error) {
			a, err := p.Keys(gossip.KeyOp(c.Do), c.Key, c.Relay)
			return []*api.KeyringAnswer{a}, err
		}
	}
	if g.a.wan != nil && !c.Here {
		asks = append(asks, in(g.a.wan))
	}
	asks = append(asks, in(g.a.pool))
	if !c.Here {
		for _, dc := range g.a.otherDatacenters() {
			there := *c
			there.Here = true
			asks = append(asks, func() ([]*api.KeyringAnswer, error) {
				ep := g.a.elsewhere(dc)
				if ep == nil { // it left a moment ago
					return nil, nil
				}
				res, err := ep.Write(ctx, &endpoint.Write{Datacenter: dc, Token: token, Command: &there})
				if err != nil {
					return nil, err
				}
				return res.Keyring, nil
			})
		}
	}
	answers, errs := make([][]*api.KeyringAnswer, len(asks)), make([]error, len(asks))
	var asking sync.WaitGroup
	for i, ask := range asks {
		asking.Go(func() { answers[i], errs[i] = ask() })
	}
	asking.Wait()
	var texts []string
	kind := api.Internal
	for _, err := range errs {
		if err != nil {
			kind = api.KindOf(err)
			texts = append(texts, err.Error())
		}
	}
	if len(texts) > 0 {
		return nil, api.Errorf(kind, "%s", strings.Join(texts, "; "))
	}
	return slices.Concat(answers...), nil
}

// firstAutopilot is what a new cluster begins with.
func firstAutopilot(c *config.Autopilot) api.AutopilotConfig {
	out := api.DefaultAutopilot()
	out.CleanupDeadServers = *c.CleanupDeadServers
	out.LastContactThreshold, out.ServerStabilizationTime = api.Duration(c.LastContact), api.Duration(c.Stabilization)
	out.MaxTrailingLogs, out.MinQuorum = uint64(c.MaxTrailingLogs), uint(c.MinQuorum)
	return out
}

// standingOf asks the server at an RPC address where its log stands.
func (a *Agent) standingOf(ctx context.Context, addr string) (*api.RaftStats, error) {
	ans, err := a.rpcs.At(addr).Read(ctx, &endpoint.Query{Kind: endpoint.RaftStanding, QueryOptions: api.QueryOptions{Consistency: api.Stale}})
	if err != nil {
		return nil, err
	}
	return endpoint.Into[*api.RaftStats](ans)
}
