package httpapi

import (
	"context"
	"net/http"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// ui reads what pages show.
func ui(kind endpoint.Kind) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		rep, err := r.read(ctx, r.discovery(&endpoint.Query{Kind: kind}))
		if err == nil {
			rep.meta = indexMeta
		}
		return rep, err
	}
}

// uiNode reads one node, which is answered as an object; 404 if there is none.
func uiNode(ctx context.Context, r *request) (*reply, error) {
	name, err := r.name("node name")
	if err != nil {
		return nil, err
	}
	rep, err := r.read(ctx, &endpoint.Query{Kind: endpoint.UINode, Name: name})
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	setMeta(h, rep.answer, indexMeta)
	list, err := endpoint.Into[[]*api.NodeInfo](rep.answer)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return &reply{status: http.StatusNotFound, header: h}, nil
	}
	return &reply{value: list[0], header: h}, nil
}
