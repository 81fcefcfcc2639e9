package httpapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// serviceHealth is one entry of the agent's health routes.
type serviceHealth struct {
	AggregatedStatus string
	Service          *agentServiceRow
	Checks           []*api.Check
}

// maintenance is what a service is whose node or self was taken out, whatever its checks
// say.
const maintenance = "maintenance"

// gravity orders what a service can be.
func gravity(status string) int {
	return slices.Index([]string{"", api.Passing, api.Warning, api.Critical, maintenance}, status)
}

// healthOf aggregates the checks that bear on a service: the worst of them is its own
// status.
func (s *Server) healthOf(v *api.Service) serviceHealth {
	out := serviceHealth{AggregatedStatus: api.Passing, Service: s.row(v), Checks: []*api.Check{}}
	all, _ := s.cfg.Agent.ServiceChecks(v.ID)
	for _, c := range all {
		out.Checks = append(out.Checks, c)
		status := c.Status
		if api.IsMaintenance(c.CheckID) {
			status = maintenance
		}
		if gravity(status) > gravity(out.AggregatedStatus) {
			out.AggregatedStatus = status
		}
	}
	return out
}

// healthCode is the status that a health says: 429 warns, 503 is critical.
func healthCode(status string) int {
	switch status {
	case api.Passing:
		return http.StatusOK
	case api.Warning:
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// healthReply answers with a status's code, as text where the client wants that.
func (r *request) healthReply(code int, reason string, value any) *reply {
	h := http.Header{"X-Consul-Reason": {reason}}
	if r.query.get("format") == "text" || strings.HasPrefix(r.Header.Get("Accept"), "text/plain") {
		h.Set("Content-Type", "text/plain")
		return &reply{status: code, raw: []byte(reason), header: h}
	}
	return &reply{status: code, value: value, header: h}
}

func agentHealthByID(_ context.Context, r *request) (*reply, error) {
	id, err := r.name("serviceID")
	if err != nil {
		return nil, err
	}
	v := r.server.cfg.Agent.Service(id)
	if v == nil {
		return r.healthReply(http.StatusNotFound, "ServiceId "+id+" not found", serviceHealth{AggregatedStatus: api.Critical}), nil
	}
	h := r.server.healthOf(v)
	return r.healthReply(healthCode(h.AggregatedStatus), h.AggregatedStatus, h), nil
}

// agentHealthByName answers with all instances; the worst decides the status.
func agentHealthByName(_ context.Context, r *request) (*reply, error) {
	name, err := r.name("service name")
	if err != nil {
		return nil, err
	}
	services := r.server.cfg.Agent.Services()
	worst := ""
	list := []serviceHealth{}
	for _, id := range slices.Sorted(maps.Keys(services)) {
		if services[id].Service != name {
			continue
		}
		h := r.server.healthOf(services[id])
		list = append(list, h)
		if gravity(h.AggregatedStatus) > gravity(worst) {
			worst = h.AggregatedStatus
		}
	}
	if worst == "" {
		return r.healthReply(http.StatusNotFound, "ServiceName "+name+" Not Found", list), nil
	}
	return r.healthReply(healthCode(worst), worst, list), nil
}
