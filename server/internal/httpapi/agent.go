package httpapi

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-bexpr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/buildinfo"
)

func agentSelf(ctx context.Context, r *request) (*reply, error) {
	self, err := r.server.cfg.Agent.Self(ctx)
	return &reply{value: self}, err
}

func agentMembers(_ context.Context, r *request) (*reply, error) {
	members, err := r.server.cfg.Agent.Members(r.query.has("wan"))
	if err != nil {
		return nil, err
	}
	out := []api.Member{}
	keep, err := r.filter()
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		ok, err := keep(&m)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, m)
		}
	}
	return &reply{value: out}, nil
}

// filter gives the filter parameter as a function of a row.
func (r *request) filter() (func(any) (bool, error), error) {
	text := r.query.get("filter")
	if text == "" {
		return func(any) (bool, error) { return true, nil }, nil
	}
	e, err := bexpr.CreateEvaluator(text)
	if err != nil {
		return nil, api.Errorf(api.Invalid, "Failed to parse filter expression: %v", err)
	}
	return func(row any) (bool, error) { return e.Evaluate(row) }, nil
}

// AgentService is a service as the agent's own routes print it.
type agentServiceRow struct {
	Kind              string `json:",omitempty"`
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
	wait := r.opts.MaxWait
	if wait <= 0 {
		wait = r.server.cfg.DefaultQueryTime
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
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
			return nil, err
		}
		sum := fnv.New64a()
		sum.Write(b)
		row.ContentHash = fmt.Sprintf("%016x", sum.Sum64())
		if r.query.get("hash") != row.ContentHash || ctx.Err() != nil {
			return &reply{value: row, header: http.Header{"X-Consul-Contenthash": {row.ContentHash}}}, nil
		}
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
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

func (r *request) healthReply(status string, value any) *reply {
	h := http.Header{"X-Consul-Reason": {status}}
	if r.query.get("format") == "text" || strings.HasPrefix(r.Header.Get("Accept"), "text/plain") {
		h.Set("Content-Type", "text/plain")
		return &reply{status: healthCode(status), raw: []byte(status), header: h}
	}
	return &reply{status: healthCode(status), value: value, header: h}
}

func agentHealthByID(_ context.Context, r *request) (*reply, error) {
	id, err := r.name("serviceID")
	if err != nil {
		return nil, err
	}
	v := r.server.cfg.Agent.Services()[id]
	if v == nil {
		return nil, api.Errorf(api.NotFound, "ServiceId %s not found", id)
	}
	h := r.server.healthOf(v, r.server.cfg.Agent.Checks())
	return r.healthReply(h.AggregatedStatus, h), nil
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
		return nil, api.Errorf(api.NotFound, "ServiceName %s Not Found", name)
	}
	return r.healthReply(worst, list), nil
}

func agentVersion(context.Context, *request) (*reply, error) {
	return &reply{value: map[string]string{
		"SHA": buildinfo.Revision, "BuildDate": buildinfo.Date, "HumanVersion": buildinfo.Compat, "FIPS": "", "Rollcall": buildinfo.Version,
	}}, nil
}

// agentMetrics gives the process's metrics, as JSON in Consul's frame or in Prometheus's
// text form.
func agentMetrics(_ context.Context, r *request) (*reply, error) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	if r.query.get("format") == "prometheus" {
		var b strings.Builder
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
				return nil, fmt.Errorf("encode metrics: %w", err)
			}
		}
		return &reply{raw: []byte(b.String()), header: http.Header{"Content-Type": {"text/plain; version=0.0.4; charset=utf-8"}}}, nil
	}
	type gauge struct {
		Name   string
		Value  float64
		Labels map[string]string
	}
	gauges := []gauge{{"consul.runtime.num_goroutines", float64(runtime.NumGoroutine()), map[string]string{}}}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch {
			case m.GetGauge() != nil:
				gauges = append(gauges, gauge{f.GetName(), m.GetGauge().GetValue(), labels})
			case m.GetCounter() != nil:
				gauges = append(gauges, gauge{f.GetName(), m.GetCounter().GetValue(), labels})
			}
		}
	}
	return &reply{value: map[string]any{
		"Timestamp": time.Now().UTC().Format("2006-01-02 15:04:05 -0700 MST"),
		"Gauges":    gauges, "Points": []any{}, "Counters": []any{}, "Samples": []any{},
	}}, nil
}

