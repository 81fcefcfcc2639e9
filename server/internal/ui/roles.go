package ui

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

func rolePage(r *request) (view, error) {
	var role api.Role
	if id := r.FormValue("id"); id != "" {
		if err := r.get("/v1/acl/role/"+id, nil, &role); err != nil {
			return view{}, err
		}
	}
	return r.roleView(&role, "", 0)
}

func (r *request) roleView(role *api.Role, fault string, code int) (view, error) {
	var policies []*api.PolicyEntry
	if err := r.get("/v1/acl/policies", nil, &policies); err != nil {
		return view{}, err
	}
	return view{title: roleTitle(role), body: oneRole(r, role, policies, fault), code: code}, nil
}

// rolePost saves or deletes a role.
func rolePost(r *request) (view, error) {
	role := api.Role{ID: r.PostFormValue("id"), Name: strings.TrimSpace(r.PostFormValue("name")), Description: r.PostFormValue("description")}
	for _, name := range r.PostForm["policy"] {
		role.Policies = append(role.Policies, api.Link{Name: name})
	}
	path := "/v1/acl/role"
	if role.ID != "" {
		path += "/" + role.ID
	}
	if r.PostFormValue("do") == "delete" {
		return r.deleteAccess("role", path, "Delete the role "+role.Name+"?", "Every token that has it loses what it allows, at once.", "Delete the role", "id", role.ID, "name", role.Name)
	}
	refuse := func(fault string) (view, error) {
		return r.roleView(&role, "Not saved: "+fault, http.StatusUnprocessableEntity)
	}
	var err error
	role.ServiceIdentities = serviceIdentities(r.PostFormValue("services"))
	if role.NodeIdentities, err = nodeIdentities(r.PostFormValue("nodes")); err != nil {
		return refuse(err.Error())
	}
	err = r.saveAccess(path, map[string]any{
		"ID": role.ID, "Name": role.Name, "Description": role.Description,
		"Policies": role.Policies, "ServiceIdentities": role.ServiceIdentities, "NodeIdentities": role.NodeIdentities,
	})
	if err != nil {
		return refuse(err.Error())
	}
	return view{to: "access", code: http.StatusSeeOther}, nil
}

// saveAccess makes or changes what is at an API's path.
func (r *request) saveAccess(path string, in map[string]any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return r.call(http.MethodPut, path, nil, body, nil)
}

// deleteAccess deletes what is at an API's path, once that is confirmed. pairs are the
// form's fields, in turn.
func (r *request) deleteAccess(page, path, title, text, button string, pairs ...string) (view, error) {
	if r.PostFormValue("sure") == "" {
		return r.sure(page, title, text, button, append(pairs, "do", "delete")...), nil
	}
	if err := r.call(http.MethodDelete, path, nil, nil, nil); err != nil {
		return view{}, err
	}
	return view{to: "access", code: http.StatusSeeOther}, nil
}

// serviceIdentities reads lines of a service's name and, after spaces, the datacenters
// that it counts in; without any it counts everywhere.
func serviceIdentities(text string) []api.ServiceIdentity {
	var out []api.ServiceIdentity
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 0 {
			out = append(out, api.ServiceIdentity{ServiceName: f[0], Datacenters: f[1:]})
		}
	}
	return out
}

// nodeIdentities reads lines of a node's name and its datacenter.
func nodeIdentities(text string) ([]api.NodeIdentity, error) {
	var out []api.NodeIdentity
	for line := range strings.Lines(text) {
		switch f := strings.Fields(line); len(f) {
		case 0:
		case 2:
			out = append(out, api.NodeIdentity{NodeName: f[0], Datacenter: f[1]})
		default:
			return out, api.Errorf(api.Invalid, "%q shall be a node and its datacenter, with a space between", strings.TrimSpace(line))
		}
	}
	return out, nil
}

func serviceLines(all []api.ServiceIdentity) string {
	var out []string
	for _, s := range all {
		out = append(out, strings.Join(append([]string{s.ServiceName}, s.Datacenters...), " "))
	}
	return strings.Join(out, "\n")
}

func nodeLines(all []api.NodeIdentity) string {
	var out []string
	for _, n := range all {
		out = append(out, n.NodeName+" "+n.Datacenter)
	}
	return strings.Join(out, "\n")
}

func roleTitle(role *api.Role) string {
	if role.ID == "" {
		return "New role"
	}
	return role.Name
}

// has reports whether a policy is among links.
func has(links []api.Link, p *api.PolicyEntry) bool {
	for _, l := range links {
		if l.ID == p.ID || l.ID == "" && l.Name == p.Name {
			return true
		}
	}
	return false
}

// roleHas are a role's policies and identities, in words.
func roleHas(x *api.Role) string {
	var out []string
	if len(x.Policies) > 0 {
		out = append(out, names(x.Policies))
	}
	for _, s := range x.ServiceIdentities {
		out = append(out, "service "+s.ServiceName)
	}
	for _, n := range x.NodeIdentities {
		out = append(out, "node "+n.NodeName)
	}
	return strings.Join(out, ", ")
}
