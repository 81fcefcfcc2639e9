package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// clusterStatus reads what the cluster says of itself: no query, so without a query's headers.
func clusterStatus(kind endpoint.Kind) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		r.opts.MinIndex = 0 // there is nothing to wait for
		rep, err := r.read(ctx, &endpoint.Query{Kind: kind})
		if err != nil {
			return nil, err
		}
		rep.meta = noMeta
		return rep, nil
	}
}

// everywhere is clusterStatus for what is not of one datacenter.
func everywhere(kind endpoint.Kind) handler {
	ask := clusterStatus(kind)
	return func(ctx context.Context, r *request) (*reply, error) {
		r.opts.Datacenter = ""
		return ask(ctx, r)
	}
}

func catalogRegister(ctx context.Context, r *request) (*reply, error) {
	var in api.Registration
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	return r.past(ctx, in.Datacenter, in.Node, &command.Register{Registration: in})
}

func catalogDeregister(ctx context.Context, r *request) (*reply, error) {
	var in api.Deregistration
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	return r.past(ctx, in.Datacenter, in.Node, &command.Deregister{Deregistration: in})
}

// past writes to the catalog past a node's agent. Where there is one, a header says that
// the write will not last.
func (r *request) past(ctx context.Context, dc, node string, c command.Command) (*reply, error) {
	res, err := r.commit(ctx, dc, c)
	if err != nil {
		return nil, err
	}
	rep := &reply{value: res.OK}
	if res.Kept {
		rep.header = http.Header{"X-Rollcall-Warning": {fmt.Sprintf("node %q has an agent, which puts its own services and checks back; register and deregister with that agent instead", node)}}
	}
	return rep, nil
}

// write commits a command and answers true, or false where a condition did not hold.
// The endpoint says what is wrong with one.
func (r *request) write(ctx context.Context, dc string, c command.Command) (*reply, error) {
	res, err := r.commit(ctx, dc, c)
	if err != nil {
		return nil, err
	}
	return &reply{value: res.OK}, nil
}

// commit carries out a command; dc is where, if the query does not say.
func (r *request) commit(ctx context.Context, dc string, c command.Command) (*command.Result, error) {
	if r.opts.Datacenter != "" {
		dc = r.opts.Datacenter
	}
	return r.server.cfg.Endpoint.Write(ctx, &endpoint.Write{Datacenter: dc, Token: r.opts.Token, Command: c})
}

// listed reads a whole table.
func listed(kind endpoint.Kind) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		return r.read(ctx, r.discovery(&endpoint.Query{Kind: kind}))
	}
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

func healthService(ctx context.Context, r *request) (*reply, error) {
	name, err := r.name("service name")
	if err != nil {
		return nil, err
	}
	passing, err := r.query.flag("passing")
	if err != nil {
		return nil, err
	}
	r.asked.Kind, r.asked.Name, r.asked.Passing = endpoint.HealthService, name, passing
	return r.read(ctx, r.discovery(&r.asked))
}
