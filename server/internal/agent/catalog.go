package agent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/local"
)

// catalog is the endpoint as anti-entropy sees it.
type catalog struct {
	endpoint.Endpoint
	agent *Agent
	dc    string
	wrote *highest // the index of this agent's last write
}

// highest keeps the highest number that it was given.
type highest struct{ atomic.Uint64 }

func (h *highest) raise(n uint64) {
	for {
		old := h.Load()
		if n <= old || h.CompareAndSwap(old, n) {
			return
		}
	}
}

// Registered gives what the catalog has of a node.
func (c catalog) Registered(ctx context.Context, node string) (*api.Node, map[string]*api.Service, map[string]*api.Check, error) {
	stale := api.QueryOptions{Datacenter: c.dc, Token: c.agent.agentToken(), Consistency: api.Stale}
	ans, err := c.Read(ctx, &endpoint.Query{Kind: endpoint.NodeServices, Name: node, QueryOptions: stale})
	if err != nil {
		return nil, nil, nil, err
	}
	ns, err := endpoint.Into[*api.NodeServices](ans)
	if err != nil || ns == nil {
		return nil, nil, nil, err
	}
	ans, err = c.Read(ctx, &endpoint.Query{Kind: endpoint.HealthNode, Name: node, QueryOptions: stale})
	if err != nil {
		return nil, nil, nil, err
	}
	list, err := endpoint.Into[[]*api.Check](ans)
	if err != nil {
		return nil, nil, nil, err
	}
	checks := make(map[string]*api.Check, len(list))
	for _, k := range list {
		checks[k.CheckID] = k
	}
	return ns.Node, ns.Services, checks, nil
}

// Register writes a registration: as the owner of its service, or of its checks, else as
// the agent. Checks with tokens of their own go each their own way.
func (c catalog) Register(ctx context.Context, r *api.Registration) error {
	switch {
	case r.Service != nil:
		return c.register(ctx, c.agent.serviceToken(r.Service.ID), r)
	case len(r.Checks) == 0:
		return c.register(ctx, c.agent.agentToken(), r)
	}
	groups := map[string][]*api.Check{}
	for _, k := range r.Checks {
		token := c.agent.checkToken(k.CheckID)
		if k.ServiceID == "" && token == c.agent.tokens.get(defaultSlot, agentSlot) {
			token = c.agent.agentToken() // a check of the node that is nobody else's
		}
		groups[token] = append(groups[token], k)
	}
	var errs []error
	for token, checks := range groups {
		part := *r
		part.Checks = checks
		errs = append(errs, c.register(ctx, token, &part))
	}
	return errors.Join(errs...)
}

func (c catalog) register(ctx context.Context, token string, r *api.Registration) error {
	res, err := c.Write(ctx, &endpoint.Write{Datacenter: c.dc, Token: token, Command: &command.Register{Registration: *r}})
	c.noted(res)
	return c.explain(err, token)
}

// Deregister takes one away, as the agent.
func (c catalog) Deregister(ctx context.Context, d *api.Deregistration) error {
	token := c.agent.agentToken()
	res, err := c.Write(ctx, &endpoint.Write{Datacenter: c.dc, Token: token, Command: &command.Deregister{Deregistration: *d}})
	c.noted(res)
	return c.explain(err, token)
}

func (c catalog) noted(res *command.Result) {
	if res != nil {
		c.wrote.raise(res.Index)
	}
}

// explain tells of a refusal which of the agent's tokens it was about.
func (c catalog) explain(err error, token string) error {
	if api.KindOf(err) != api.Forbidden {
		return err
	}
	switch token {
	case "":
		return fmt.Errorf("%w: this agent has no token of its own: set acl.tokens.agent", err)
	case c.agent.tokens.get(agentSlot):
		return fmt.Errorf("%w: this was the agent's own token: acl.tokens.agent", err)
	case c.agent.tokens.get(defaultSlot):
		return fmt.Errorf("%w: this was the agent's default token: acl.tokens.default", err)
	case c.agent.tokens.get(fileSlot):
		return fmt.Errorf("%w: this was acl.tokens.config_file_service_registration", err)
	}
	return fmt.Errorf("%w: this was the token that the service or check was registered with", err)
}

// own is the local state as anti-entropy sees it.
type own struct {
	*local.State
	feed *local.Feed
}

// Wake gives the channel that holds a token when something changed.
func (o own) Wake() <-chan struct{} { return o.feed.Wake() }

// Take gives the ids of services and checks that changed.
func (o own) Take() (services, checks map[string]bool) {
	news := o.feed.Take()
	return news.Services, news.Checks
}
