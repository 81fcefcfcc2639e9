package ui

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/delay"
)

const (
	liveEvery   = 2 * time.Second  // the page, while somebody looks
	sampleEvery = 10 * time.Second // otherwise
	sampleLeast = time.Second      // between two of them
	sampled     = 15 * time.Minute
)

// samples are what the cluster's page draws, over the last minutes.
type samples struct {
	mu  sync.Mutex
	all []sample // the oldest first
}

// sample is one look.
type sample struct {
	at     time.Time
	values map[string]float64 // by name; never changed
}

// take adds a look, unless there was one just now.
func (s *samples) take(at time.Time, values map[string]float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.all); len(values) == 0 || n > 0 && at.Sub(s.all[n-1].at) < sampleLeast {
		return
	}
	old := 0
	for old < len(s.all) && at.Sub(s.all[old].at) > sampled {
		old++
	}
	s.all = append(slices.Clone(s.all[old:]), sample{at, values})
}

func (s *samples) now() []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// sample looks with this agent's own token, until ctx ends, so that whoever opens the page
// sees how it was before.
func (u *UI) sample(ctx context.Context) {
	for delay.For(ctx, sampleEvery) {
		r := &request{Request: new(http.Request).WithContext(ctx), ui: u, token: u.cfg.OwnToken()}
		var v clusterView
		u.samples.take(time.Now(), r.vitals(&v, func(string, error) {}))
	}
}

// vitals reads what is drawn into v, and gives the values.
func (r *request) vitals(v *clusterView, fail func(what string, err error)) map[string]float64 {
	if st := r.ui.standing.Load(); r.dc != "" || !st.Known || st.Leader != "" { // only a leader tells
		err := r.get("/v1/operator/autopilot/state", nil, &v.pilot)
		fail("Autopilot", err)
		v.judged = err == nil
	}
	v.servers = slices.SortedFunc(maps.Values(v.pilot.Servers), func(a, b api.AutopilotServer) int { return cmp.Compare(a.Name, b.Name) })
	var m metrics
	fail("Metrics", r.get("/v1/agent/metrics", nil, &m))
	values := map[string]float64{}
	for _, s := range v.servers {
		values["lag "+s.Name] = float64(v.behind(s))
	}
	v.measure(m, values)
	return values
}

// metrics is the part of /v1/agent/metrics that is drawn.
type metrics struct {
	Gauges []struct {
		Name  string
		Value float64
	}
	Counters, Samples []struct {
		Name            string
		Count           int
		Rate, Sum, Mean float64
	}
}

// drawn are the metrics that have charts, by the ending of their name, with what they say.
var drawn = []struct{ ending, title, unit string }{
	{"runtime.alloc_bytes", "Memory in use", "bytes"},
	{"runtime.num_goroutines", "Goroutines", ""},
	{"raft.commitTime", "Time to commit", "ms"},
	{"raft.apply", "Writes", "/s"},
	{"http.requests", "Requests", "/s"},
	{"dns.questions", "DNS questions", "/s"},
}

// chart is one line over the last minutes.
type chart struct {
	title, now string
	path       string
}

// clusterView is the page's data. What could not be had has its reason in errs.
type clusterView struct {
	pilot     api.AutopilotState
	judged    bool // pilot is there
	servers   []api.AutopilotServer
	self      api.Self
	differing []difference
	charts    []chart
	lag       []lagLine
	snapshot  string // index of the last one that Raft took
	restores  bool   // the viewer may take and restore snapshots
	errs      []string
	hidden    []string          // what the viewer may not see
	leader    string            // as everybody may know it, "" without one
	members   int               // servers that gossip shows the viewer
	versions  map[string]string // of these, by name
}

// lagLine is how far a server's log is behind the leader's.
type lagLine struct {
	name string
	now  int
	path string
}

// difference is something in which servers differ, by server.
type difference struct {
	what   string
	values []entry
}

func clusterPage(r *request) (view, error) {
	var v clusterView
	fail := func(what string, err error) {
		switch {
		case err != nil && api.KindOf(err) == api.Forbidden:
			v.hidden = append(v.hidden, what)
		case err != nil:
			v.errs = append(v.errs, what+": "+err.Error())
		}
	}
	now := r.vitals(&v, fail)
	fail("This agent", r.get("/v1/agent/self", nil, &v.self))
	members, err := r.members()
	fail("Members", err)
	if !v.judged {
		fail("Raft", r.peers(&v, members))
	}
	v.differing, v.members = differences(members)
	v.versions = map[string]string{}
	for _, m := range members {
		v.versions[m.Name] = m.Tags["rollcall"]
	}
	v.leader = r.leader()
	v.restores = r.mayRestore()
	v.snapshot = v.self.Stats["raft"]["last_snapshot_index"]
	r.ui.samples.take(time.Now(), now)
	v.draw(r.ui.samples.now(), now)
	return view{title: "Cluster", body: cluster(r, &v), every: liveEvery}, nil
}

// members are those of the datacenter that is looked at; of another, its servers.
func (r *request) members() (out []api.Member, err error) {
	if r.dc == "" {
		return out, r.get("/v1/agent/members", nil, &out)
	}
	var all []api.Member
	if err := r.get("/v1/agent/members", url.Values{"wan": {"1"}}, &all); err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Tags["dc"] == r.dc {
			m.Name = strings.TrimSuffix(m.Name, "."+r.dc)
			out = append(out, m)
		}
	}
	return out, nil
}

