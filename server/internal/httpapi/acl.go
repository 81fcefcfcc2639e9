package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// aclOn lets a handler run only where ACLs are on.
func aclOn(verbs map[string]handler) map[string]handler {
	out := map[string]handler{}
	for v, h := range verbs {
		out[v] = func(ctx context.Context, r *request) (*reply, error) {
			if !r.server.cfg.ACL.Enabled {
				return nil, api.ErrACLDisabled
			}
			return h(ctx, r)
		}
	}
	return out
}

func post(h handler) map[string]handler { return map[string]handler{http.MethodPost: h} }

// aclTable is every route about ACLs.
var aclTable = []route{
	{"/v1/acl/bootstrap", aclOn(put(aclBootstrap))},
	{"/v1/acl/replication", aclOn(get(aclReplication))},
	{"/v1/acl/login", aclOn(post(aclLogin))},
	{"/v1/acl/logout", aclOn(post(aclLogout))},
	{"/v1/acl/rules/translate", aclOn(post(aclTranslate))},
	{"/v1/acl/rules/translate/", aclOn(get(aclTranslateToken))},

	{"/v1/acl/tokens", aclOn(get(aclTokens))},
	{"/v1/acl/token", aclOn(put(aclSetToken(command.Create)))},
	{"/v1/acl/token/self", aclOn(get(aclTokenSelf))},
	{"/v1/acl/token/", aclOn(map[string]handler{http.MethodGet: aclToken, http.MethodPut: aclUpdateToken, http.MethodDelete: aclDeleteToken})},

	{"/v1/acl/policies", aclOn(get(aclListed(endpoint.ACLPolicies)))},
	{"/v1/acl/policy", aclOn(put(aclSetPolicy(command.Create)))},
	{"/v1/acl/policy/name/", aclOn(get(aclNamed(endpoint.ACLPolicyNamed, "policy name")))},
	{"/v1/acl/policy/", aclOn(map[string]handler{
		http.MethodGet: aclNamed(endpoint.ACLPolicy, "policy ID"), http.MethodPut: aclSetPolicy(command.Update),
		http.MethodDelete: aclDelete("policy ID", func(d *command.ACLDelete) *[]string { return &d.Policies }),
	})},

	{"/v1/acl/roles", aclOn(get(aclListed(endpoint.ACLRoles)))},
	{"/v1/acl/role", aclOn(put(aclSetRole(command.Create)))},
	{"/v1/acl/role/name/", aclOn(get(aclNamed(endpoint.ACLRoleNamed, "role name")))},
	{"/v1/acl/role/", aclOn(map[string]handler{
		http.MethodGet: aclNamed(endpoint.ACLRole, "role ID"), http.MethodPut: aclSetRole(command.Update),
		http.MethodDelete: aclDelete("role ID", func(d *command.ACLDelete) *[]string { return &d.Roles }),
	})},

	{"/v1/acl/auth-methods", aclOn(get(aclListed(endpoint.ACLAuthMethods)))},
	{"/v1/acl/auth-method", aclOn(put(aclSetMethod(command.Create)))},
	{"/v1/acl/auth-method/", aclOn(map[string]handler{
		http.MethodGet: aclNamed(endpoint.ACLAuthMethod, "auth method name"), http.MethodPut: aclSetMethod(command.Update),
		http.MethodDelete: aclDelete("auth method name", func(d *command.ACLDelete) *[]string { return &d.Methods }),
	})},

	{"/v1/acl/binding-rules", aclOn(get(aclBindingRules))},
	{"/v1/acl/binding-rule", aclOn(put(aclSetRule(command.Create)))},
	{"/v1/acl/binding-rule/", aclOn(map[string]handler{
		http.MethodGet: aclNamed(endpoint.ACLBindingRule, "binding rule ID"), http.MethodPut: aclSetRule(command.Update),
		http.MethodDelete: aclDelete("binding rule ID", func(d *command.ACLDelete) *[]string { return &d.Rules }),
	})},

	{"/v1/acl/create", aclOn(put(aclLegacySet))},
	{"/v1/acl/update", aclOn(put(aclLegacySet))},
	{"/v1/acl/destroy/", aclOn(put(aclLegacyDestroy))},
	{"/v1/acl/info/", aclOn(get(aclNamed(endpoint.ACLLegacyInfo, "ACL")))},
	{"/v1/acl/clone/", aclOn(put(aclLegacyClone))},
	{"/v1/acl/list", aclOn(get(aclListed(endpoint.ACLLegacyList)))},

	{"/v1/internal/acl/authorize", aclOn(post(aclAuthorize))},
	{"/v1/agent/token/", aclOn(put(agentToken))},
}

