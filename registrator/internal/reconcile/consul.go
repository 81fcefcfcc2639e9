package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/registrator/internal/mapping"
)

// Consul is a Catalog behind the HTTP API of a Consul agent: ours, or the original.
type Consul struct{ client *consul.Client }

var _ Catalog = Consul{}

// NewConsul makes a Catalog of a client.
func NewConsul(c *consul.Client) Consul { return Consul{c} }

// IsAnswer implements Catalog: what came with a status was answered. 429 and what a proxy
// says for an agent that it cannot reach are no answers of the agent's.
func (Consul) IsAnswer(err error) bool {
	var s consul.StatusError
	if !errors.As(err, &s) {
		return false
	}
	switch s.Code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

func query(ctx context.Context, token string) *consul.QueryOptions {
	return (&consul.QueryOptions{Token: token}).WithContext(ctx)
}

// Read implements Catalog.
func (c Consul) Read(ctx context.Context) (Reading, error) {
	services, err := c.client.Agent().ServicesWithFilterOpts("", query(ctx, ""))
	if err != nil {
		return Reading{}, fmt.Errorf("read services: %w", err)
	}
	checks, err := c.client.Agent().ChecksWithFilterOpts("", query(ctx, ""))
	if err != nil {
		return Reading{}, fmt.Errorf("read checks: %w", err)
	}
	out := Reading{Services: make(map[string]Registered, len(services)), NodeAddress: c.address(ctx)}
	for id, s := range services {
		out.Services[id] = Registered{
			Owner: s.Meta[mapping.MetaOwner], Container: s.Meta[mapping.MetaContainer], Hash: s.Meta[mapping.MetaHash],
			Address: s.Address, Port: s.Port, Checks: map[string]Check{},
		}
	}
	for id, k := range checks {
		s, ok := out.Services[k.ServiceID]
		if !ok || k.ServiceID == "" {
			continue
		}
		if strings.HasPrefix(id, "_service_maintenance:") {
			s.Maintenance, s.Reason = true, k.Notes
			out.Services[k.ServiceID] = s
			continue
		}
		s.Checks[id] = Check{Status: k.Status, Output: k.Output}
	}
	return out, nil
}

// address is that of the agent's node; "" where the agent does not tell it to us.
func (c Consul) address(ctx context.Context) string {
	var self struct {
		Member struct{ Addr string }
	}
	if _, err := c.client.Raw().Query("/v1/agent/self", &self, query(ctx, "")); err != nil {
		return ""
	}
	return self.Member.Addr
}

// Hash implements Catalog.
func (c Consul) Hash(ctx context.Context, id string) (string, error) {
	if id == "" {
		var self struct{}
		_, err := c.client.Raw().Query("/v1/agent/self", &self, query(ctx, ""))
		return "", err
	}
	s, _, err := c.client.Agent().Service(id, query(ctx, ""))
	if code(err) == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return s.Meta[mapping.MetaHash], nil
}

// Register implements Catalog.
func (c Consul) Register(ctx context.Context, s *mapping.Service) error {
	return c.client.Agent().ServiceRegisterOpts(&s.AgentServiceRegistration, consul.ServiceRegisterOpts{Token: s.Token}.WithContext(ctx))
}

// Deregister implements Catalog.
func (c Consul) Deregister(ctx context.Context, id, token string) error {
	err := c.client.Agent().ServiceDeregisterOpts(id, query(ctx, token))
	if n := code(err); n == http.StatusNotFound || (n == http.StatusInternalServerError && strings.Contains(err.Error(), "Unknown service")) {
		return nil
	}
	return err
}

// SetCheck implements Catalog.
func (c Consul) SetCheck(ctx context.Context, id, status, output, token string) error {
	return c.client.Agent().UpdateTTLOpts(id, output, status, query(ctx, token))
}

// DropCheck implements Catalog.
func (c Consul) DropCheck(ctx context.Context, id, token string) error {
	err := c.client.Agent().CheckDeregisterOpts(id, query(ctx, token))
	if code(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// Maintain implements Catalog.
func (c Consul) Maintain(ctx context.Context, id, reason, token string) error {
	if reason == "" {
		return c.client.Agent().DisableServiceMaintenanceOpts(id, query(ctx, token))
	}
	return c.client.Agent().EnableServiceMaintenanceOpts(id, reason, query(ctx, token))
}

// code is the status that an error carries, or 0.
func code(err error) int {
	var s consul.StatusError
	if errors.As(err, &s) {
		return s.Code
	}
	return 0
}
