package e2e

import (
	"fmt"
	"html"
	"strings"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// TestUIWithoutScript: every page has its content before any script runs.
func TestUIWithoutScript(t *testing.T) {
	a, c := startUI(t)
	fillHouse(t, c)
	for page, want := range map[string][]string{
		"":                                {"alder", "dogwood", "postgres", "1 instance critical", "served by nginx on alder", "What changed"},
		"services":                        {"web", "api", "postgres", "mailer"},
		"services?status=warning":         {"mailer"},
		"service?name=web":                {"web-0", "web-3", "503 Service Unavailable", "3 of 4"},
		"instance?node=cedar&id=web-2":    {"503 Service Unavailable", "shop/web"},
		"nodes":                           {"alder", "server-host"},
		"node?name=cedar":                 {"web-2", "mailer-2"},
		"kv?at=app/":                      {"config.json", "features/"},
		"key?key=app/config.json":         {`{"level": "info"}`},
		"sessions":                        {"migrations"},
		"queries":                         {"web-near"},
		"events":                          {"deploy", "web 2026.11.2"},
		"access":                          {"Access control is off"},
		"agents":                          {"templater", "3 of 4", "behind for"},
		"cluster":                         {"server-host leads", "Restore a snapshot"},
		"instance?node=nobody&id=nothing": {"There is no instance"},
	} {
		eventually(t, soon, page+" has its content", func() error {
			_, body, err := get(a.url + "/ui/" + page)
			if err != nil {
				return err
			}
			body = html.UnescapeString(body)
			for _, w := range want {
				if !strings.Contains(body, w) {
					return fmt.Errorf("%q is not on the page", w)
				}
			}
			return nil
		})
	}
}

// TestUITwoDatacenters: the page of one shows the other when that is chosen, and what is
// written there.
func TestUITwoDatacenters(t *testing.T) {
	one, c := startUI(t)
	two := startAgent(t, "two", options{}, "-server", "-bootstrap-expect=1", "-datacenter=dc2")
	two.awaitLeader()
	there := clientOf(t, two, "")
	place(t, c, "alder", "here", "here-1", "passing", "ok")
	place(t, there, "birch", "there", "there-1", "passing", "ok")
	if err := c.Agent().Join(two.wan, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "each knows the other", func() error {
		dcs, err := c.Catalog().Datacenters()
		if err == nil && len(dcs) != 2 {
			err = fmt.Errorf("datacenters %q", dcs)
		}
		if err == nil {
			_, _, err = c.Catalog().Services(&consul.QueryOptions{Datacenter: "dc2"})
		}
		return err
	})
	b := openTab(t, one)
	b.open("services")
	b.until("its own services", `document.querySelector("main").innerText.includes("here") && !document.querySelector("main").innerText.includes("there")`)
	b.eval(`document.querySelector("[name=dc]").value = "dc2"`, nil)
	b.submit(".foot form.row button")
	b.open("services")
	b.until("the other's services", `document.querySelector("main").innerText.includes("there") && !document.querySelector("main").innerText.includes("here-1")`)
	b.until("it says where that is", `document.querySelector(".where b").innerText === "dc2"`)
	b.open("cluster")
	if got := strings.Join(b.texts("tbody tr:first-child > *"), "|"); !strings.Contains(got, "two") || !strings.Contains(got, "0.1.0") {
		t.Errorf("the other's server: %q", got)
	}
	if got := b.texts(".copied code"); len(got) != 2 || !strings.Contains(got[0], "/v1/snapshot?dc=dc2'") || got[1] != "rollcall snapshot restore -datacenter=dc2 rollcall.snap" {
		t.Errorf("lines for the other's snapshots: %q", got)
	}
	b.accessible("other-cluster")
	place(t, there, "birch", "there", "there-2", "critical", "because")
	b.open("service?name=there")
	b.until("with what is critical", `document.querySelectorAll("tbody tr").length === 2 && document.querySelector(".lines").innerText.includes("there.service.dc2.consul")`)
	place(t, there, "birch", "there", "there-3", "passing", "ok")
	b.until("it is live", `document.querySelectorAll("tbody tr").length === 3`)
	b.open("key?key=a&new=1")
	b.fill("#value", "far away")
	b.submit("button.first")
	p, _, err := there.KV().Get("a", nil)
	if err != nil || p == nil || string(p.Value) != "far away" {
		t.Errorf("the other's key: %+v, %v", p, err)
	}
	if p, _, err := c.KV().Get("a", nil); err != nil || p != nil {
		t.Errorf("our own key: %+v, %v", p, err)
	}
	b.eval(`document.querySelector("[name=dc]").value = "dc1"`, nil)
	b.submit(".foot form.row button")
	b.open("services")
	b.until("back at home", `document.querySelector("main").innerText.includes("here")`)
}

// TestUIOfAClientAgent: a client agent serves the same pages, live, over a server.
func TestUIOfAClientAgent(t *testing.T) {
	server := startServer(t)
	client := startAgent(t, "client", options{}, "-ui", "-retry-join="+server.lan)
	client.awaitLeader()
	c := clientOf(t, server, "")
	place(t, c, "alder", "web", "web-1", "passing", "ok")
	b := openTab(t, client)
	b.open("")
	b.until("the instance is on the map", `document.querySelector(".line[title=web-1]") !== null`)
	place(t, c, "alder", "web", "web-1", "critical", "because")
	b.until("it is live", `document.querySelector(".line.critical[title=web-1]") !== null && document.querySelector(".record").innerText.includes("probe: because")`)
	b.open("nodes")
	if got := b.texts("tbody td:nth-child(3)"); fmt.Sprint(got) != "[external client leader]" {
		t.Errorf("roles of alder, client and server-host: %q", got)
	}
	b.accessible("client-nodes")
	b.open("cluster")
	if got := b.texts("h1"); got[0] != "server-host leads, all is well" {
		t.Errorf("the cluster's headline: %q", got)
	}
	b.open("key?key=a&new=1")
	b.fill("#value", "1")
	b.submit("button.first")
	if p, _, err := c.KV().Get("a", nil); err != nil || p == nil || string(p.Value) != "1" {
		t.Errorf("a key that was written here: %+v, %v", p, err)
	}
}

// TestUIGivesRoomToNames: on a phone a long name is not squeezed beside its bar; where there
// is room, addresses stay in one piece beside whatever else is long.
func TestUIGivesRoomToNames(t *testing.T) {
	a, c := startUI(t)
	name := "svc-with-a-rather-long-name-number-10"
	place(t, c, "alder", name, name+"-of-many-more", "critical", strings.Repeat("a long story ", 20))
	place(t, c, "alder", "web", "web-1", "critical", "because")
	lines := `((e) => { const r = document.createRange(); r.selectNodeContents(e); return new Set([...r.getClientRects()].map((c) => c.top)).size; })`
	b := openTab(t, a)
	b.look(false, 390, 844)
	b.open("services")
	var got int
	if b.eval(lines+`([...document.querySelectorAll("tbody th a")].find((e) => e.textContent === `+quote(name)+`))`, &got); got > 2 {
		t.Errorf("a name of %d characters takes %d lines of a phone", len(name), got)
	}
	for _, width := range []int64{1440, 1000} {
		b.look(false, width, 900)
		b.open("node?name=alder")
		if b.eval(`Math.max(...[...document.querySelectorAll("td.at")].map(`+lines+`))`, &got); got != 1 {
			t.Errorf("an address takes %d lines of a screen %d wide", got, width)
		}
		if b.eval(`Math.round(Math.max(...[...document.querySelectorAll("td.why span")].map((e) => e.clientHeight / parseFloat(getComputedStyle(e).lineHeight))))`, &got); got != 1 {
			t.Errorf("a cause takes %d lines of a screen %d wide", got, width)
		}
	}
}

// TestUIMissingPages: a page of what is not there is fetched once, until it is there.
func TestUIMissingPages(t *testing.T) {
	a, c := startUI(t)
	place(t, c, "alder", "web", "web-1", "passing", "ok")
	b := openTab(t, a)
	b.pardon("status of 404")
	fetched := func(page string) int {
		b.mu.Lock()
		defer b.mu.Unlock()
		n := 0
		for _, r := range b.requests {
			if r == b.base+page {
				n++
			}
		}
		return n
	}
	for _, page := range []string{"service?name=nope", "node?name=nope", "instance?id=nope&node=alder"} {
		b.open(page)
		// the stream is opened anew, and its first word takes the mark away
		b.eval(`document.documentElement.classList.add("lost"); document.dispatchEvent(new Event("visibilitychange"))`, nil)
		b.until("it hears of changes", `!document.documentElement.classList.contains("lost")`)
		if n := fetched(page); n != 1 {
			t.Errorf("%s is fetched %d times", page, n)
		}
	}
	b.open("nope")
	b.until("what can never be hears of none", `document.body.dataset.live === ""`)
	b.open("service?name=nope")
	place(t, c, "alder", "nope", "nope-1", "passing", "ok")
	b.until("it is there now", `document.querySelectorAll("tbody tr").length === 1`)
	if _, err := c.Catalog().Deregister(&consul.CatalogDeregistration{Node: "alder"}, nil); err != nil {
		t.Fatal(err)
	}
	b.until("and gone again", `document.querySelector("h1").innerText.includes("nope") && !document.querySelector("tbody")`)
	place(t, c, "alder", "nope", "nope-1", "passing", "ok")
	b.until("and there once more", `document.querySelectorAll("tbody tr").length === 1`)
}
