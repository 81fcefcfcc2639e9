package httpapi

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
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
	SocketPath        string        `json:",omitempty"`
	Locality          *api.Locality `json:",omitempty"`
	ContentHash       string        `json:",omitempty"`
	Datacenter        string        `json:",omitempty"`
}

func (s *Server) row(v *api.Service) *agentServiceRow {
	meta := v.Meta
	if meta == nil {
		meta = map[string]string{}
	}
	return &agentServiceRow{
		ID: v.ID, Service: v.Service, Tags: v.Tags, Meta: meta, Port: v.Port, Address: v.Address, TaggedAddresses: v.TaggedAddresses,
		Weights: v.Weights, EnableTagOverride: v.EnableTagOverride, SocketPath: v.SocketPath, Locality: v.Locality, Datacenter: s.cfg.Datacenter,
	}
}

func agentServices(_ context.Context, r *request) (*reply, error) {
	keep, err := r.filter(&agentServiceRow{})
	if err != nil {
		return nil, err
	}
	out := map[string]*agentServiceRow{}
	for id, v := range r.server.cfg.Agent.Services() {
		if !r.sees(acl.Service, v.Service) {
			continue
		}
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
		v := r.server.cfg.Agent.Service(id)
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
	keep, err := r.filter(&api.Check{})
	if err != nil {
		return nil, err
	}
	out := map[string]*api.Check{}
	for id, c := range r.server.cfg.Agent.Checks() {
		if !r.seesCheck(c) {
			continue
		}
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
