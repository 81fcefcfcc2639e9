package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/announce"
)

// hostile is text that would run if a page did not escape it.
const hostile = `"><script>window.hacked=1</script><img src=x onerror="window.hacked=1">'{{1}}`

// startUI starts a server with the page, and gives a client of it.
func startUI(t testing.TB, args ...string) (*agent, *consul.Client) {
	t.Helper()
	a := startServer(t, append([]string{"-ui"}, args...)...)
	return a, clientOf(t, a, "")
}

func clientOf(t testing.TB, a *agent, token string) *consul.Client {
	t.Helper()
	c, err := consul.NewClient(&consul.Config{Address: a.http, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// placePort gives every instance id a port, mostly of its own.
func placePort(id string) int { return 8000 + int(crc32.ChecksumIEEE([]byte(id))%1000) }

// announced keeps a report of a program of the suite in the catalog, as the program does.
func announced(t testing.TB, c *consul.Client, r announce.Report) {
	t.Helper()
	session, _, err := c.Session().CreateNoChecks(&consul.SessionEntry{Name: r.Kind, Behavior: consul.SessionBehaviorDelete}, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := c.KV().Acquire(&consul.KVPair{Key: announce.Prefix + r.Kind + "/" + r.Node, Value: body, Session: session}, nil); err != nil || !ok {
		t.Fatal(ok, err)
	}
}

// place registers an instance with one check.
func place(t testing.TB, c *consul.Client, node, service, id, status, output string) {
	t.Helper()
	reg := &consul.CatalogRegistration{
		Node: node, Address: "10.1.1.1",
		Service: &consul.AgentService{ID: id, Service: service, Port: placePort(id), Tags: []string{"v1"}, Meta: map[string]string{"image": "shop/" + service}},
		Check:   &consul.AgentCheck{Node: node, CheckID: "c-" + id, Name: "probe", ServiceID: id, Status: status, Output: output},
	}
	if _, err := c.Catalog().Register(reg, nil); err != nil {
		t.Fatal(err)
	}
}

// TestUIShowsTheCatalog: what pages show is what the API answers, whatever it is, and
// nothing in it runs.
func TestUIShowsTheCatalog(t *testing.T) {
	a, c := startUI(t)
	place(t, c, "alder", "web", "web-1", "passing", "ok")
	place(t, c, "alder", "web", "web-2", "critical", "connection refused\nby 10.1.1.1")
	place(t, c, "birch", "api", "api-1", "warning", "slow")
	evil := &consul.CatalogRegistration{
		Node: "n" + hostile, Address: hostile, NodeMeta: map[string]string{"meta": hostile},
		Service: &consul.AgentService{ID: hostile, Service: "s" + hostile, Address: hostile, Tags: []string{hostile}, Meta: map[string]string{"meta": hostile}},
		Check:   &consul.AgentCheck{Node: "n" + hostile, CheckID: hostile, Name: hostile, ServiceID: hostile, Status: "critical", Output: hostile, Notes: hostile},
	}
	if _, err := c.Catalog().Register(evil, nil); err != nil {
		t.Fatal(err)
	}
	b := openTab(t, a)
	inert := func(page string) {
		t.Helper()
		var hacked bool
		var scripts int
		b.eval(`!!window.hacked`, &hacked)
		b.eval(`document.querySelectorAll("script, main img").length`, &scripts)
		if hacked || scripts != 1 {
			t.Errorf("%s: something of the catalog runs (%t, %d scripts)", page, hacked, scripts)
		}
	}

	b.open("services")
	b.until("all services are listed", `document.querySelectorAll("tbody tr").length === 4`)
	names, _, err := c.Catalog().Services(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := b.texts("tbody th"), slices.Sorted(maps.Keys(names)); !slices.Equal(got, want) {
		t.Errorf("services %q, want %q", got, want)
	}
	inert("services")

	for name := range names {
		b.open(query("service", "name", name))
		list, _, err := c.Health().Service(name, "", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, e := range list {
			want = append(want, e.Service.ID)
		}
		got := b.texts("tbody th")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("instances of %s: %q, want %q", name, got, want)
		}
		inert("service")
		for _, e := range list {
			b.open(query("instance", "node", e.Node.Node, "id", e.Service.ID))
			if got := b.texts(".checks b"); len(got) != len(e.Checks) {
				t.Errorf("checks of %s: %q, want %d", e.Service.ID, got, len(e.Checks))
			}
			for _, out := range b.texts(".checks pre") {
				if !slices.ContainsFunc(e.Checks, func(k *consul.HealthCheck) bool { return strings.TrimSpace(k.Output) == out }) {
					t.Errorf("%s shows the output %q", e.Service.ID, out)
				}
			}
			inert("instance")
		}
	}

	b.open("nodes")
	nodes, _, err := c.Catalog().Nodes(nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range nodes {
		want = append(want, n.Node)
	}
	slices.Sort(want)
	if got := b.texts("tbody th"); !slices.Equal(got, want) {
		t.Errorf("nodes %q, want %q", got, want)
	}
	inert("nodes")
	for _, n := range want {
		b.open(query("node", "name", n))
		if got := b.texts("h1"); len(got) != 1 || got[0] != n {
			t.Errorf("node's page is headed %q, want %q", got, n)
		}
		inert("node")
	}
	b.open("")
	if got := b.texts(".host h2"); !slices.Equal(got, want) {
		t.Errorf("the map has %q, want %q", got, want)
	}
	if got := b.texts("h1"); got[0] != "2 instances critical" {
		t.Errorf("headline %q", got)
	}
	inert("now")

	// search and filters narrow the list, and a bad filter says what is wrong
	for page, want := range map[string][]string{
		query("services", "q", "WE"):                                         {"web"},
		query("services", "status", "warning"):                               {"api"},
		query("services", "node", "alder"):                                   {"web"},
		query("services", "filter", `Service.Meta.image == "shop/api"`):      {"api"},
		query("services", "node", "birch", "filter", `"v1" in Service.Tags`): {"api"},
	} {
		b.open(page)
		if got := b.texts("tbody th"); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", page, got, want)
		}
	}
	b.pardon("status of 400")
	b.open(query("services", "filter", "Name ==="))
	if got := b.texts("#fault"); len(got) != 1 || !strings.Contains(got[0], "Name ===") {
		t.Errorf("a bad filter: %q", got)
	}
}

// TestUIIsLive: a change of the catalog comes to an open page by itself; how soon is
// reported, and meant to be within half a second.
func TestUIIsLive(t *testing.T) {
	a, c := startUI(t)
	b := openTab(t, a)
	b.open("")
	b.until("the server is on the map", `document.querySelectorAll(".host").length === 1`)
	b.eval(`window.seen = {}; new MutationObserver(() => {
		for (const e of document.querySelectorAll(".line")) { const k = e.title + " " + e.dataset.state; if (!seen[k]) seen[k] = Date.now(); }
	}).observe(document.querySelector("main"), {subtree: true, childList: true, attributes: true}); true`, nil)
	var took []time.Duration
	change := func(id, status string) {
		place(t, c, "alder", "web", id, status, "because")
		done := time.Now()
		key := quote(id + " " + status)
		b.until(id+" is "+status+" on the page", `seen[`+key+`] > 0`)
		var at float64
		b.eval(`seen[`+key+`]`, &at)
		took = append(took, time.UnixMilli(int64(at)).Sub(done))
	}
	for n := range 4 {
		id := fmt.Sprintf("web-%d", n)
		change(id, "passing")
		change(id, "critical")
	}
	slices.Sort(took)
	t.Logf("from the answer to a write until the page shows it: median %v of %v", took[len(took)/2], took)
	// the record tells it, with its cause, the newest first
	b.until("the record tells the last change", `document.querySelector(".record li")?.innerText.includes("web-3 critical")`)
	if got := b.texts(".record li:first-child .cause"); len(got) != 1 || got[0] != "probe: because" {
		t.Errorf("cause %q", got)
	}
	// a tile opens why
	b.click(".line.critical")
	b.until("the look at one instance is open", `document.querySelector("#peek").open && document.querySelector("#peek pre").textContent === "because"`)
	place(t, c, "alder", "web", "web-0", "passing", "well again")
	b.until("it is live, too", `document.querySelector("#peek .state").textContent.includes("passing")`)
}

// audit is an accessibility check: contrast as WCAG 2 AA wants it, names of everything that
// can be used, headings in order, focus in the order of the page. It gives what is wrong.
const audit = `(() => {
	const wrong = [];
	const say = (e, what) => wrong.push(what + ": " + (e.outerHTML || "").slice(0, 120));
	const seen = (e) => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && !e.closest(".out-of-sight, .skip");
	const rgba = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
	const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
	const ground = (e) => {
		const layers = [];
		for (let n = e; n; n = n.parentElement) layers.push(rgba(getComputedStyle(n).backgroundColor));
		return layers.reverse().reduce((under, l) => over(l, under), [255, 255, 255, 1]);
	};
	const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	const done = new Set();
	for (let n = texts.nextNode(); n; n = texts.nextNode()) {
		const e = n.parentElement;
		if (!n.nodeValue.trim() || done.has(e) || !seen(e)) continue;
		done.add(e);
		const style = getComputedStyle(e), back = ground(e), fore = over(rgba(e.closest("svg") ? style.fill : style.color), back);
		const [a, b] = [light(fore), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
		const big = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && +style.fontWeight >= 700;
		if (ratio < (big ? 3 : 4.5)) say(e, "contrast " + ratio.toFixed(2));
	}
	const nameOf = (e) => e.getAttribute("aria-label") || [...(e.labels || [])].map((l) => l.textContent).join("") || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent || (e.matches("input, select, textarea") ? "" : e.textContent) || e.title || "";
	for (const e of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, [role=img], dialog, nav, [role=search] input")) if (seen(e) && !nameOf(e).trim()) say(e, "no name");
	for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) say(e, "takes focus out of order");
	for (const e of document.querySelectorAll("th")) if (!e.scope) say(e, "a heading of no column or row");
	const ids = new Set();
	for (const e of document.querySelectorAll("[id]")) { if (ids.has(e.id)) say(e, "the id stands twice"); ids.add(e.id); }
	let level = 0;
	for (const e of document.querySelectorAll("h1, h2, h3, h4")) {
		if (!seen(e)) continue;
		if (+e.nodeName[1] > level + 1) say(e, "a heading skips a level");
		level = +e.nodeName[1];
	}
	if (document.querySelectorAll("h1").length !== 1) say(document.body, document.querySelectorAll("h1").length + " main headings");
	if (!document.documentElement.lang || !document.querySelector("main") || !document.title) say(document.documentElement, "no language, main part or title");
	const root = document.documentElement; // innerWidth would grow with what is too wide
	if (root.scrollWidth > root.clientWidth) say(document.body, "scrolls sideways: " + root.scrollWidth + " in " + root.clientWidth);
	for (const e of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")) {
		if (!seen(e)) continue;
		e.scrollIntoView({ block: "center", inline: "center" });
		const at = e.getClientRects()[0], on = at && document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2);
		if (on && !e.contains(on) && !on.contains(e) && !on.closest("label")?.contains(e)) say(e, "something lies on it: " + on.outerHTML.slice(0, 60));
		e.focus({ focusVisible: true });
		if (document.activeElement !== e) say(e, "cannot be reached by keys");
		else if (getComputedStyle(e).outlineStyle === "none") say(e, "does not show that it has the focus");
	}
	return wrong;
})()`

// TestUIIsAccessible looks at every page in both themes and at the width of a phone.
func TestUIIsAccessible(t *testing.T) {
	a, c := startUI(t)
	fillHouse(t, c)
	b := openTab(t, a)
	for _, page := range append(everyPage, "agents") {
		b.open(page)
		for _, look := range []struct {
			dark  bool
			width int64
		}{{false, 1440}, {true, 1440}, {false, 360}} {
			b.look(look.dark, look.width, 900)
			var wrong []string
			// what just changed glows for a moment, and is looked at after that
			b.eval(`(async () => { while (document.getAnimations().length) await new Promise(requestAnimationFrame); return `+audit+`; })()`, &wrong)
			for _, w := range wrong {
				t.Errorf("%q (dark %t, %d wide): %s", page, look.dark, look.width, w)
			}
		}
	}
	// the first Tab offers to skip the navigation, and a search is one key away
	b.look(false, 1440, 900)
	b.open("services")
	b.run(chromedp.KeyEvent(kb.Tab))
	b.until("the first stop skips the navigation", `document.activeElement.matches(".skip")`)
	b.run(chromedp.KeyEvent("/"))
	b.until("/ goes to the search", `document.activeElement.matches("[data-search]")`)
	b.run(chromedp.KeyEvent(kb.ArrowDown))
	b.until("an arrow goes from there to what was found", `document.activeElement === document.querySelectorAll("[data-row]")[0]`)
	b.run(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowUp), chromedp.KeyEvent("/"))
	b.until("and back to the search", `document.activeElement.matches("[data-search]")`)
	b.run(chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent("j"), chromedp.KeyEvent("j"))
	b.until("j moves down the list", `document.activeElement === document.querySelectorAll("[data-row]")[1]`)
	b.run(chromedp.KeyEvent("?"))
	b.until("? helps", `document.querySelector("#shortcuts").open`)
	b.run(chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent("1"))
	b.until("1 leads to the first page", `location.pathname === "/ui/" && document.readyState === "complete"`)
}

// everyPage is one of each kind, of the house that fillHouse furnishes.
var everyPage = []string{
	"", "services", "service?name=web", "instance?node=cedar&id=web-2", "nodes", "node?name=cedar",
	"kv?at=app%2F", "key?key=app%2Fconfig.json", "sessions", "queries", "query", "events", "access", "cluster", "login",
}

// fillHouse registers something of everything that pages show.
func fillHouse(t testing.TB, c *consul.Client) {
	t.Helper()
	for n, node := range []string{"alder", "birch", "cedar", "dogwood"} {
		for _, service := range []string{"web", "api", "postgres", "mailer"} {
			status, output := "passing", "200 OK"
			switch service + node {
			case "webcedar":
				status, output = "critical", "HTTP GET http://10.0.2.4:8080/health: 503 Service Unavailable\nupstream postgres: connection refused"
			case "mailerbirch":
				status, output = "warning", "812 letters wait (warn above 500)"
			}
			place(t, c, node, service, fmt.Sprintf("%s-%d", service, n), status, output)
		}
	}
	at := func(id string) string { return fmt.Sprintf("10.1.1.1:%d", placePort(id)) }
	announced(t, c, announce.Report{Kind: announce.Templater, Node: "alder", Host: "alder", Version: "0.1.0", Started: time.Now().Add(-time.Hour),
		Groups: []announce.Group{{Name: "nginx", Ready: true, Index: 21, Applied: time.Now(), Servers: 5, Services: []string{"api", "web"},
			Places: []string{at("web-0"), at("web-1"), at("web-2"), at("api-0"), at("api-1")}, Behind: time.Now().Add(-4 * time.Minute), Fault: "check: nginx: [emerg] unknown directive \"upstraem\""}}})
	out := &consul.CatalogRegistration{Node: "dogwood", Address: "10.1.1.1", SkipNodeUpdate: true,
		Check: &consul.AgentCheck{Node: "dogwood", CheckID: "_service_maintenance:api-3", Name: "Service Maintenance Mode", ServiceID: "api-3", Status: "critical", Notes: "new disks"}}
	if _, err := c.Catalog().Register(out, nil); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"app/config.json": `{"level": "info"}`, "app/motd": "Deploys are frozen until Monday.", "app/features/checkout": "on"} {
		if _, err := c.KV().Put(&consul.KVPair{Key: key, Value: []byte(value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Session().Create(&consul.SessionEntry{Name: "migrations", TTL: "3600s"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.PreparedQuery().Create(&consul.PreparedQueryDefinition{Name: "web-near", Service: consul.ServiceQuery{Service: "web", OnlyPassing: true, Tags: []string{"v1"}}}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Event().Fire(&consul.UserEvent{Name: "deploy", Payload: []byte("web 2026.11.2")}, nil); err != nil {
		t.Fatal(err)
	}
}

// TestUIKeys: keys are written with the index that they were read at; who was slower sees
// both versions. What is bad is refused, and what is lost is asked about.
func TestUIKeys(t *testing.T) {
	a, c := startUI(t)
	put := func(key, value string) {
		t.Helper()
		if _, err := c.KV().Put(&consul.KVPair{Key: key, Value: []byte(value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	is := func(key, want string) {
		t.Helper()
		p, _, err := c.KV().Get(key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(p == nil); p == nil && want != "(none)" || p != nil && string(p.Value) != want {
			t.Errorf("%s is %v (none: %s), want %q", key, p, got, want)
		}
	}
	b := openTab(t, a)
	b.pardon("status of 422", "status of 409")
	b.open("key?key=app/&new=1")
	b.fill("#key", "app/config.json")
	b.fill("#value", `{"level": }`)
	b.run(chromedp.SetValue("#format", "JSON", chromedp.ByQuery))
	b.submit("button.first")
	if got := b.texts("#fault"); len(got) != 1 || !strings.Contains(got[0], "no JSON: line 1") {
		t.Errorf("bad JSON: %q", got)
	}
	is("app/config.json", "(none)")
	b.fill("#value", "{\n\"level\": \"info\"}")
	b.submit("button.first")
	is("app/config.json", "{\n\"level\": \"info\"}")

	// somebody else writes while the form is open: the open form is left as it is
	put("app/config.json", `{"theirs": 1}`)
	b.fill("#value", `{"mine": 1}`)
	b.submit("button.first")
	is("app/config.json", `{"theirs": 1}`)
	if got := b.texts("pre.whole"); len(got) != 1 || got[0] != `{"theirs": 1}` {
		t.Errorf("their version: %q", got)
	}
	var mine string
	b.eval(`document.querySelector("#value").value`, &mine)
	if mine != `{"mine": 1}` {
		t.Errorf("my version: %q", mine)
	}
	b.submit("button.first")
	is("app/config.json", `{"mine": 1}`)

	// the list is live, and a key's name and value are inert
	b.open("kv?at=app/")
	put("app/"+hostile, hostile)
	b.until("the new key is listed", `document.querySelectorAll(".keys-list li").length === 2`)
	b.open(query("key", "key", "app/"+hostile))
	if got := b.texts("h1"); got[0] != "app/"+hostile {
		t.Errorf("the page of the hostile key is headed %q", got)
	}
	var hacked bool
	if b.eval(`!!window.hacked`, &hacked); hacked {
		t.Error("a value runs")
	}
	put("app/deep/er/needle", "1")
	b.open("kv?at=app/&q=EEDL")
	if got := b.texts(".keys-list a"); !slices.Equal(got, []string{"deep/er/needle"}) {
		t.Errorf("a search below a folder: %q", got)
	}
	if _, err := c.KV().Delete("app/deep/er/needle", nil); err != nil {
		t.Fatal(err)
	}
	// an export is what an import takes
	code, keys, err := get(a.url + "/ui/export?at=app/")
	if err != nil || code != 200 {
		t.Fatalf("export: %d, %v", code, err)
	}
	b.open("key?key=app/config.json")
	b.submit("button.danger")
	if got := b.texts("h1"); got[0] != "Delete app/config.json?" {
		t.Errorf("before deleting: %q", got)
	}
	is("app/config.json", `{"mine": 1}`)
	b.submit("button.danger")
	is("app/config.json", "(none)")
	b.open("kv")
	b.click("details summary")
	b.eval(`document.querySelector("#keys").value = `+quote(keys), nil)
	b.submit(`button[value=import]`)
	is("app/config.json", `{"mine": 1}`)
	b.click("details summary")
	b.fill("#keys", "nonsense")
	b.submit(`button[value=import]`)
	if got := b.texts("#fault"); len(got) != 1 || !strings.Contains(got[0], "no export") {
		t.Errorf("a bad import: %q", got)
	}
	b.open("kv?at=app/")
	b.click("details:last-of-type summary")
	b.submit("button.danger")
	if got := b.texts("button.danger"); got[0] != "Delete 2 keys" {
		t.Errorf("before deleting a folder: %q", got)
	}
	b.submit("button.danger")
	is("app/config.json", "(none)")

	// who holds a lock
	id, _, err := c.Session().Create(&consul.SessionEntry{Name: "migrations", TTL: "600s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := c.KV().Acquire(&consul.KVPair{Key: "locks/db", Session: id}, nil); err != nil || !ok {
		t.Fatal(ok, err)
	}
	b.open("key?key=locks/db")
	if got := b.texts(".lead"); len(got) != 1 || !strings.Contains(got[0], "migrations") || !strings.Contains(got[0], "server-host") {
		t.Errorf("who holds the lock: %q", got)
	}
	for _, page := range []string{"sessions", "node?name=server-host"} {
		b.open(page)
		if got := b.texts("tbody td"); !slices.Contains(got, "locks/db") {
			t.Errorf("%s: who holds what: %q", page, got)
		}
	}
	b.open(query("session", "id", id))
	if got := b.texts(".facts"); !strings.Contains(got[0], "locks/db") {
		t.Errorf("what the session holds: %q", got)
	}
	b.submit("button.danger")
	b.submit("button.danger")
	b.until("the session is over", `document.querySelector("main").innerText.includes("None.")`)
}

// TestUIQueriesAndEvents: forms make what the API then has, and refuse what it would.
func TestUIQueriesAndEvents(t *testing.T) {
	a, c := startUI(t)
	place(t, c, "alder", "web", "web-1", "passing", "ok")
	b := openTab(t, a)
	b.pardon("status of 422")
	b.open("query")
	b.eval(`document.querySelector("#definition").value = '{"Name": "near"}'`, nil)
	b.submit("button.first")
	if got := b.texts("#fault"); len(got) != 1 || !strings.HasPrefix(got[0], "Not saved:") {
		t.Errorf("a query without a service: %q", got)
	}
	b.eval(`document.querySelector("#definition").value = '{"Name": "near", "Service": {"Service": "web"}}'`, nil)
	b.submit("button.first")
	list, _, err := c.PreparedQuery().List(nil)
	if err != nil || len(list) != 1 || list[0].Name != "near" {
		t.Fatalf("queries %+v, %v", list, err)
	}
	b.submit("button[value=try]")
	if got := b.texts("section .keys-list a"); len(got) != 1 || got[0] != "web-1" {
		t.Errorf("the query finds %q", got)
	}
	b.submit("button[value=delete]")
	b.submit("button.danger")
	if list, _, err = c.PreparedQuery().List(nil); err != nil || len(list) != 0 {
		t.Errorf("after deleting: %+v, %v", list, err)
	}
	b.open("events")
	b.fill("#name", "deploy")
	b.fill("#payload", hostile)
	if _, _, err := c.Event().Fire(&consul.UserEvent{Name: "other"}, nil); err != nil {
		t.Fatal(err)
	}
	b.until("the other event is received", `document.querySelectorAll("tbody tr").length === 1`)
	b.until("the form is as it was left", `document.activeElement.id === "payload" && document.activeElement.value === `+quote(hostile)+` && document.querySelector("#name").value === "deploy"`)
	b.fill("#node", "(")
	b.submit("button.first")
	if got := b.texts("#fault"); len(got) != 1 || !strings.Contains(got[0], "no regular expression") {
		t.Errorf("a bad expression: %q", got)
	}
	b.fill("#name", "deploy")
	b.fill("#payload", hostile)
	b.submit("button.first")
	b.until("the event is received", `document.querySelectorAll("tbody tr").length === 2`)
	if got := b.texts("tbody td"); got[0] != hostile {
		t.Errorf("payload %q", got[0])
	}
	b.open("cluster")
	b.until("the cluster's page tells who leads", `document.querySelector("h1").innerText === "server-host leads, all is well"`)
	b.until("its charts grow", `document.querySelector(".chart path").getAttribute("d").includes("L")`)
}

// TestUILogin: with access control on, a page shows what the token may see; the token is
// out of the reach of scripts, and forms of other sites are refused.
func TestUILogin(t *testing.T) {
	const master = "11111111-2222-3333-4444-555555555555"
	a := startAgent(t, "server-host", options{}, "-server", "-bootstrap-expect=1", "-ui", `-hcl=acl { enabled = true default_policy = "deny" tokens { initial_management = "`+master+`" agent = "`+master+`" } }`)
	c := clientOf(t, a, master)
	eventually(t, soon, "access control is up", func() error { _, _, err := c.ACL().TokenReadSelf(nil); return err })
	place(t, c, "alder", "web", "web-1", "passing", "ok")
	place(t, c, "alder", "secret", "secret-1", "passing", "ok")
	if _, _, err := c.ACL().PolicyCreate(&consul.ACLPolicy{Name: "web", Rules: `service "web" { policy = "read" } node_prefix "" { policy = "read" }`}, nil); err != nil {
		t.Fatal(err)
	}
	some, _, err := c.ACL().TokenCreate(&consul.ACLToken{Policies: []*consul.ACLLink{{Name: "web"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := openTab(t, a)
	b.open("services")
	if got := b.texts("tbody th"); len(got) != 0 {
		t.Errorf("without a token: %q", got)
	}
	if got := strings.Join(b.texts(".quiet-text"), ""); !strings.Contains(got, "what your token may see") || !strings.Contains(got, "Log in") {
		t.Errorf("without a token it says %q", got)
	}
	b.pardon("status of 422")
	b.open("login")
	b.fill("#token", "no such token")
	b.submit("form button.first")
	if got := b.texts("#fault"); len(got) != 1 || got[0] != "There is no such token." {
		t.Errorf("a wrong token: %q", got)
	}
	b.fill("#token", some.SecretID)
	b.submit("form button.first")
	b.open("services")
	if got := b.texts("tbody th"); len(got) != 1 || got[0] != "web" {
		t.Errorf("with a token that reads web: %q", got)
	}
	place(t, c, "alder", "secret", "secret-2", "passing", "ok")
	place(t, c, "alder", "web", "web-2", "passing", "ok")
	b.open("")
	b.until("the record tells of web", `document.querySelector(".record").innerText.includes("web-2")`)
	if got := strings.Join(b.texts(".record"), " "); strings.Contains(got, "secret") {
		t.Errorf("the record tells of what the token may not see: %s", got)
	}
	var cookie string
	b.eval(`document.cookie`, &cookie)
	if strings.Contains(cookie, some.SecretID) {
		t.Errorf("scripts can read the token: %s", cookie)
	}
	for site, want := range map[string]int{"http://elsewhere.example": http.StatusForbidden, a.url: http.StatusSeeOther} {
		r, err := http.NewRequest("POST", a.url+"/ui/logout", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", site)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a form of %s: %d, want %d", site, resp.StatusCode, want)
		}
	}
	b.open("cluster")
	if got := strings.Join(b.texts("main"), ""); strings.Contains(got, "No leader") || !strings.Contains(got, " leads") || !strings.Contains(got, "Your token may not see") {
		t.Errorf("the cluster, for a token that may not see it: %q", got)
	}
	b.pardon("status of 403")
	b.open("access")
	if got := b.texts("h1"); got[0] != "Not allowed" {
		t.Errorf("access, by a token that may not read it: %q", got)
	}
	b.submit("form[action$=logout] button")
	b.open("services")
	if got := b.texts("tbody th"); len(got) != 0 {
		t.Errorf("after logging out: %q", got)
	}

	// with the right to it, policies and tokens are made, tried and deleted
	b.open("login")
	b.fill("#token", master)
	b.submit("form button.first")
	b.open("policy")
	b.fill("#name", "broken")
	b.eval(`document.querySelector("#rules").value = "service {"`, nil)
	b.submit("button.first")
	if got := b.texts("#fault"); len(got) != 1 || !strings.HasPrefix(got[0], "Not saved:") {
		t.Errorf("a bad policy: %q", got)
	}
	b.fill("#name", "keys")
	b.eval(`document.querySelector("#rules").value = 'key_prefix "app/" { policy = "write" }'`, nil)
	b.submit("button.first")
	b.click("details summary")
	b.fill("#description", "deploys")
	b.click("input[value=keys]")
	b.submit("details button")
	b.run(chromedp.SetValue("input[name=about]", "app/x", chromedp.ByQuery))
	b.submit("form.search button")
	for _, row := range b.texts(".rights tbody tr") {
		if strings.Contains(row, "key") != strings.Contains(row, "yes") && !strings.Contains(row, "keyring") {
			t.Errorf("what the token may do: %q", row)
		}
	}
	b.submit("button.danger")
	b.submit("button.danger")
	tokens, _, err := c.ACL().TokenList(nil)
	if err != nil || slices.ContainsFunc(tokens, func(e *consul.ACLTokenListEntry) bool { return e.Description == "deploys" }) {
		t.Errorf("the token is still there: %v, %v", tokens, err)
	}
}

// TestUIShowsWhatNginxServes: on the map, on a service's and an instance's page, with the
// index, and in what an nginx is behind; what is announced is anybody's to write, and inert.
func TestUIShowsWhatNginxServes(t *testing.T) {
	a, c := startUI(t)
	fillHouse(t, c)
	announced(t, c, announce.Report{Kind: announce.Templater, Node: "birch", Host: hostile, Version: hostile, Started: time.Now(), Fault: hostile, Standby: hostile, Ends: []announce.End{{Service: "web-1", At: time.Now(), Why: hostile}},
		Groups: []announce.Group{{Name: hostile, Ready: true, Index: 30, Servers: 1, Services: []string{"web", hostile}, Places: []string{hostile}, Files: hostile, Held: hostile, Fault: hostile}}})
	b := openTab(t, a)
	b.open("")
	b.until("what it serves is underlined", `String([...document.querySelectorAll(".line:has(.served)")].map(e => e.title)) === "api-0,web-0,api-1,web-1,web-2"`)
	b.until("and said", `document.querySelector(".line[title=web-1]").textContent.includes("passing, served by nginx on alder")`)
	b.until("it says that it is behind, and in what", `document.querySelector("#h-alder .late").innerText.includes("behind for 4 min") && document.querySelector("#h-alder .late").innerText.includes("2 passing instances not in yet, 1 instance still in")`)
	b.click("#h-alder .serves summary")
	b.until("it opens what it serves", `document.querySelector("#h-alder .serves").innerText.includes("web 3 of 4") || document.querySelector("#h-alder .serves").innerText.includes("web\n3 of 4")`)
	place(t, c, "dogwood", "web", "web-9", "passing", "ok")
	b.until("it stays open, and live", `document.querySelector("#h-alder .serves").open && document.querySelector("#h-alder .serves").innerText.includes("3 of 5")`)
	b.inert("now")
	b.accessible("serving-now")
	b.open("service?name=web")
	if got := strings.Join(b.texts(".serving"), ""); !strings.Contains(got, "nginx on alder") || !strings.Contains(got, "3 of 5") || !strings.Contains(got, "at index 21") {
		t.Errorf("who serves the service: %q", got)
	}
	b.inert("service")
	b.accessible("serving-service")
	for id, want := range map[string]string{"web-2": "serves it", "web-3": "does not serve it"} {
		b.open(query("instance", "node", map[string]string{"web-2": "cedar", "web-3": "dogwood"}[id], "id", id))
		if got := strings.Join(b.texts(".facts dd"), "|"); !strings.Contains(got, "|"+want+" at index 21") && !strings.Contains(got, "|"+want) {
			t.Errorf("%s: %q", id, got)
		}
	}
	b.open("agents")
	if got := strings.Join(b.texts("main"), ""); !strings.Contains(got, "web 3 of 5") || !strings.Contains(got, "behind for 4 min") {
		t.Errorf("agents: %q", got)
	}
	b.inert("agents")
	b.accessible("serving-agents")
	if _, err := c.Catalog().Deregister(&consul.CatalogDeregistration{Node: "birch", ServiceID: "web-1"}, nil); err != nil {
		t.Fatal(err)
	}
	b.open("")
	b.until("why it ended is told as it was announced", `[...document.querySelectorAll(".record .deregistered")].some(e => e.innerText.includes("web-1 deregistered") && e.querySelector(".cause").innerText === `+quote(hostile)+`)`)
	b.inert("now")
}

// TestUIShowsTheWayOfAChange: from the container's start until nginx serves it, each stage
// with its time, told by who took part; who ends is shown no more.
func TestUIShowsTheWayOfAChange(t *testing.T) {
	server, _ := startUI(t)
	h := startHouse(t, server, "-announce")
	b := openTab(t, server)
	b.open("")
	b.until("registrator and templater stand beside their host", `document.querySelectorAll(".suite b").length === 2`)
	id := h.engine.web("shop")
	eventually(t, soon, "nginx serves it", h.wantServed("shop", id))
	b.until("the way is complete", `[...document.querySelectorAll(".record > li")].some(e => {
		const stages = [...e.querySelectorAll(".way b")].map(s => s.innerText);
		return e.innerText.includes("shop") && String(stages) === "container started,registered,committed,rendered,nginx on server-host serves it";
	})`)
	t.Logf("its way: %q", b.texts(".way li"))
	b.until("its tile says that nginx serves it", `document.querySelectorAll(".line .served").length === 1 && document.querySelector(".serves summary").innerText.includes("index")`)
	b.until("nginx's change is an event of its own", `document.querySelector(".record").innerText.includes("nginx on server-host serves a change")`)
	b.click(".line:has(.served)")
	b.until("its tile opens which container it is, of what image", `[...document.querySelectorAll("#peek dd")].map(e => e.innerText).join().includes(`+quote(id[:12]+","+webTag)+`)`)
	b.run(chromedp.KeyEvent(kb.Escape))
	h.engine.docker("stop", id)
	b.until("the record tells why it was taken out", `[...document.querySelectorAll(".record > li")].some(e => e.innerText.includes("deregistered") && /signal|stop/.test(e.querySelector(".cause")?.innerText))`)
	t.Logf("why it ended: %q", b.texts(".record .deregistered .cause"))
	b.open("agents")
	if got := b.texts("section h2"); len(got) != 2 {
		t.Errorf("agents %q", got)
	}
	if got := b.texts("td.code"); len(got) != 1 || len(got[0]) != 8 {
		t.Errorf("the generation of nginx's files: %q", got)
	}
	h.templater.stop(syscall.SIGTERM)
	b.until("the templater is shown no more", `document.querySelectorAll("section h2").length === 1`)
}

// TestUIInACrowd: with 2,000 services and 20,000 instances pages stay small and come at once.
func TestUIInACrowd(t *testing.T) {
	a, c := startUI(t)
	crowd(t, c, 2000, 10, 100)
	b := openTab(t, a)
	for _, page := range []string{"", "services", "service?name=s7", "nodes", "node?name=n7"} {
		b.open(page)
		b.until("the whole crowd is there", `document.querySelector("main h1") !== null`)
		var elements int
		b.eval(`document.querySelectorAll("*").length`, &elements)
		if elements > 4000 {
			t.Errorf("%q has %d elements", page, elements)
		}
		var paint float64 // milliseconds from the request to the first paint
		b.eval(`new Promise((ok) => new PerformanceObserver((l) => ok(l.getEntries()[0].startTime)).observe({ type: "paint", buffered: true }))`, &paint)
		t.Logf("%q: %d elements, first paint after %.0f ms", page, elements, paint)
		if paint > 10_000 {
			t.Errorf("%q is painted after %.0f ms", page, paint)
		}
	}
	// scrolling while the catalog changes, as the browser measures it
	ctx, stop := context.WithCancel(t.Context())
	var changing sync.WaitGroup
	changing.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				reg := &consul.CatalogRegistration{Node: "n7", Address: "10.2.0.1", SkipNodeUpdate: true,
					Check: &consul.AgentCheck{Node: "n7", CheckID: "restless", Name: "probe", ServiceID: "s7-0", Status: []string{"passing", "warning"}[n%2]}}
				if _, err := c.Catalog().Register(reg, nil); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for _, page := range []string{"", "services", "node?name=n7"} {
		b.open(page)
		var f struct{ Frames, Median, Slowest, Long, Longest, Height float64 }
		b.eval(scrolling, &f)
		t.Logf("%q: %.0f px in %.0f frames, median %.1f ms, slowest %.1f ms; %.0f tasks over 50 ms, the longest %.0f ms", page, f.Height, f.Frames, f.Median, f.Slowest, f.Long, f.Longest)
		if f.Frames < 2 {
			t.Errorf("%q was not scrolled", page)
		}
	}
	stop()
	changing.Wait()
	// the parts of a list have everything between them
	rows := 0
	for part := 1; ; part++ {
		code, body, err := get(fmt.Sprintf("%s/ui/services?page=%d", a.url, part))
		if err != nil || code != http.StatusOK {
			t.Fatal(code, err)
		}
		rows += strings.Count(body, `<tr id="s-`)
		if !strings.Contains(body, `rel="next"`) {
			break
		}
	}
	if rows != 2001 {
		t.Errorf("all parts of the list have %d services, want 2001", rows)
	}
	b.open("")
	if got := b.texts(".sum"); !strings.Contains(strings.ReplaceAll(got[0], "\u202f", ""), "20001 instances · 2001 services · 101 nodes") {
		t.Errorf("the map counts %q", got)
	}
	place(t, c, "n99", "s1999", "odd one", "critical", "because")
	b.until("the one that is critical is seen", `document.querySelector("h1").innerText === "1 instance critical" && document.querySelector(".host.passing .state.critical, .host .tile.critical, .host rect.critical") !== null`)
}

// scrolling scrolls a page to its end, a step a frame, and gives how long frames took and
// what tasks kept the page from answering for more than 50 ms meanwhile.
const scrolling = `(async () => {
	const long = [], frames = [];
	const watch = new PerformanceObserver((l) => { for (const e of l.getEntries()) long.push(e.duration); });
	watch.observe({ type: "longtask" });
	const frame = () => new Promise(requestAnimationFrame);
	let at = await frame();
	for (let y = 0; y < document.documentElement.scrollHeight; y += 120) {
		scrollTo(0, y);
		const next = await frame();
		frames.push(next - at);
		at = next;
	}
	for (const e of watch.takeRecords()) long.push(e.duration);
	frames.sort((a, b) => a - b);
	return { Frames: frames.length, Median: frames[frames.length >> 1], Slowest: frames.at(-1), Long: long.length, Longest: Math.max(0, ...long), Height: document.documentElement.scrollHeight };
})()`

// crowd registers so many services, each with so many instances, over so many nodes.
func crowd(t testing.TB, c *consul.Client, services, each, nodes int) {
	t.Helper()
	var ops consul.TxnOps
	flush := func() {
		t.Helper()
		if len(ops) == 0 {
			return
		}
		ok, resp, _, err := c.Txn().Txn(ops, nil)
		if err != nil || !ok {
			t.Fatalf("register a crowd: %v, %+v", err, resp)
		}
		ops = nil
	}
	add := func(op *consul.TxnOp) {
		t.Helper()
		if ops = append(ops, op); len(ops) == 128 {
			flush()
		}
	}
	for n := range nodes {
		add(&consul.TxnOp{Node: &consul.NodeTxnOp{Verb: consul.NodeSet, Node: consul.Node{Node: fmt.Sprintf("n%d", n), Address: "10.2.0.1"}}})
	}
	for s := range services {
		for i := range each {
			add(&consul.TxnOp{Service: &consul.ServiceTxnOp{Verb: consul.ServiceSet, Node: fmt.Sprintf("n%d", (s+i*7)%nodes),
				Service: consul.AgentService{ID: fmt.Sprintf("s%d-%d", s, i), Service: fmt.Sprintf("s%d", s), Port: 8000 + i, Tags: []string{"v1"}}}})
		}
	}
	flush()
}

// TestUIWithoutALeader: pages say so, and since when what they show may be old; they show
// the catalog all the same, and are well again when the cluster is.
func TestUIWithoutALeader(t *testing.T) {
	one := startAgent(t, "one", options{}, "-server", "-bootstrap-expect=2", "-ui")
	two := startAgent(t, "two", options{}, "-server", "-bootstrap-expect=2", "-retry-join="+one.lan, "-retry-interval=1s")
	one.awaitLeader()
	place(t, clientOf(t, one, ""), "alder", "web", "web-1", "passing", "ok")
	b := openTab(t, one)
	b.open("services")
	b.until("the service is there", `document.querySelector("main").innerText.includes("web")`)
	b.until("the page has seen the leader", `document.querySelector(".banner") === null`)
	two.kill()
	b.until("the open page says that there is no leader", `document.querySelector(".banner")?.innerText.includes("no leader")`)
	b.open("services")
	if got := b.texts(".banner"); len(got) != 1 || !strings.Contains(got[0], "as it was at") {
		t.Errorf("banner %q", got)
	}
	if got := b.texts("tbody th"); !slices.Contains(got, "web") {
		t.Errorf("the catalog is not shown any more: %q", got)
	}
	b.open("cluster")
	if got := b.texts("h1"); got[0] != "No leader is known" {
		t.Errorf("the cluster's headline: %q", got)
	}
	b.until("the servers are shown as gossip knows them", `String([...document.querySelectorAll("tbody tr")].map(e => e.querySelector("th").innerText + " " + e.querySelector(".state").textContent)) === "one alive,two !failed"`)
	b.accessible("noleader-cluster")
	b.pardon("status of 503", "status of 409", "status of 422")
	b.open("key?key=a&new=1")
	b.fill("#value", "1")
	b.submit("button.first")
	if got := b.texts("#fault"); len(got) != 1 || !strings.HasPrefix(got[0], "Not saved: ") {
		t.Errorf("a write without a leader: %q", got)
	}
	b.open("services")
	two.run()
	b.until("the banner goes when there is a leader again", `document.querySelector(".banner") === null`)
	b.open("")
	b.until("the record tells of it", `document.querySelector(".record").innerText.includes("leads") && document.querySelector(".record").innerText.includes("No leader")`)
}

// TestUIIdleCost: two hundred open pages share their reads, and cost little memory.
func TestUIIdleCost(t *testing.T) {
	const pages, most = 200, 100.0 // megabytes
	a, c := startUI(t, `-hcl=limits { http_max_conns_per_client = 1000 } telemetry { prometheus_retention_time = "1m" }`)
	place(t, c, "alder", "web", "web-1", "passing", "ok")
	b := openTab(t, a)
	b.open("")
	gauge := func() float64 {
		t.Helper()
		code, text, err := get(a.url + "/v1/agent/metrics?format=prometheus")
		if err != nil || code != 200 {
			t.Fatal(code, err)
		}
		for line := range strings.Lines(text) {
			if n, ok := strings.CutPrefix(line, "consul_rpc_queries_blocking "); ok {
				v, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
		}
		t.Fatal("no gauge of blocking reads")
		return 0
	}
	var live string
	b.eval(`document.body.dataset.live`, &live)
	eventually(t, soon, "the page's own reads wait", func() error {
		if n := gauge(); n < 2 {
			return fmt.Errorf("%v reads wait", n)
		}
		return nil
	})
	before, memory := gauge(), a.memory()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: pages}}
	woken := make(chan error, pages)
	for range pages {
		resp, err := client.Get(a.url + live)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		go func() {
			s := bufio.NewScanner(resp.Body)
			for s.Scan() {
				if s.Text() == "data: " {
					woken <- nil
					return
				}
			}
			woken <- fmt.Errorf("the stream ended: %v", s.Err())
		}()
	}
	if after := gauge(); after > before+1 {
		t.Errorf("%v blocking reads with %d pages more, %v before", after, pages, before)
	}
	place(t, c, "alder", "web", "web-2", "passing", "ok")
	for range pages {
		select {
		case err := <-woken:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("not every page hears of a change")
		}
	}
	grown := a.memory() - memory
	t.Logf("%d open pages: %.1f MB more, %v blocking reads", pages, grown, gauge())
	if grown > most {
		t.Errorf("%d open pages cost %.1f MB", pages, grown)
	}
}
