package httpapi

import (
	"context"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// defaultLockDelay is how long a key stays free after its holder's end, where the
// session does not say.
const defaultLockDelay = 15 * time.Second

func sessionCreate(ctx context.Context, r *request) (*reply, error) {
	def := api.SessionDefinition{}
	if r.ContentLength != 0 {
		if err := r.decode(&def); err != nil {
			return nil, err
		}
	}
	s := api.Session{
		Name: def.Name, Node: def.Node, LockDelay: defaultLockDelay, Behavior: def.Behavior, TTL: def.TTL,
		NodeChecks: def.NodeChecks, ServiceChecks: def.ServiceChecks,
	}
	if s.Node == "" {
		s.Node = r.server.cfg.Node
	}
	if def.LockDelay != nil {
		s.LockDelay = time.Duration(*def.LockDelay)
	}
	switch {
	case def.Checks != nil:
		s.NodeChecks = append(s.NodeChecks, def.Checks...)
	case def.NodeChecks == nil:
		s.NodeChecks = []string{api.SerfHealth}
	}
	res, err := r.commit(ctx, "", &command.CreateSession{Session: s})
	if err != nil {
		return nil, err
	}
	return &reply{value: struct{ ID string }{res.ID}}, nil
}

func sessionDestroy(ctx context.Context, r *request) (*reply, error) {
	if r.tail == "" {
		return nil, api.Errorf(api.Invalid, "Missing session")
	}
	return r.write(ctx, "", &command.EndSession{ID: r.tail, Reason: "ended by a request from " + r.RemoteAddr})
}

func sessionRenew(ctx context.Context, r *request) (*reply, error) {
	if r.tail == "" {
		return nil, api.Errorf(api.Invalid, "Missing session")
	}
	rep, err := r.read(ctx, &endpoint.Query{Kind: endpoint.SessionRenew, Name: r.tail})
	if err == nil {
		rep.meta = noMeta
	}
	return rep, err
}

// sessionsOf lists sessions: without index headers that only catalogs have.
func sessionsOf(kind endpoint.Kind, what string) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		if what != "" && r.tail == "" {
			return nil, api.Errorf(api.Invalid, "Missing %s", what)
		}
		rep, err := r.read(ctx, &endpoint.Query{Kind: kind, Name: r.tail})
		if err == nil {
			rep.meta = indexMeta
		}
		return rep, err
	}
}
