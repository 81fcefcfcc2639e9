package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	consul "github.com/hashicorp/consul/api"
)

const management = "11111111-2222-3333-4444-555555555555"

// startGuarded starts a server with the page and access control, and logs a tab in with
// the management token.
func startGuarded(t *testing.T) (*agent, *consul.Client, *tab) {
	t.Helper()
	a := startAgent(t, "server-host", options{}, "-server", "-bootstrap-expect=1", "-ui", `-hcl=acl { enabled = true default_policy = "deny" tokens { initial_management = "`+management+`" agent = "`+management+`" } }`)
	c := clientOf(t, a, management)
	eventually(t, soon, "access control is up", func() error { _, _, err := c.ACL().TokenReadSelf(nil); return err })
	b := openTab(t, a)
	b.login(management)
	return a, c, b
}

// TestUIRolesMethodsAndRules: each is made, changed and deleted by its form, which refuses
// what is bad and keeps what was typed.
func TestUIRolesMethodsAndRules(t *testing.T) {
	a, c, b := startGuarded(t)
	b.pardon("status of 422")
	if _, _, err := c.ACL().PolicyCreate(&consul.ACLPolicy{Name: "web", Rules: `service "web" { policy = "read" }`}, nil); err != nil {
		t.Fatal(err)
	}
	refused := func(what, want string) {
		t.Helper()
		if got := b.texts("#fault"); len(got) != 1 || !strings.HasPrefix(got[0], "Not saved:") || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q", what, got)
		}
	}
	b.open("role")
	b.fill("#name", "shop")
	b.fill("#nodes", "alder")
	b.click("input[value=web]")
	b.submit("button.first")
	refused("a node without a datacenter", "datacenter")
	b.until("what was typed stays", `document.querySelector("#name").value === "shop" && document.querySelector("input[value=web]").checked`)
	b.fill("#nodes", "alder dc1")
	b.fill("#services", "cart\napi dc1")
	b.fill("#description", hostile)
	b.accessible("role")
	b.submit("button.first")
	role, _, err := c.ACL().RoleReadByName("shop", nil)
	if err != nil || role == nil {
		t.Fatal(role, err)
	}
	if len(role.Policies) != 1 || len(role.NodeIdentities) != 1 || len(role.ServiceIdentities) != 2 || role.Description != hostile {
		t.Errorf("role %+v", role)
	}
	b.open(query("role", "id", role.ID))
	b.inert("role")
	b.click("input[value=web]")
	b.submit("button.first")
	if role, _, err = c.ACL().RoleRead(role.ID, nil); err != nil || len(role.Policies) != 0 || len(role.NodeIdentities) != 1 || len(role.ServiceIdentities) != 2 {
		t.Errorf("the changed role %+v, %v", role, err)
	}

	b.open("method")
	b.fill("#name", "ci")
	b.fill("#config", `{"JWKSURL": }`)
	b.submit("button.first")
	refused("a method of bad JSON", "no JSON: line 1")
	b.fill("#config", `{"ListClaimMappings": {"groups": "groups"}}`)
	b.submit("button.first")
	refused("a method without keys", "")
	b.fill("#config", `{"JWKSURL": "https://ci.example.com/keys", "ListClaimMappings": {"groups": "groups"}}`)
	b.fill("#ttl", "soon")
	b.submit("button.first")
	refused("a time that is none", "")
	b.fill("#ttl", "1h")
	b.accessible("method")
	b.submit("button.first")
	method, _, err := c.ACL().AuthMethodRead("ci", nil)
	if err != nil || method == nil || method.MaxTokenTTL != time.Hour {
		t.Fatalf("method %+v, %v", method, err)
	}
	b.open("method?name=ci")
	b.fill("#description", hostile)
	b.submit("button.first")
	if method, _, err = c.ACL().AuthMethodRead("ci", nil); err != nil || method.Description != hostile || method.Config["JWKSURL"] != "https://ci.example.com/keys" {
		t.Errorf("the changed method %+v, %v", method, err)
	}

	b.open("rule")
	b.fill("#bind", "shop")
	b.run(chromedp.SetValue("#type", "role", chromedp.ByQuery))
	b.fill("#selector", `list.groups ===`)
	b.submit("button.first")
	refused("a bad selector", "elector")
	b.fill("#selector", `"deployers" in list.groups`)
	b.accessible("rule")
	b.submit("button.first")
	rules, _, err := c.ACL().BindingRuleList("ci", nil)
	if err != nil || len(rules) != 1 || rules[0].BindName != "shop" || string(rules[0].BindType) != "role" {
		t.Fatalf("rules %+v, %v", rules, err)
	}
	b.open(query("rule", "id", rules[0].ID))
	b.fill("#description", hostile)
	b.submit("button.first")
	b.accessible("access")
	b.inert("access")

	// what is deleted is asked about first; the list is live
	other := openTab(t, a)
	other.login(management)
	other.open("access")
	for _, gone := range []struct{ page, row string }{{query("rule", "id", rules[0].ID), "b-" + rules[0].ID}, {"method?name=ci", "m-ci"}, {query("role", "id", role.ID), "o-" + role.ID}} {
		there := `document.getElementById(` + quote(gone.row) + `)`
		other.until(gone.row+" is listed", there+` !== null`)
		b.open(gone.page)
		b.submit("button.danger")
		if got := b.texts("h1"); !strings.HasPrefix(got[0], "Delete the ") {
			t.Errorf("before deleting %s: %q", gone.page, got)
		}
		other.until(gone.row+" is there until that is confirmed", there+` !== null`)
		b.submit("button.danger")
		other.until(gone.row+" is gone", there+` === null`)
	}
}
