package agent

import (
	"context"
	"net/http"

	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/ui"
)

// uiConfig lets the page ask as a client of this agent does.
func (a *Agent) uiConfig(path string) ui.Config {
	cfg := a.cfg()
	return ui.Config{
		Path: path, Datacenter: cfg.Datacenter, Node: cfg.NodeName, Version: buildinfo.Version, Domain: cfg.Domain, ACL: cfg.ACL.Enabled,
		Endpoint: a.endpoint,
		API:      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.web.Handler().ServeHTTP(w, r) }),
		OwnToken: a.agentToken, DefaultToken: func() string { return a.tokens.get(defaultSlot) },
		Sees: a.sees,
	}
}

// sees says what the bearer of a token may see of nodes and services.
func (a *Agent) sees(ctx context.Context, token string) (func(node, service string) bool, error) {
	h, err := a.resolver.Resolve(ctx, token)
	if err != nil {
		return nil, err
	}
	return func(node, service string) bool {
		return (node == "" || h.Allowed(acl.Node, node, acl.Read)) && (service == "" || h.Allowed(acl.Service, service, acl.Read))
	}, nil
}
