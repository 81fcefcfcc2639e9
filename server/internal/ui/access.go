package ui

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// accessTopic is what the pages about access follow.
var accessTopic = []endpoint.Kind{endpoint.ACLTokens, endpoint.ACLPolicies, endpoint.ACLRoles, endpoint.ACLAuthMethods, endpoint.ACLBindingRules}

// accessLists are everything that the first page of access shows.
type accessLists struct {
	tokens   []*api.Token
	policies []*api.PolicyEntry
	roles    []*api.Role
	methods  []*api.AuthMethodEntry
	rules    []*api.BindingRule
}

func accessPage(r *request) (view, error) {
	if !r.ui.cfg.ACL {
		return view{title: "Access", body: accessOff("Access")}, nil
	}
	var l accessLists
	for path, out := range map[string]any{"/v1/acl/tokens": &l.tokens, "/v1/acl/policies": &l.policies, "/v1/acl/roles": &l.roles, "/v1/acl/auth-methods": &l.methods, "/v1/acl/binding-rules": &l.rules} {
		if err := r.get(path, nil, out); err != nil {
			return view{}, err
		}
	}
	tokens, p := part(r, l.tokens, perPage)
	l.tokens = tokens
	return view{title: "Access", body: access(r, l, p), topics: accessTopic}, nil
}

// accessPost makes a token with the policies and roles that are ticked.
func accessPost(r *request) (view, error) {
	t := api.Token{Description: strings.TrimSpace(r.PostFormValue("description"))}
	for _, name := range r.PostForm["policy"] {
		t.Policies = append(t.Policies, api.Link{Name: name})
	}
	for _, name := range r.PostForm["role"] {
		t.Roles = append(t.Roles, api.Link{Name: name})
	}
	if len(t.Policies)+len(t.Roles) == 0 {
		return view{}, api.Errorf(api.Invalid, "tick at least one policy or role: a token without any may do only what everybody may")
	}
	body, err := json.Marshal(map[string]any{"Description": t.Description, "Policies": t.Policies, "Roles": t.Roles})
	if err != nil {
		return view{}, err
	}
	if err := r.call(http.MethodPut, "/v1/acl/token", nil, body, &t); err != nil {
		return view{}, err
	}
	return view{to: "token?" + url.Values{"id": {t.AccessorID}}.Encode(), code: http.StatusSeeOther}, nil
}

// fullToken is a token with what its policies and roles say.
type fullToken struct {
	api.Token
	ExpandedPolicies []*api.Policy
	ExpandedRoles    []*api.Role
}

// right is whether a token may do something.
type right struct {
	Resource, Access, Segment string
	Allow                     bool
}

// resources are what rights are about, each with the kinds of access that it knows, and
// whether these depend on a name.
var resources = []struct {
	name   string
	access []string
	named  bool
}{
	{"service", []string{"read", "write"}, true}, {"node", []string{"read", "write"}, true}, {"key", []string{"read", "list", "write"}, true},
	{"session", []string{"read", "write"}, true}, {"query", []string{"read", "write"}, true}, {"event", []string{"read", "write"}, true},
	{"agent", []string{"read", "write"}, true}, {"operator", []string{"read", "write"}, false}, {"keyring", []string{"read", "write"}, false}, {"acl", []string{"read", "write"}, false},
}

func tokenPage(r *request) (view, error) {
	id := r.FormValue("id")
	var t fullToken
	if err := r.get("/v1/acl/token/"+id, url.Values{"expanded": {"true"}}, &t); err != nil {
		return view{}, err
	}
	about := r.FormValue("about")
	rights, err := r.rights(t.SecretID, about)
	return view{title: "Token " + short(id), body: oneToken(r, &t, about, rights, err), topics: accessTopic}, nil
}

// rights asks what the bearer of a secret may do with what is called name.
func (r *request) rights(secret, name string) (map[string]bool, error) {
	if secret == "" || secret == api.HiddenToken {
		return nil, api.Errorf(api.Forbidden, "your token may not see this one's secret, and so cannot try it")
	}
	var ask, got []right
	for _, res := range resources {
		for _, a := range res.access {
			ask = append(ask, right{Resource: res.name, Access: a, Segment: name})
		}
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	as := *r
	as.token = secret
	if err := as.call(http.MethodPost, "/v1/internal/acl/authorize", nil, body, &got); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, q := range got {
		out[q.Resource+" "+q.Access] = q.Allow
	}
	return out, nil
}

func tokenPost(r *request) (view, error) {
	id := r.PostFormValue("id")
	return r.deleteAccess("token", "/v1/acl/token/"+id, "Delete the token "+short(id)+"?", "Whoever has it loses its rights at once.", "Delete the token", "id", id)
}

func policyPage(r *request) (view, error) {
	p := api.Policy{Rules: "service_prefix \"\" {\n    policy = \"read\"\n}\n"}
	if id := r.FormValue("id"); id != "" {
		if err := r.get("/v1/acl/policy/"+id, nil, &p); err != nil {
			return view{}, err
		}
	}
	return r.policyView(&p, "", 0), nil
}

func (r *request) policyView(p *api.Policy, fault string, code int) view {
	return view{title: policyTitle(p), body: onePolicy(r, p, fault), code: code}
}

func policyPost(r *request) (view, error) {
	p := api.Policy{
		ID: r.PostFormValue("id"), Name: strings.TrimSpace(r.PostFormValue("name")), Description: r.PostFormValue("description"),
		Rules: strings.ReplaceAll(r.PostFormValue("rules"), "\r\n", "\n"),
	}
	path := "/v1/acl/policy"
	if p.ID != "" {
		path += "/" + p.ID
	}
	if r.PostFormValue("do") == "delete" {
		return r.deleteAccess("policy", path, "Delete the policy "+p.Name+"?", "Every token and role that has it loses what it allows, at once.", "Delete the policy", "id", p.ID, "name", p.Name)
	}
	if err := r.saveAccess(path, map[string]any{"ID": p.ID, "Name": p.Name, "Description": p.Description, "Rules": p.Rules}); err != nil {
		return r.policyView(&p, "Not saved: "+err.Error(), http.StatusUnprocessableEntity), nil
	}
	return view{to: "access", code: http.StatusSeeOther}, nil
}

// names joins the names of links.
func names(links []api.Link) string {
	var out []string
	for _, l := range links {
		out = append(out, orID(l.Name, l.ID))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// --- datacenters ---

// dcPost changes which datacenter is looked at.
func dcPost(r *request) (view, error) {
	dc := r.PostFormValue("dc")
	var all []string
	if err := r.get("/v1/catalog/datacenters", nil, &all); err != nil {
		return view{}, err
	}
	switch {
	case dc == r.ui.cfg.Datacenter:
		r.setCookie(dcCookie, "", -1)
	case slices.Contains(all, dc):
		r.setCookie(dcCookie, dc, cookieAge)
	default:
		return view{}, api.Errorf(api.Invalid, "there is no datacenter %q", dc)
	}
	return view{to: "", code: http.StatusSeeOther}, nil
}
