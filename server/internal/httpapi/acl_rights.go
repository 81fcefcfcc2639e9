package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
)

// ACL is what the API needs of access control. Operations on the catalog are judged by the
// servers; what is about this agent itself is judged here.
type ACL struct {
	Enabled bool
	// DefaultPolicy and DownPolicy are the configuration's words, for those who ask.
	DefaultPolicy, DownPolicy string
	// Resolve finds who holds a token; nil lets everybody do all.
	Resolve func(ctx context.Context, secret string) (*acl.Holder, error)
	// DefaultToken gives the token of requests that bring none; nil is none.
	DefaultToken func() string
	// UpdateToken sets one of the agent's own tokens; nil knows no slots.
	UpdateToken func(slot, secret string) error
}

// right says what a request needs before its handler runs.
type right func(r *request, h *acl.Holder) error

// rights are those of the routes that are about this agent. Where a handler must look at
// more than the path, the right is `inside`, and the handler asks with require or sees. A
// route that is not here is judged by the servers; TestEveryRoute holds the table to that.
var rights = map[string]right{
	"/v1/agent/self":                 agentScope(acl.Read),
	"/v1/agent/metrics":              agentScope(acl.Read),
	"/v1/agent/metrics/stream":       agentScope(acl.Read),
	"/v1/agent/monitor":              agentScope(acl.Read),
	"/v1/agent/reload":               agentScope(acl.Write),
	"/v1/agent/join/":                agentScope(acl.Write),
	"/v1/agent/leave":                agentScope(acl.Write),
	"/v1/agent/token/":               agentScope(acl.Write),
	"/v1/agent/force-leave/":         whole(acl.Operator, acl.Write),
	"/v1/agent/host":                 whole(acl.Operator, acl.Read),
	"/v1/agent/maintenance":          func(r *request, h *acl.Holder) error { return h.Require(acl.Node, r.server.cfg.Node, acl.Write) },
	"/v1/agent/version":              anybody,
	"/v1/agent/connect/ca/roots":     anybody,
	"/v1/agent/members":              inside,
	"/v1/agent/services":             inside,
	"/v1/agent/checks":               inside,
	"/v1/agent/service/":             ofService(acl.Read),
	"/v1/agent/health/service/id/":   ofService(acl.Read),
	"/v1/agent/health/service/name/": func(r *request, h *acl.Holder) error { return h.Require(acl.Service, r.tail, acl.Read) },
	"/v1/agent/service/register":     inside,
	"/v1/agent/service/deregister/":  ofService(acl.Write),
	"/v1/agent/service/maintenance/": ofService(acl.Write),
	"/v1/agent/check/register":       inside,
	"/v1/agent/check/deregister/":    ofCheck,
	"/v1/agent/check/pass/":          ofCheck,
	"/v1/agent/check/warn/":          ofCheck,
	"/v1/agent/check/fail/":          ofCheck,
	"/v1/agent/check/update/":        ofCheck,
	"/v1/event/fire/":                func(r *request, h *acl.Holder) error { return h.Require(acl.Event, r.tail, acl.Write) },
	"/v1/event/list":                 inside,
	"/v1/operator/keyring":           ofKeyring,
	"/v1/internal/acl/authorize":     inside,
	"/v1/acl/rules/translate":        whole(acl.ACL, acl.Read),
}

func anybody(*request, *acl.Holder) error { return nil }

// inside marks a route whose handler asks by itself.
func inside(*request, *acl.Holder) error { return nil }

func ofKeyring(r *request, h *acl.Holder) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return h.Require(acl.Keyring, "", acl.Read)
	}
	return h.Require(acl.Keyring, "", acl.Write)
}

func agentScope(want acl.Access) right {
	return func(r *request, h *acl.Holder) error { return h.Require(acl.Agent, r.server.cfg.Node, want) }
}

func whole(res acl.Resource, want acl.Access) right {
	return func(_ *request, h *acl.Holder) error { return h.Require(res, "", want) }
}

// ofService asks for the service whose id the path's tail is. One that is not there is the
// handler's to report.
func ofService(want acl.Access) right {
	return func(r *request, h *acl.Holder) error {
		if v := r.server.cfg.Agent.Service(r.tail); v != nil {
			return h.Require(acl.Service, v.Service, want)
		}
		return nil
	}
}

// ofCheck asks for what the check whose id the path's tail is belongs to.
func ofCheck(r *request, h *acl.Holder) error {
	if c := r.server.cfg.Agent.Check(r.tail); c != nil {
		return needCheck(h, r.server.cfg.Node, c.ServiceName)
	}
	return nil
}

// needCheck: a check is its service's matter, one without a service its node's.
func needCheck(h *acl.Holder, node, service string) error {
	if service == "" {
		return h.Require(acl.Node, node, acl.Write)
	}
	return h.Require(acl.Service, service, acl.Write)
}

// authorize finds the holder of a request about this agent, and asks for the route's right.
func (r *request) authorize(ctx context.Context, route string) error {
	need := rights[route]
	if need == nil {
		return nil
	}
	r.holder = acl.Unbound()
	if resolve := r.server.cfg.ACL.Resolve; resolve != nil {
		h, err := resolve(ctx, r.opts.Token)
		if err != nil {
			return err
		}
		r.holder = h
	}
	return need(r, r.holder)
}

// sees reports whether the asker may read what is called name, and remembers if not.
func (r *request) sees(res acl.Resource, name string) bool {
	if r.holder.Allowed(res, name, acl.Read) {
		return true
	}
	r.hidden = true
	return false
}

// seesCheck is sees of a check of this agent.
func (r *request) seesCheck(c *api.Check) bool {
	if c.ServiceName == "" {
		return r.sees(acl.Node, r.server.cfg.Node)
	}
	return r.sees(acl.Service, c.ServiceName)
}

// mayRegister asks for the service that is registered, and for the one that has its id now.
func (r *request) mayRegister(def *api.ServiceDefinition) error {
	if err := r.holder.Require(acl.Service, def.Name, acl.Write); err != nil {
		return err
	}
	id := def.ID
	if id == "" {
		id = def.Name
	}
	if was := r.server.cfg.Agent.Service(id); was != nil && was.Service != def.Name {
		return r.holder.Require(acl.Service, was.Service, acl.Write)
	}
	return nil
}

// mayCheck asks for what a check is to be about, and for what one with its id is about now.
func (r *request) mayCheck(def *api.CheckDefinition) error {
	service := ""
	if v := r.server.cfg.Agent.Service(def.ServiceID); v != nil {
		service = v.Service
	}
	if err := needCheck(r.holder, r.server.cfg.Node, service); err != nil {
		return err
	}
	id := def.CheckID
	if id == "" {
		id = def.Name
	}
	if was := r.server.cfg.Agent.Check(id); was != nil && was.ServiceName != service {
		return needCheck(r.holder, r.server.cfg.Node, was.ServiceName)
	}
	return nil
}

// whose adds to a refusal that the token was not the request's own, where it was not.
func (r *request) whose(err error) error {
	if !r.byDefault || api.KindOf(err) != api.Forbidden {
		return err
	}
	return api.Errorf(api.Forbidden, "%s (the request brought no token, so this agent's default token was used: acl.tokens.default)", strings.TrimSuffix(err.Error(), "."))
}
