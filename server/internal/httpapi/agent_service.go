package httpapi

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// agentServiceRow is a service as the agent's own routes print it.
type agentServiceRow struct {
	ID                string
	Service           string
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	TaggedAddresses   map[string]api.ServiceAddress `json:",omitempty"`
	Weights           api.Weights
	EnableTagOverride bool
	ContentHash       string `json:",omitempty"`
	Datacenter        string `json:",omitempty"`
}

func (s *Server) row(v *api.Service) *agentServiceRow {
	meta := v.Meta
	if meta == nil {
		meta = map[string]string{}
	}
	return &agentServiceRow{
		ID: v.ID, Service: v.Service, Tags: v.Tags, Meta: meta, Port: v.Port, Address: v.Address, TaggedAddresses: v.TaggedAddresses,
		Weights: v.Weights, EnableTagOverride: v.EnableTagOverride, Datacenter: s.cfg.Datacenter,
	}
}

func agentServices(_ context.Context, r *request) (*reply, error) {
	keep, err := r.filter()
	if err != nil {
		return nil, err
	}
	out := map[string]*agentServiceRow{}
	for id, v := range r.server.cfg.Agent.Services() {
		row := r.server.row(v)
		ok, err := keep(row)
		if err != nil {
			return nil, err
		}
		if ok {
			out[id] = row
		}
	}
	return &reply{value: out}, nil
}

// hashEvery is how often a service is looked at for a change while a request blocks on
// its hash.
const hashEvery = 100 * time.Millisecond

// agentService gives one service. With a hash that is still right it waits for a change.
func agentService(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("service ID")
	if err != nil {
		return nil, err
	}
	over, cancel := r.patience(ctx)
	defer cancel()
	look := time.NewTicker(hashEvery)
	defer look.Stop()
	for {
		v := r.server.cfg.Agent.Services()[id]
		if v == nil {
			return nil, api.Errorf(api.NotFound, "unknown service ID: %s", id)
		}
		row := r.server.row(v)
		b, err := marshal(row)
		if err != nil {
			return nil, fmt.Errorf("encode service %q: %w", id, err)
		}
		sum := fnv.New64a()
		sum.Write(b)
		row.ContentHash = fmt.Sprintf("%016x", sum.Sum64())
		if r.query.get("hash") != row.ContentHash || over.Err() != nil {
			return &reply{value: row, header: http.Header{"X-Consul-Contenthash": {row.ContentHash}}}, ended(over)
		}
		select {
		case <-over.Done():
		case <-look.C:
		}
	}
}

// errOver ends a wait whose time is up.
var errOver = errors.New("the time to wait is over")

// patience gives a context that ends when a wait for what the agent has itself must end.
func (r *request) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	wait := r.opts.MaxWait
	if wait <= 0 {
		wait = r.server.cfg.DefaultQueryTime
	}
	ctx, stop := waiting(ctx)
	ctx, cancel := context.WithTimeoutCause(ctx, min(wait, r.server.cfg.MaxQueryTime), errOver)
	return ctx, func() {
		cancel()
		stop()
	}
}

// ended is why a wait ended, nil where its time was over or is not yet.
func ended(over context.Context) error {
	if cause := context.Cause(over); cause != errOver {
		return cause
	}
	return nil
}

func agentChecks(_ context.Context, r *request) (*reply, error) {
	keep, err := r.filter()
	if err != nil {
		return nil, err
	}
	out := map[string]*api.Check{}
	for id, c := range r.server.cfg.Agent.Checks() {
		ok, err := keep(c)
		if err != nil {
			return nil, err
		}
		if ok {
			out[id] = c
		}
	}
	return &reply{value: out}, nil
}

// serviceHealth is one entry of the agent's health routes.
type serviceHealth struct {
	AggregatedStatus string
	Service          *agentServiceRow
	Checks           []*api.Check
}

// healthOf aggregates the checks that bear on a service.
func (s *Server) healthOf(v *api.Service, checks map[string]*api.Check) serviceHealth {
	out := serviceHealth{AggregatedStatus: api.Passing, Service: s.row(v), Checks: []*api.Check{}}
	worse := map[string]int{api.Passing: 0, api.Warning: 1, api.Critical: 2, "maintenance": 3}
	for _, id := range slices.Sorted(maps.Keys(checks)) {
		c := checks[id]
		if c.ServiceID != "" && c.ServiceID != v.ID {
			continue
		}
		out.Checks = append(out.Checks, c)
		status := c.Status
		if id == api.NodeMaintenance || strings.HasPrefix(id, api.ServiceMaintenancePrefix) {
			status = "maintenance"
		}
		if worse[status] > worse[out.AggregatedStatus] {
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
	v := r.server.cfg.Agent.Services()[id]
	if v == nil {
		return r.healthReply(http.StatusNotFound, "ServiceId "+id+" not found", serviceHealth{AggregatedStatus: api.Critical}), nil
	}
	h := r.server.healthOf(v, r.server.cfg.Agent.Checks())
	return r.healthReply(healthCode(h.AggregatedStatus), h.AggregatedStatus, h), nil
}

func agentHealthByName(_ context.Context, r *request) (*reply, error) {
	name, err := r.name("service name")
	if err != nil {
		return nil, err
	}
	services, checks := r.server.cfg.Agent.Services(), r.server.cfg.Agent.Checks()
	worst := ""
	list := []serviceHealth{}
	for _, id := range slices.Sorted(maps.Keys(services)) {
		if services[id].Service != name {
			continue
		}
		h := r.server.healthOf(services[id], checks)
		list = append(list, h)
		if worst == "" || healthCode(h.AggregatedStatus) > healthCode(worst) {
			worst = h.AggregatedStatus
		}
	}
	if worst == "" {
		return r.healthReply(http.StatusNotFound, "ServiceName "+name+" Not Found", list), nil
	}
	return r.healthReply(healthCode(worst), worst, list), nil
}