func agentReload(ctx context.Context, r *request) (*reply, error) {
	return done(r.server.cfg.Agent.Reload(ctx))
}

func agentJoin(ctx context.Context, r *request) (*reply, error) {
	addr, err := r.name("address to join")
	if err != nil {
		return nil, err
	}
	return done(r.server.cfg.Agent.Join(ctx, addr, r.query.has("wan")))
}

func agentLeave(ctx context.Context, r *request) (*reply, error) {
	return done(r.server.cfg.Agent.Leave(ctx))
}

func agentForceLeave(_ context.Context, r *request) (*reply, error) {
	node, err := r.name("node name")
	if err != nil {
		return nil, err
	}
	return done(r.server.cfg.Agent.ForceLeave(node, r.query.has("prune"), r.query.has("wan")))
}

// enable reads the parameter that maintenance needs.
func (r *request) enable() (bool, error) {
	if !r.query.has("enable") || r.query.get("enable") == "" {
		return false, api.Errorf(api.Invalid, "Missing value for enable")
	}
	return r.query.flag("enable")
}

func agentMaintenance(ctx context.Context, r *request) (*reply, error) {
	on, err := r.enable()
	if err != nil {
		return nil, err
	}
	return done(r.server.cfg.Agent.NodeMaintenance(ctx, on, r.query.get("reason")))
}

func agentServiceMaintenance(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("service ID")
	if err != nil {
		return nil, err
	}
	on, err := r.enable()
	if err != nil {
		return nil, err
	}
	return done(r.server.cfg.Agent.ServiceMaintenance(ctx, id, on, r.query.get("reason")))
}

func agentRegisterService(ctx context.Context, r *request) (*reply, error) {
	var def api.ServiceDefinition
	if err := r.decode(&def); err != nil {
		return nil, err
	}
	if def.Name == "" {
		return nil, api.Errorf(api.Invalid, "Missing service name")
	}
	if def.Token == "" {
		def.Token = r.opts.Token
	}
	replace, err := r.query.flag("replace-existing-checks")
	if err != nil {
		return nil, err
	}
	return done(r.server.cfg.Agent.RegisterService(ctx, &def, replace))
}

func agentDeregisterService(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("service ID")
	if err != nil {
		return nil, err
	}
	return done(r.server.cfg.Agent.DeregisterService(ctx, id))
}

func agentRegisterCheck(ctx context.Context, r *request) (*reply, error) {
	var def api.CheckDefinition
	if err := r.decode(&def); err != nil {
		return nil, err
	}
	if def.Name == "" {
		return nil, api.Errorf(api.Invalid, "Missing check name")
	}
	return done(r.server.cfg.Agent.RegisterCheck(ctx, &def))
}

func agentDeregisterCheck(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("check ID")
	if err != nil {
		return nil, err
	}
	return done(r.server.cfg.Agent.DeregisterCheck(ctx, id))
}

// agentReport sets a TTL check's status; the note becomes its output.
func agentReport(status string) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		id, err := r.name("check ID")
		if err != nil {
			return nil, err
		}
		return done(r.server.cfg.Agent.UpdateTTL(ctx, id, status, r.query.get("note")))
	}
}

func agentUpdate(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("check ID")
	if err != nil {
		return nil, err
	}
	var in struct{ Status, Output string }
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Status == "" || api.ValidStatus(in.Status) != nil {
		return nil, api.Errorf(api.Invalid, "Invalid check status: '%s'", in.Status)
	}
	return done(r.server.cfg.Agent.UpdateTTL(ctx, id, in.Status, in.Output))
}