// aclLeft are areas about ACLs that this server does not have, with what to say.
var aclLeft = map[string]string{
	"/v1/acl/templated-policies": "templated policies are left out of Rollcall: use service and node identities",
	"/v1/acl/templated-policy/":  "templated policies are left out of Rollcall: use service and node identities",
	"/v1/acl/oidc/":              "the oidc flow is left out of Rollcall: use an auth method of type jwt",
}

// aclBody reads a body; what says of what, for the error.
func (r *request) aclBody(what string, v any) error {
	b, err := r.body(maxBody)
	if err != nil {
		return err
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(v); err != nil {
		return api.Errorf(api.Invalid, "Bad request: %s decoding failed: %v", what, err)
	}
	return nil
}

// aclWrite commits a command about ACLs.
func (r *request) aclWrite(ctx context.Context, c command.Command) error {
	_, err := r.server.cfg.Endpoint.Write(ctx, &endpoint.Write{Datacenter: r.opts.Datacenter, Token: r.opts.Token, Command: c})
	return err
}

// aclWritten commits a command and answers what it wrote, as q reads it from the leader.
// Whoever took the own right away by it is answered with what was sent.
func (r *request) aclWritten(ctx context.Context, c command.Command, q endpoint.Query, sent any) (*reply, error) {
	if err := r.aclWrite(ctx, c); err != nil {
		return nil, err
	}
	a, err := r.aclFresh(ctx, q.Written(), r.opts.Token)
	if api.KindOf(err) == api.Forbidden {
		return &reply{value: sent}, nil
	}
	if err != nil {
		return nil, err
	}
	return &reply{answer: a, meta: noMeta}, nil
}

// aclFresh asks the leader as the bearer of a token.
func (r *request) aclFresh(ctx context.Context, q endpoint.Query, token string) (*endpoint.Answer, error) {
	q.QueryOptions = api.QueryOptions{Datacenter: r.opts.Datacenter, Token: token}
	return r.server.cfg.Endpoint.Read(ctx, &q)
}

// aclRead answers a query; what is missing is a 404 without a body.
func (r *request) aclRead(ctx context.Context, q *endpoint.Query) (*reply, error) {
	rep, err := r.read(ctx, q)
	if err != nil {
		return nil, err
	}
	rep.meta = indexMeta
	if !rep.answer.Found {
		h := http.Header{}
		setMeta(h, rep.answer, indexMeta)
		return &reply{status: http.StatusNotFound, header: h}, nil
	}
	return rep, nil
}

func aclListed(kind endpoint.Kind) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		return r.aclRead(ctx, &endpoint.Query{Kind: kind, Args: r.aclArgs("policy")})
	}
}

// aclArgs are the parameters of lists that are given.
func (r *request) aclArgs(keys ...string) map[string]string {
	var out map[string]string
	for _, k := range keys {
		if v := r.query.get(k); v != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = v
		}
	}
	return out
}

func aclNamed(kind endpoint.Kind, what string) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		name, err := r.name(what)
		if err != nil {
			return nil, err
		}
		return r.aclRead(ctx, &endpoint.Query{Kind: kind, Name: name})
	}
}

func aclDelete(what string, list func(*command.ACLDelete) *[]string) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		id, err := r.name(what)
		if err != nil {
			return nil, err
		}
		c := &command.ACLDelete{}
		*list(c) = []string{id}
		if err := r.aclWrite(ctx, c); err != nil {
			return nil, err
		}
		return &reply{value: true}, nil
	}
}

// aclID settles the id of what is written: the path's on an update, a new one otherwise.
func (r *request) aclID(mode command.Mode, what string, id *string) error {
	if mode == command.Create {
		if *id != "" {
			return api.Errorf(api.Invalid, "Bad request: Cannot specify the ID when creating a new %s", strings.ToLower(what))
		}
		t := api.Token{}
		endpoint.NewToken(&t)
		*id = t.AccessorID
		return nil
	}
	if r.tail == "" {
		return api.Errorf(api.Invalid, "Bad request: Missing %s ID", strings.ToLower(what))
	}
	if *id != "" && *id != r.tail {
		return api.Errorf(api.Invalid, "Bad request: %s ID in URL and payload do not match", what)
	}
	*id = r.tail
	return nil
}

func aclSetPolicy(mode command.Mode) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		var in api.Policy
		if err := r.aclBody("Policy", &in); err != nil {
			return nil, err
		}
		if err := r.aclID(mode, "Policy", &in.ID); err != nil {
			return nil, err
		}
		return r.aclWritten(ctx, &command.ACLSet{Mode: mode, Policy: &in}, endpoint.Query{Kind: endpoint.ACLPolicy, Name: in.ID}, &in)
	}
}

