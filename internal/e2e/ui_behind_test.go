package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// TestUIShowsATemplaterThatIsBehind: a real templater beside a real nginx that refuses its
// files, and then one whose guard holds them: the page says that it is behind, since when,
// in what and why, on the index that it had; and then that it has caught up.
func TestUIShowsATemplaterThatIsBehind(t *testing.T) {
	a, c := startUI(t)
	for n := range 4 {
		place(t, c, "alder", "web", fmt.Sprintf("web-%d", n), "passing", "ok")
	}
	e := newEdge(t, a, "announce = true\nguard {\n  max_shrink_percent = 50\n}\n"+shipped).start().ready()
	b := openTab(t, a)
	b.open("")
	is := func(what, script string) {
		t.Helper()
		b.until(what, `(() => { const host = document.querySelector("#h-server-host"), said = (q) => host.querySelector(q)?.innerText ?? ""; return `+script+`; })()`)
	}
	served := func(n int) string { return fmt.Sprintf(`document.querySelectorAll(".line .served").length === %d`, n) }
	index := func() (n int) {
		t.Helper()
		b.eval(`+document.querySelector("#h-server-host .serves summary").innerText.match(/index (\d+)/)[1]`, &n)
		return n
	}
	is("all four are served", served(4)+` && said(".late") === ""`)
	was := index()

	// somebody's slip elsewhere in nginx's configuration
	slip := e.nginx.conf("slip.conf")
	write(t, slip, "upstraem;\n")
	place(t, c, "birch", "web", "web-4", "passing", "ok")
	is("it is behind, in what, and why", `said(".late").includes("behind for") && said(".late").includes("1 passing instance not in yet") && said(".reason").includes('unknown directive "upstraem"')`)
	is("the new one is not served", served(4)+` && document.querySelector("h1").innerText === "Everybody is well, but not the templater beside server-host"`)
	if got := index(); got != was {
		t.Errorf("it shows index %d, and nginx serves that of %d", got, was)
	}
	b.until("the record says so once, however often nginx is asked", `[...document.querySelectorAll(".record > li")].filter(e => e.innerText.includes("templater on server-host has a fault") && e.innerText.includes("upstraem")).length === 1`)
	b.until("and on the way of the change", `[...document.querySelectorAll(".record > li")].find(e => e.innerText.includes("web-4 registered")).querySelector(".way").innerText.includes("kept from nginx on server-host")`)
	b.inert("behind")
	b.accessible("behind-now")
	for page, want := range map[string][]string{
		"agents":                       {"fault", "behind for", "upstraem", "web 4 of 5"},
		"service?name=web":             {"4 of 5", "behind for", "upstraem"},
		"instance?node=birch&id=web-4": {"does not serve it", "behind for", "upstraem"},
	} {
		b.open(page)
		got := strings.Join(b.texts("main"), "")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s lacks %q: %s", page, w, got)
			}
		}
		b.accessible("behind-" + strings.Split(page, "?")[0])
	}
	b.open("")
	if err := os.Remove(slip); err != nil {
		t.Fatal(err)
	}
	place(t, c, "birch", "web", "web-5", "passing", "ok") // a change is tried at once, whatever the pause between retries is by now
	is("it has caught up", served(6)+` && said(".late") === "" && said(".reason") === "" && document.querySelector("h1").innerText === "Everybody is well"`)
	if got := index(); got <= was {
		t.Errorf("it shows index %d, and had %d before", got, was)
	}
	b.until("the way is complete", `[...document.querySelectorAll(".record > li")].find(e => e.innerText.includes("web-4 registered")).querySelector(".way").innerText.includes("nginx on server-host serves it")`)

	// more than half at once: the guard holds that
	was = index()
	var ill consul.TxnOps
	for n := range 4 {
		id := fmt.Sprintf("web-%d", n)
		ill = append(ill, &consul.TxnOp{Check: &consul.CheckTxnOp{Verb: consul.CheckSet, Check: consul.HealthCheck{Node: "alder", CheckID: "c-" + id, Name: "probe", ServiceID: id, Status: "critical", Output: "no answer"}}})
	}
	if ok, resp, _, err := c.Txn().Txn(ill, nil); err != nil || !ok {
		t.Fatal(resp, err)
	}
	is("it is held, in what, and why", `said(".late").includes("behind for") && said(".late").includes("4 instances still in that should not be") && said(".reason").includes("held")`)
	if got := index(); got != was {
		t.Errorf("held, it shows index %d, and nginx serves that of %d", got, was)
	}
	b.open("agents")
	if got := strings.Join(b.texts("main"), ""); !strings.Contains(got, "held") || strings.Contains(got, "fault") {
		t.Errorf("agents: %q", got)
	}
	b.accessible("held-agents")
	b.open("")
	for n := range 2 {
		place(t, c, "alder", "web", fmt.Sprintf("web-%d", n), "passing", "ok")
	}
	is("it has caught up again", served(4)+` && said(".late") === "" && said(".reason") === ""`)
	eventually(t, 20*time.Second, "and is ready", e.wantCode("/readyz", 200))
}
