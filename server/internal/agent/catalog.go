package agent

import (
	"context"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// catalog is the endpoint as anti-entropy sees it.
type catalog struct {
	endpoint.Endpoint
	dc string
}

// Registered gives what the catalog has of a node.
func (c catalog) Registered(ctx context.Context, node string) (*api.Node, map[string]*api.Service, map[string]*api.Check, error) {
	stale := api.QueryOptions{Datacenter: c.dc, Consistency: api.Stale}
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

// Register writes a registration.
func (c catalog) Register(ctx context.Context, r *api.Registration) error {
	_, err := c.Write(ctx, &endpoint.Write{Datacenter: c.dc, Command: &command.Register{Registration: *r}})
	return err
}

// Deregister takes one away.
func (c catalog) Deregister(ctx context.Context, d *api.Deregistration) error {
	_, err := c.Write(ctx, &endpoint.Write{Datacenter: c.dc, Command: &command.Deregister{Deregistration: *d}})
	return err
}