func aclSetRole(mode command.Mode) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		var in api.Role
		if err := r.aclBody("Role", &in); err != nil {
			return nil, err
		}
		if err := r.aclID(mode, "Role", &in.ID); err != nil {
			return nil, err
		}
		return r.aclWritten(ctx, &command.ACLSet{Mode: mode, Role: &in}, endpoint.Query{Kind: endpoint.ACLRole, Name: in.ID}, &in)
	}
}

func aclSetMethod(mode command.Mode) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		var in api.AuthMethod
		if err := r.aclBody("AuthMethod", &in); err != nil {
			return nil, err
		}
		if mode == command.Update {
			if in.Name != "" && in.Name != r.tail {
				return nil, api.Errorf(api.Invalid, "Bad request: AuthMethod Name in URL and payload do not match")
			}
			in.Name = r.tail
		}
		return r.aclWritten(ctx, &command.ACLSet{Mode: mode, Method: &in}, endpoint.Query{Kind: endpoint.ACLAuthMethod, Name: in.Name}, &in)
	}
}

func aclBindingRules(ctx context.Context, r *request) (*reply, error) {
	return r.aclRead(ctx, &endpoint.Query{Kind: endpoint.ACLBindingRules, Name: r.query.get("authmethod")})
}

func aclSetRule(mode command.Mode) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		var in api.BindingRule
		if err := r.aclBody("BindingRule", &in); err != nil {
			return nil, err
		}
		if err := r.aclID(mode, "BindingRule", &in.ID); err != nil {
			return nil, err
		}
		return r.aclWritten(ctx, &command.ACLSet{Mode: mode, Rule: &in}, endpoint.Query{Kind: endpoint.ACLBindingRule, Name: in.ID}, &in)
	}
}

// aclReplication shows how far the primary's ACLs have been copied.
func aclReplication(ctx context.Context, r *request) (*reply, error) {
	if !r.server.cfg.ACL.Enabled {
		return &reply{value: &endpoint.ReplicationStatus{}}, nil
	}
	return clusterStatus(endpoint.ACLReplication)(ctx, r)
}

func aclTranslate(_ context.Context, r *request) (*reply, error) {
	b, err := r.body(maxBody)
	if err != nil {
		return nil, err
	}
	return translated(string(b))
}

// aclTranslateToken translates the rules that a token of the old API carries.
func aclTranslateToken(ctx context.Context, r *request) (*reply, error) {
	a, err := r.aclFresh(ctx, endpoint.Query{Kind: endpoint.ACLToken, Name: r.tail}, r.opts.Token)
	if err != nil {
		return nil, err
	}
	t, err := endpoint.Into[*api.Token](a)
	if err != nil {
		return nil, err
	}
	if t == nil || t.Rules == "" {
		return nil, api.Errorf(api.Invalid, "Bad request: token %q carries no rules of its own", r.tail)
	}
	return translated(t.Rules)
}

func translated(rules string) (*reply, error) {
	text, err := acl.Translate(rules)
	if err != nil {
		return nil, api.Errorf(api.Invalid, "Bad request: Failed to parse ACL rules: %v", err)
	}
	return &reply{raw: []byte(text), header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}}, nil
}

// question is one right that somebody asks about.
type question struct {
	Resource string
	Segment  string `json:",omitempty"`
	Access   string
}

// verdict is its answer.
type verdict struct {
	question
	Allow bool
}

func aclAuthorize(_ context.Context, r *request) (*reply, error) {
	var in []question
	if err := r.aclBody("Authorization", &in); err != nil {
		return nil, err
	}
	const most = 64
	if len(in) > most {
		return nil, api.Errorf(api.Invalid, "Bad request: %d rights are asked about, at most %d can be", len(in), most)
	}
	out := make([]verdict, len(in))
	for i, q := range in {
		want := map[string]acl.Access{"read": acl.Read, "list": acl.List, "write": acl.Write}[q.Access]
		if want == acl.Unset {
			return nil, api.Errorf(api.Invalid, "Bad request: access %q is none of read, list and write", q.Access)
		}
		if !acl.Known(acl.Resource(q.Resource)) {
			return nil, api.Errorf(api.Invalid, "Bad request: %q is nothing that rights are about", q.Resource)
		}
		out[i] = verdict{q, r.holder.Allowed(acl.Resource(q.Resource), q.Segment, want)}
	}
	return &reply{value: out}, nil
}

func agentToken(_ context.Context, r *request) (*reply, error) {
	var in struct{ Token string }
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	update := r.server.cfg.ACL.UpdateToken
	if update == nil {
		return nil, api.Errorf(api.NotFound, "Token %q is unknown", r.tail)
	}
	return nil, update(r.tail, in.Token)
}
