package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestUIShowsANewLeader: the page of a cluster says in what its servers differ; its leader is
// killed, and open pages of another server say so, and who leads then.
func TestUIShowsANewLeader(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "a.hcl")
	write(t, conf, "limits { http_max_conns_per_client = 150 }")
	v := watchLeaders(t, "-config-file="+conf)
	v.servers[0].awaitLeader()
	b := openTab(t, v.servers[0])
	b.open("cluster")
	b.until("all three are there", `document.querySelectorAll("tbody tr").length === 3`)
	b.until("it says that the limits of one differ, and nothing else", `(() => {
		const marks = [...document.querySelectorAll("dl .pair code")].map(e => e.innerText);
		return [...document.querySelectorAll("dt")].some(e => e.innerText === "limits settings") && marks.length === 3 && marks[0] === marks[1] && marks[1] !== marks[2];
	})()`)
	b.accessible("differ-cluster")
	write(t, conf, "")
	v.servers[2].signal(syscall.SIGHUP)
	b.until("they are alike when that one was told to reload", `document.querySelector("main").innerText.includes("In nothing: version")`)
	b.run(chromedp.Navigate("about:blank"))
	v.kill()
	v.report()
}

// BenchmarkUILeader kills the leader again and again, and reports the median time from the moment
// that the API of a server tells the new leader until an open page of that server shows it, in
// milliseconds: go test ./internal/e2e -run '^$' -bench BenchmarkUILeader -benchtime 20x.
func BenchmarkUILeader(b *testing.B) {
	v := watchLeaders(b)
	for b.Loop() {
		v.kill()
	}
	b.ReportMetric(0, "ns/op")
	for page, took := range v.report() {
		b.ReportMetric(float64(took.Microseconds())/1000, page+"-ms")
	}
}

// viewers look at every server of a cluster.
type viewers struct {
	t       testing.TB
	servers []*agent
	took    map[string][]time.Duration // by page
}

// watchLeaders starts three servers; more is what the last has beside the others.
func watchLeaders(t testing.TB, more ...string) *viewers {
	v := &viewers{t: t, took: map[string][]time.Duration{}}
	for i := range 3 {
		args := []string{"-server", "-bootstrap-expect=3", "-ui"}
		if i > 0 {
			args = append(args, "-retry-join="+v.servers[0].lan)
		}
		if i == 2 {
			args = append(args, more...)
		}
		v.servers = append(v.servers, startAgent(t, fmt.Sprintf("s%d", i+1), options{}, args...))
	}
	return v
}

// told gives the leader's address as a server knows it, "" without one.
func told(a *agent) string {
	code, body, err := a.get("/v1/status/leader")
	if err != nil || code != 200 {
		return ""
	}
	return strings.Trim(strings.TrimSpace(body), `"`)
}

// kill kills the leader, notes how long the pages of another server take to show the next one,
// and brings the server back.
func (v *viewers) kill() {
	v.t.Helper()
	var leader *agent
	whole := &victim{name: "the cluster", servers: v.servers, client: v.servers[0]}
	eventually(v.t, time.Minute, "the cluster is whole", func() (err error) {
		if err := whole.whole(); err != nil {
			return err
		}
		leader, err = leaderAmong(v.servers)
		return err
	})
	viewer := v.servers[slices.IndexFunc(v.servers, func(a *agent) bool { return a != leader })]
	// what a page says of who leads, and when it first said so
	says := map[string]string{
		"now":     `(document.querySelector(".banner") ? "" : [...document.querySelectorAll(".record p")].map(e => e.innerText.match(/(s\d) leads/)?.[1]).find(e => e) ?? "")`,
		"cluster": `(document.querySelector("h1").innerText.match(/^(s\d) leads/)?.[1] ?? "")`,
	}
	tabs := map[string]*tab{}
	for page, who := range says {
		b := openTab(v.t, viewer)
		b.pardon("status of 503", "status of 500")
		tabs[page] = b
		b.open(strings.TrimPrefix(page, "now"))
		b.until(page+" shows the leader", who+` === `+quote(leader.name)+` || `+quote(page)+` === "now"`)
		b.eval(`window.shown = {}; new MutationObserver(() => { const n = `+who+`; if (n && !shown[n]) shown[n] = Date.now(); }).observe(document.body, {subtree: true, childList: true, characterData: true}); true`, nil)
	}
	before := told(viewer)
	leader.kill()
	next := before
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for bound := time.After(time.Minute); next == "" || next == before; next = told(viewer) {
		select {
		case <-look.C:
		case <-bound:
			v.t.Fatalf("nobody leads a minute after %s died", leader.name)
		}
	}
	answered := time.Now()
	name := v.servers[slices.IndexFunc(v.servers, func(a *agent) bool { return a.rpc == next })].name
	for page, b := range tabs {
		b.until(page+" shows that "+name+" leads", `shown[`+quote(name)+`] > 0`)
		var at float64
		b.eval(`shown[`+quote(name)+`]`, &at)
		v.took[page] = append(v.took[page], time.UnixMilli(int64(at)).Sub(answered))
		b.run(chromedp.Navigate("about:blank")) // this server may be the next to die
	}
	leader.run()
}

// report tells the times and gives their medians.
func (v *viewers) report() map[string]time.Duration {
	out := map[string]time.Duration{}
	for page, all := range v.took {
		slices.Sort(all)
		v.t.Logf("%s: from the API's answer to the page: %v", page, all)
		out[page] = all[len(all)/2]
	}
	return out
}
