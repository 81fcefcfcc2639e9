package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	consul "github.com/hashicorp/consul/api"
)

var screenshots = flag.String("screenshots", "", "folder for pictures of every page: make screenshots")

// TestScreenshots takes every page in both themes, and as on a phone; with access control
// on those about it, and what a token that may do little sees.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("pictures go where -screenshots says: make screenshots")
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	server, c := startUI(t)
	h := startHouse(t, server, "-announce")
	fillHouse(t, c)
	one := h.engine.web("shop")
	eventually(t, 20*time.Second, "nginx serves the shop", h.wantServed("shop", one, h.engine.web("shop")))
	b := openTab(t, server)
	b.open("")
	b.until("the way is complete", `document.querySelector(".record").innerText.includes("serves it")`)
	for _, page := range append(everyPage, "agents") {
		b.shoot("", page)
	}
	b.open("")
	b.click(".line:has(.served)")
	b.until("a tile is open", `document.querySelector("#peek").open`)
	b.pictures("tile")
	b.open("services")
	b.run(chromedp.KeyEvent("?"))
	b.pictures("help")
	b.pardon("status of 409", "status of 403", "status of 404", "status of 500")
	b.open("key?key=app/config.json")
	if _, err := c.KV().Put(&consul.KVPair{Key: "app/config.json", Value: []byte(`{"level": "debug"}`)}, nil); err != nil {
		t.Fatal(err)
	}
	b.submit("button.first")
	b.pictures("conflict")
	b.submit("button.danger")
	b.pictures("delete")
	sessions, _, err := c.Session().List(nil)
	if err != nil {
		t.Fatal(err)
	}
	b.shoot("", query("session", "id", sessions[0].ID))
	b.shoot("missing-", "service?name=nobody")

	_, c, b = startGuarded(t)
	b.pardon("status of 403", "status of 404", "status of 500")
	fillHouse(t, c)
	rules := `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`
	looks, _, err := c.ACL().PolicyCreate(&consul.ACLPolicy{Name: "looks", Description: "sees services and nodes", Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	some, _, err := c.ACL().TokenCreate(&consul.ACLToken{Description: "the wall in the hall", Policies: []*consul.ACLLink{{Name: "looks"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"access", query("token", "id", some.AccessorID, "about", "web"), query("policy", "id", looks.ID), "role", "method"} {
		b.shoot("guarded-", page)
	}
	b.login(some.SecretID)
	for _, page := range append(everyPage, "agents") {
		b.shoot("limited-", page)
	}
	b.submit("form[action$=logout] button")
	for _, page := range []string{"", "services", "nodes", "kv", "cluster", "agents"} {
		b.shoot("nobody-", page)
	}
}

// shoot takes a page's pictures, under its own name after a beginning.
func (b *tab) shoot(begin, page string) {
	b.t.Helper()
	name, _, _ := strings.Cut(page, "?")
	if name == "" {
		name = "now"
	}
	b.open(page)
	b.until("it is live", `document.documentElement.classList.contains("scripted")`)
	if page == "cluster" && begin == "" {
		b.until("its charts have lines", `document.querySelector(".chart path").getAttribute("d").split("L").length > 3`)
	}
	b.pictures(begin + name)
}

// pictures takes what is shown in every look.
func (b *tab) pictures(name string) {
	b.t.Helper()
	for _, look := range looks {
		b.look(look.dark, look.width, 900)
		b.eval(`scrollTo(0, 0)`, nil)
		b.eval(`(async () => { while (document.getAnimations().length) await new Promise(requestAnimationFrame); })()`, nil)
		var png []byte
		if look.name == "phone" {
			b.run(chromedp.FullScreenshot(&png, 100))
		} else {
			b.run(chromedp.CaptureScreenshot(&png))
		}
		if err := os.WriteFile(filepath.Join(*screenshots, name+"-"+look.name+".png"), png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	b.look(false, 1440, 900)
}
