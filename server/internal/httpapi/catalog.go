package httpapi

import (
	"context"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// value reads without the headers of a query: status routes have none.
func (r *request) value(ctx context.Context, kind endpoint.Kind) (*reply, error) {
	rep, err := r.read(ctx, &endpoint.Query{Kind: kind})
	if err != nil {
		return nil, err
	}
	b, err := rep.answer.JSON()
	if err != nil {
		return nil, err
	}
	return &reply{raw: b, header: map[string][]string{"Content-Type": jsonType}}, nil
}

func statusLeader(ctx context.Context, r *request) (*reply, error) {
	return r.value(ctx, endpoint.Leader)
}
func statusPeers(ctx context.Context, r *request) (*reply, error) {
	return r.value(ctx, endpoint.Peers)
}

func catalogDatacenters(ctx context.Context, r *request) (*reply, error) {
	return r.value(ctx, endpoint.Datacenters)
}

func raftConfiguration(ctx context.Context, r *request) (*reply, error) {
	return r.value(ctx, endpoint.Raft)
}

func catalogRegister(ctx context.Context, r *request) (*reply, error) {
	var in struct {
		api.Registration
		Service *api.Service
	}
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	in.Registration.Service = in.Service
	if in.Node == "" && in.ID == "" || in.Address == "" && !in.SkipNodeUpdate {
		return nil, api.Errorf(api.Invalid, "Must provide node and address")
	}
	return r.write(ctx, in.Datacenter, &command.Register{Registration: in.Registration})
}

func catalogDeregister(ctx context.Context, r *request) (*reply, error) {
	var in api.Deregistration
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Node == "" {
		return nil, api.Errorf(api.Invalid, "Must provide node")
	}
	return r.write(ctx, in.Datacenter, &command.Deregister{Deregistration: in})
}

// write commits a command and answers true, or false where a condition did not hold.
func (r *request) write(ctx context.Context, dc string, c command.Command) (*reply, error) {
	if r.opts.Datacenter != "" {
		dc = r.opts.Datacenter
	}
	res, err := r.server.cfg.Endpoint.Write(ctx, &endpoint.Write{Datacenter: dc, Token: r.opts.Token, Command: c})
	if err != nil {
		return nil, err
	}
	return outcome(res.OK, nil)
}

func catalogNodes(ctx context.Context, r *request) (*reply, error) {
	return r.read(ctx, r.discovery(&endpoint.Query{Kind: endpoint.Nodes}))
}

func catalogServices(ctx context.Context, r *request) (*reply, error) {
	return r.read(ctx, r.discovery(&endpoint.Query{Kind: endpoint.Services}))
}

// named reads what the path's tail names.
func named(kind endpoint.Kind, what string) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		name, err := r.name(what)
		if err != nil {
			return nil, err
		}
		return r.read(ctx, r.discovery(&endpoint.Query{Kind: kind, Name: name}))
	}
}

var (
	catalogService      = named(endpoint.ServiceNodes, "service name")
	catalogNode         = named(endpoint.NodeServices, "node name")
	catalogNodeServices = named(endpoint.NodeList, "node name")
	healthNode          = named(endpoint.HealthNode, "node name")
	healthChecks        = named(endpoint.HealthChecks, "service name")
)

func healthState(ctx context.Context, r *request) (*reply, error) {
	state, err := r.name("check state")
	if err != nil {
		return nil, err
	}
	return r.read(ctx, r.discovery(&endpoint.Query{Kind: endpoint.HealthState, Name: state}))
}

func healthService(ctx context.Context, r *request) (*reply, error) {
	name, err := r.name("service name")
	if err != nil {
		return nil, err
	}
	passing, err := r.query.flag("passing")
	if err != nil {
		return nil, err
	}
	return r.read(ctx, r.discovery(&endpoint.Query{Kind: endpoint.HealthService, Name: name, Passing: passing}))
}
