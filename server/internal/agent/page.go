package agent

import (
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/ui"
)

// uiConfig lets the page read the catalog as any stale reader does.
func (a *Agent) uiConfig(path string) ui.Config {
	cfg := a.cfg()
	stale := api.QueryOptions{Datacenter: cfg.Datacenter, Consistency: api.Stale}
	return ui.Config{
		Path: path, Datacenter: cfg.Datacenter, Node: cfg.NodeName, Version: buildinfo.Version,
		Domain: strings.TrimSuffix(cfg.Domain, "."),
		Services: func(r *http.Request) (map[string][]string, error) {
			ans, err := a.endpoint.Read(r.Context(), &endpoint.Query{Kind: endpoint.Services, QueryOptions: stale})
			if err != nil {
				return nil, err
			}
			return endpoint.Into[map[string][]string](ans)
		},
		Instances: func(r *http.Request, service string) ([]*api.Instance, error) {
			ans, err := a.endpoint.Read(r.Context(), &endpoint.Query{Kind: endpoint.HealthService, Name: service, QueryOptions: stale})
			if err != nil {
				return nil, err
			}
			return endpoint.Into[[]*api.Instance](ans)
		},
		Members: func() ([]api.Member, error) { return a.pool.Members(), nil },
	}
}
