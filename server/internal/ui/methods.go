package ui

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// methodForm is an auth method as its form has it. Texts stay as they were typed.
type methodForm struct {
	fresh                         bool
	name, kind, display, describe string
	ttl, locality, config         string
}

func methodPage(r *request) (view, error) {
	f := methodForm{fresh: true, kind: "jwt", locality: "local", config: "{\n    \"OIDCDiscoveryURL\": \"https://\",\n    \"BoundAudiences\": []\n}"}
	if name := r.FormValue("name"); name != "" {
		var m api.AuthMethod
		if err := r.get("/v1/acl/auth-method/"+name, nil, &m); err != nil {
			return view{}, err
		}
		var text bytes.Buffer
		if err := json.Indent(&text, m.Config, "", "    "); err != nil {
			return view{}, err
		}
		f = methodForm{name: m.Name, kind: m.Type, display: m.DisplayName, describe: m.Description, locality: m.TokenLocality, config: text.String()}
		if m.MaxTokenTTL != 0 {
			f.ttl = m.MaxTokenTTL.String()
		}
	}
	return r.methodView(f, "", 0), nil
}

func (r *request) methodView(f methodForm, fault string, code int) view {
	return view{title: f.title(), body: oneMethod(r, f, fault), code: code}
}

func (f methodForm) title() string {
	if f.fresh {
		return "New auth method"
	}
	return f.name
}

// methodPost saves or deletes an auth method.
func methodPost(r *request) (view, error) {
	f := methodForm{
		fresh: r.PostFormValue("fresh") != "", name: strings.TrimSpace(r.PostFormValue("name")), kind: strings.TrimSpace(r.PostFormValue("type")),
		display: r.PostFormValue("display"), describe: r.PostFormValue("description"), ttl: strings.TrimSpace(r.PostFormValue("ttl")),
		locality: r.PostFormValue("locality"), config: strings.ReplaceAll(r.PostFormValue("config"), "\r\n", "\n"),
	}
	path := "/v1/acl/auth-method"
	if !f.fresh {
		path += "/" + f.name
	}
	if r.PostFormValue("do") == "delete" {
		return r.deleteAccess("method", path, "Delete the auth method "+f.name+"?", "Its binding rules, and every token that a login over it gave, go with it, at once.", "Delete the auth method", "name", f.name)
	}
	refuse := func(fault string) (view, error) {
		return r.methodView(f, "Not saved: "+fault, http.StatusUnprocessableEntity), nil
	}
	if err := valid("JSON", f.config); err != nil {
		return refuse("the configuration is no JSON: " + err.Error())
	}
	in := map[string]any{"Name": f.name, "Type": f.kind, "DisplayName": f.display, "Description": f.describe, "TokenLocality": f.locality, "Config": json.RawMessage(f.config)}
	if f.ttl != "" {
		in["MaxTokenTTL"] = f.ttl
	}
	if err := r.saveAccess(path, in); err != nil {
		return refuse(err.Error())
	}
	return view{to: "access", code: http.StatusSeeOther}, nil
}

// bindTypes are what a rule may bind to, with what that means.
var bindTypes = []entry{
	{api.BindService, "the identity of a service"}, {api.BindNode, "the identity of a node"}, {api.BindRole, "a role"}, {api.BindPolicy, "a policy"},
}

func rulePage(r *request) (view, error) {
	b := api.BindingRule{AuthMethod: r.FormValue("method")}
	if id := r.FormValue("id"); id != "" {
		if err := r.get("/v1/acl/binding-rule/"+id, nil, &b); err != nil {
			return view{}, err
		}
	}
	return r.ruleView(&b, "", 0)
}

func (r *request) ruleView(b *api.BindingRule, fault string, code int) (view, error) {
	var methods []*api.AuthMethodEntry
	if err := r.get("/v1/acl/auth-methods", nil, &methods); err != nil {
		return view{}, err
	}
	return view{title: ruleTitle(b), body: oneRule(r, b, methods, fault), code: code}, nil
}

func ruleTitle(b *api.BindingRule) string {
	if b.ID == "" {
		return "New binding rule"
	}
	return "Binding rule " + short(b.ID)
}

// rulePost saves or deletes a binding rule.
func rulePost(r *request) (view, error) {
	b := api.BindingRule{
		ID: r.PostFormValue("id"), Description: r.PostFormValue("description"), AuthMethod: r.PostFormValue("method"),
		Selector: strings.TrimSpace(r.PostFormValue("selector")), BindType: r.PostFormValue("type"), BindName: strings.TrimSpace(r.PostFormValue("bind")),
	}
	path := "/v1/acl/binding-rule"
	if b.ID != "" {
		path += "/" + b.ID
	}
	if r.PostFormValue("do") == "delete" {
		return r.deleteAccess("rule", path, "Delete the binding rule "+short(b.ID)+"?", "Logins to come are no longer given what it gives; tokens that were given it keep it until they end.", "Delete the binding rule", "id", b.ID)
	}
	err := r.saveAccess(path, map[string]any{
		"ID": b.ID, "Description": b.Description, "AuthMethod": b.AuthMethod, "Selector": b.Selector, "BindType": b.BindType, "BindName": b.BindName,
	})
	if err != nil {
		return r.ruleView(&b, "Not saved: "+err.Error(), http.StatusUnprocessableEntity)
	}
	return view{to: "access", code: http.StatusSeeOther}, nil
}