// peers lists the servers as Raft and gossip know them, where nobody judges them.
func (r *request) peers(v *clusterView, members []api.Member) error {
	var raft api.RaftConfiguration
	if err := r.get("/v1/operator/raft/configuration", url.Values{"stale": {""}}, &raft); err != nil {
		return err
	}
	for _, p := range raft.Servers {
		s := api.AutopilotServer{ID: p.ID, Name: p.Node, Address: p.Address, NodeStatus: "not known", Status: "non-voter"}
		if p.Voter {
			s.Status = "voter"
		}
		for _, m := range members {
			if m.Name == p.Node {
				s.NodeStatus = m.Status.String()
			}
		}
		v.servers = append(v.servers, s)
	}
	slices.SortFunc(v.servers, func(a, b api.AutopilotServer) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// behind is how many entries of the log a server lacks.
func (v *clusterView) behind(s api.AutopilotServer) int {
	top := uint64(0)
	for _, o := range v.servers {
		top = max(top, o.LastIndex)
	}
	return int(top - s.LastIndex)
}

// measure reads the drawn metrics into now.
func (v *clusterView) measure(m metrics, now map[string]float64) {
	for _, d := range drawn {
		if d.unit == "/s" && len(m.Gauges) > 0 {
			now[d.title] = 0 // what did not happen is not told
		}
		for _, g := range m.Gauges {
			if strings.HasSuffix(g.Name, d.ending) {
				now[d.title] = g.Value
			}
		}
		for _, list := range [][]struct {
			Name            string
			Count           int
			Rate, Sum, Mean float64
		}{m.Counters, m.Samples} {
			for _, c := range list {
				if !strings.HasSuffix(c.Name, d.ending) {
					continue
				}
				if d.unit == "ms" {
					now[d.title] = c.Mean
				} else {
					now[d.title] = float64(c.Count) / 10 // an interval has ten seconds
				}
			}
		}
	}
}

// draw makes the charts of what the viewer sees now.
func (v *clusterView) draw(all []sample, now map[string]float64) {
	for _, s := range v.servers {
		if n, ok := now["lag "+s.Name]; ok {
			v.lag = append(v.lag, lagLine{s.Name, int(n), linePath(all, "lag "+s.Name)})
		}
	}
	if _, may := now[drawn[0].title]; !may {
		return // the record is of the agent's own token
	}
	for _, d := range drawn {
		n, ok := now[d.title]
		path := linePath(all, d.title)
		if path == "" {
			continue
		}
		text := strconv.FormatFloat(n, 'f', -1, 64)
		switch d.unit {
		case "bytes":
			text = size(int(n))
		case "ms":
			text = fmt.Sprintf("%.1f ms", n)
			if !ok {
				text = "none now"
			}
		case "/s":
			text = fmt.Sprintf("%.1f a second", n)
		}
		v.charts = append(v.charts, chart{d.title, text, path})
	}
}

// linePath draws what samples have by a name as a line of 300 by 100, the newest at the
// right, zero at the bottom.
func linePath(all []sample, name string) string {
	top := 0.0
	for _, s := range all {
		top = max(top, s.values[name])
	}
	if top *= 1.15; top == 0 {
		top = 1
	}
	var b strings.Builder
	for _, s := range all {
		v, ok := s.values[name]
		if !ok {
			continue
		}
		verb := "L"
		if b.Len() == 0 {
			verb = "M"
		}
		age := all[len(all)-1].at.Sub(s.at)
		fmt.Fprintf(&b, "%s%.1f %.1f", verb, 298-296*float64(age)/float64(sampled), 97-94*v/top)
	}
	if b.Len() > 0 && !strings.Contains(b.String(), "L") {
		b.WriteString("h.1") // a dot
	}
	return b.String()
}

// aboutTag says what a tag of a server is about.
func aboutTag(tag string) string {
	if about, ok := strings.CutPrefix(tag, "cfg_"); ok {
		return about + " settings"
	}
	if word := map[string]string{"rollcall": "version", "build": "speaks Consul", "acls": "access control", "expect": "bootstrap_expect"}[tag]; word != "" {
		return word
	}
	return tag
}

// differences tells in which of their gossip tags the servers differ, apart from what
// each must have of its own, and how many servers there are.
func differences(members []api.Member) (out []difference, of int) {
	own := map[string]bool{"id": true, "port": true, "wan_join_port": true, "bootstrap": true}
	values := map[string]map[string]string{} // by tag, then server
	var servers []string
	for _, m := range members {
		if m.Tags["role"] != "consul" {
			continue
		}
		servers = append(servers, m.Name)
		for k, v := range m.Tags {
			if !own[k] {
				if values[k] == nil {
					values[k] = map[string]string{}
				}
				values[k][m.Name] = v
			}
		}
	}
	slices.Sort(servers)
	for _, tag := range slices.Sorted(maps.Keys(values)) {
		d := difference{what: aboutTag(tag)}
		same := true
		for _, s := range servers {
			d.values = append(d.values, entry{s, values[tag][s]})
			same = same && values[tag][s] == values[tag][servers[0]]
		}
		if !same {
			out = append(out, d)
		}
	}
	return out, len(servers)
}
