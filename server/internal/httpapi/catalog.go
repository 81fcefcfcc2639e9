package httpapi

import (
	"context"

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

func catalogRegister(ctx context.Context, r *request) (*reply, error) {
	var in api.Registration
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	return r.write(ctx, in.Datacenter, &command.Register{Registration: in})
}

func catalogDeregister(ctx context.Context, r *request) (*reply, error) {
	var in api.Deregistration
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	return r.write(ctx, in.Datacenter, &command.Deregister{Deregistration: in})
}

// write commits a command and answers true, or false where a condition did not hold.
// The endpoint says what is wrong with one.
func (r *request) write(ctx context.Context, dc string, c command.Command) (*reply, error) {
	if r.opts.Datacenter != "" {
		dc = r.opts.Datacenter
	}
	res, err := r.server.cfg.Endpoint.Write(ctx, &endpoint.Write{Datacenter: dc, Token: r.opts.Token, Command: c})
	if err != nil {
		return nil, err
	}
	return &reply{value: res.OK}, nil
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
	return r.read(ctx, r.discovery(&endpoint.Query{Kind: endpoint.HealthService, Name: name, Passing: passing}))
}

// coordinateNodes says that no node has coordinates. They never change, so whoever
// waits for a change waits for as long as it may.
func coordinateNodes(ctx context.Context, r *request) (*reply, error) {
	if r.opts.MinIndex > 0 {
		over, cancel := r.patience(ctx)
		defer cancel()
		<-over.Done()
		if err := ended(over); err != nil {
			return nil, err
		}
	}
	answer := &endpoint.Answer{Found: true, Value: []any{}, Meta: api.QueryMeta{Index: 1, KnownLeader: true}}
	return &reply{answer: answer, meta: indexMeta}, nil
}
