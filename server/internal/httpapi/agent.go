package httpapi

import (
	"context"
	"strconv"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/filter"
)

func agentSelf(ctx context.Context, r *request) (*reply, error) {
	self, err := r.server.cfg.Agent.Self(ctx)
	if err != nil {
		return nil, err
	}
	return &reply{value: self}, nil
}

func agentMembers(_ context.Context, r *request) (*reply, error) {
	members, err := r.server.cfg.Agent.Members(r.query.get("wan") != "")
	if err != nil {
		return nil, err
	}
	out := []api.Member{}
	keep, err := r.filter(&api.Member{})
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if !r.sees(acl.Node, m.Name) {
			continue
		}
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

// filter gives the filter parameter as a function of rows like row.
func (r *request) filter(row any) (func(any) (bool, error), error) {
	text := r.query.get("filter")
	if text == "" {
		return func(any) (bool, error) { return true, nil }, nil
	}
	f, err := filter.Compile(text, row)
	if err != nil {
		return nil, api.Errorf(api.Invalid, "%v", err)
	}
	return func(row any) (bool, error) {
		ok, err := f.Match(row)
		if err != nil {
			err = api.Errorf(api.Invalid, "Failed to evaluate filter expression %q: %v", text, err)
		}
		return ok, err
	}, nil
}

func agentVersion(context.Context, *request) (*reply, error) {
	return &reply{value: map[string]string{
		"SHA": buildinfo.Revision, "BuildDate": buildinfo.Date, "HumanVersion": buildinfo.Compat, "FIPS": "", "Rollcall": buildinfo.Version,
	}}, nil
}

func agentReload(ctx context.Context, r *request) (*reply, error) {
	return nil, r.server.cfg.Agent.Reload(ctx)
}

func agentJoin(ctx context.Context, r *request) (*reply, error) {
	addr, err := r.name("address to join")
	if err != nil {
		return nil, err
	}
	return nil, r.server.cfg.Agent.Join(ctx, addr, r.query.get("wan") != "")
}

func agentLeave(ctx context.Context, r *request) (*reply, error) {
	return nil, r.server.cfg.Agent.Leave(ctx)
}

func agentForceLeave(_ context.Context, r *request) (*reply, error) {
	node, err := r.name("node name")
	if err != nil {
		return nil, err
	}
	return nil, r.server.cfg.Agent.ForceLeave(node, r.query.has("prune"), r.query.get("wan") != "")
}

// enable reads the parameter that maintenance needs.
func (r *request) enable() (bool, error) {
	if !r.query.has("enable") {
		return false, api.Errorf(api.Invalid, "Missing value for enable")
	}
	on, err := strconv.ParseBool(r.query.get("enable"))
	if err != nil {
		return false, api.Errorf(api.Invalid, "Invalid value for enable: %q", r.query.get("enable"))
	}
	return on, nil
}

func agentMaintenance(ctx context.Context, r *request) (*reply, error) {
	on, err := r.enable()
	if err != nil {
		return nil, err
	}
	return nil, r.server.cfg.Agent.NodeMaintenance(ctx, on, r.query.get("reason"))
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
	return nil, r.server.cfg.Agent.ServiceMaintenance(ctx, id, on, r.query.get("reason"))
}

func agentRegisterService(ctx context.Context, r *request) (*reply, error) {
	var def api.ServiceDefinition
	if err := r.decode(&def); err != nil {
		return nil, err
	}
	if def.Name == "" {
		return nil, api.Errorf(api.Invalid, "Missing service name")
	}
	if err := r.mayRegister(&def); err != nil {
		return nil, err
	}
	if def.Token == "" && !r.byDefault { // the default token may change: it is looked up when it is used
		def.Token = r.opts.Token
	}
	how := r.query.get("replace-existing-checks")
	replace := r.query.has("replace-existing-checks") && (how == "" || how == "true")
	return nil, r.server.cfg.Agent.RegisterService(ctx, &def, replace)
}

func agentDeregisterService(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("service ID")
	if err != nil {
		return nil, err
	}
	return nil, r.server.cfg.Agent.DeregisterService(ctx, id)
}

func agentRegisterCheck(ctx context.Context, r *request) (*reply, error) {
	var def api.CheckDefinition
	if err := r.decode(&def); err != nil {
		return nil, err
	}
	if def.Name == "" {
		return nil, api.Errorf(api.Invalid, "Missing check name")
	}
	if err := r.mayCheck(&def); err != nil {
		return nil, err
	}
	if def.Token == "" && !r.byDefault { // the default token may change: it is looked up when it is used
		def.Token = r.opts.Token
	}
	return nil, r.server.cfg.Agent.RegisterCheck(ctx, &def)
}

func agentDeregisterCheck(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("check ID")
	if err != nil {
		return nil, err
	}
	return nil, r.server.cfg.Agent.DeregisterCheck(ctx, id)
}

// agentReport sets a TTL check's status; the note becomes its output.
func agentReport(status string) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		id, err := r.name("check ID")
		if err != nil {
			return nil, err
		}
		return nil, r.server.cfg.Agent.UpdateTTL(ctx, id, status, r.query.get("note"))
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
	return nil, r.server.cfg.Agent.UpdateTTL(ctx, id, in.Status, in.Output)
}
