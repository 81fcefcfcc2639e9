package httpapi

import (
	"context"
	"net/http"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// coordinates refuses where this agent has none.
func coordinates(h handler) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		if r.server.cfg.NoCoordinates {
			return nil, api.Errorf(api.Unauthorized, "Coordinate support disabled")
		}
		return h(ctx, r)
	}
}

func coordinateNodes(ctx context.Context, r *request) (*reply, error) {
	rep, err := r.read(ctx, &endpoint.Query{Kind: endpoint.CoordinateNodes})
	if err == nil {
		rep.meta = indexMeta
	}
	return rep, err
}

func coordinateNode(ctx context.Context, r *request) (*reply, error) {
	rep, err := r.read(ctx, &endpoint.Query{Kind: endpoint.CoordinateNode, Name: r.tail})
	if err != nil {
		return nil, err
	}
	rep.meta = indexMeta
	if !rep.answer.Found { // with the headers of the answer, so that one can wait for it
		h := http.Header{}
		setMeta(h, rep.answer, indexMeta)
		return &reply{status: http.StatusNotFound, header: h}, nil
	}
	return rep, nil
}

func coordinateUpdate(ctx context.Context, r *request) (*reply, error) {
	var in api.CoordinateEntry
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if _, err := r.write(ctx, "", &command.Places{Entries: []*api.CoordinateEntry{&in}}); err != nil {
		return nil, err
	}
	return nil, nil
}

// near is whom to sort by the distance from: a node, or the agent that is asked. From
// another datacenter's nodes there is no distance to this agent.
func (r *request) near() string {
	node := r.query.get("near")
	if node != endpoint.NearAgent {
		return node
	}
	if dc := r.opts.Datacenter; dc != "" && dc != r.server.cfg.Datacenter {
		return ""
	}
	return r.server.cfg.Node
}
