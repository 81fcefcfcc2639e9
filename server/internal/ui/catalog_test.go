package ui

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/announce"
	"github.com/rollcall/rollcall/internal/api"
)

// info makes a node; each service is "name id status".
func info(name string, services ...string) *api.NodeInfo {
	n := &api.NodeInfo{Node: name, Address: "10.0.0.1", Checks: []*api.Check{{CheckID: api.SerfHealth, Name: "serf", Status: api.Passing}}}
	for _, s := range services {
		f := strings.Fields(s)
		n.Services = append(n.Services, &api.Service{ID: f[1], Service: f[0], Port: 80})
		c := &api.Check{CheckID: "c" + f[1], Name: "probe", Status: f[2], ServiceID: f[1], Output: "first line\nsecond"}
		if f[2] == maintenance {
			c.CheckID, c.Status, c.Notes = api.ServiceMaintenancePrefix+f[1], api.Critical, "because"
		}
		n.Checks = append(n.Checks, c)
	}
	return n
}

func dead(n *api.NodeInfo) *api.NodeInfo {
	n.Checks[0].Status = api.Critical
	return n
}

func at(n *api.NodeInfo, port int) *api.NodeInfo {
	n.Services[0].Port = port
	return n
}

func catalogOf(nodes ...*api.NodeInfo) *catalog { return newCatalog(nodes, 7) }

func TestCatalogCounts(t *testing.T) {
	c := catalogOf(info("n2", "web w1 passing", "web w2 warning"), dead(info("n1", "web w1 passing", "db d1 maintenance")), info("n3", "db d1 critical"))
	if c.Counts != (counts{Passing: 1, Warning: 1, Critical: 2, Maintenance: 1}) || c.Down != 1 {
		t.Errorf("counts %+v, %d down", c.Counts, c.Down)
	}
	if got := c.service("web"); got == nil || got.Hosts != 2 || len(got.Instances) != 3 || got.Instances[0].On.Node != "n1" {
		t.Errorf("web is %+v", got)
	}
	if c.service("we") != nil || c.node("n4") != nil || c.node("n3") == nil {
		t.Error("names are not found, or found where there are none")
	}
	if text, status := headline(c); text != "1 node down, 2 instances critical" || status != api.Critical {
		t.Errorf("headline %q, %s", text, status)
	}
}

func TestDiffTellsWhatChanged(t *testing.T) {
	for name, c := range map[string]struct {
		old, now []*api.NodeInfo
		want     []string
	}{
		"nothing":      {[]*api.NodeInfo{info("n", "web w passing")}, []*api.NodeInfo{info("n", "web w passing")}, nil},
		"registered":   {[]*api.NodeInfo{info("n")}, []*api.NodeInfo{info("n", "web w passing")}, []string{"w registered; at 10.0.0.1:80"}},
		"deregistered": {[]*api.NodeInfo{info("n", "web w passing")}, []*api.NodeInfo{info("n")}, []string{"w deregistered; "}},
		"drained":      {[]*api.NodeInfo{info("n", "web w maintenance")}, []*api.NodeInfo{info("n")}, []string{"w deregistered; drained before"}},
		"critical":     {[]*api.NodeInfo{info("n", "web w passing")}, []*api.NodeInfo{info("n", "web w critical")}, []string{"w critical; probe: first line"}},
		"well again":   {[]*api.NodeInfo{info("n", "web w warning")}, []*api.NodeInfo{info("n", "web w passing")}, []string{"w well again; "}},
		"taken out":    {[]*api.NodeInfo{info("n", "web w passing")}, []*api.NodeInfo{info("n", "web w maintenance")}, []string{"w taken out for maintenance; because"}},
		"moved":        {[]*api.NodeInfo{info("n", "web w passing")}, []*api.NodeInfo{at(info("n", "web w passing"), 81)}, []string{"w moved; from 10.0.0.1:80 to 10.0.0.1:81"}},
		// what a node does is told once, not for each instance
		"node down": {[]*api.NodeInfo{info("n", "web w passing")}, []*api.NodeInfo{dead(info("n", "web w passing"))}, []string{"n critical; serf"}},
		"node gone": {[]*api.NodeInfo{info("n", "web w passing")}, nil, []string{"n gone from the catalog; it left, or was deregistered", "w deregistered; its node is gone"}},
		"node new":  {nil, []*api.NodeInfo{info("n", "web w passing")}, []string{"n joined; at 10.0.0.1", "w registered; at 10.0.0.1:80"}},
	} {
		var got []string
		for _, e := range diff(catalogOf(c.old...), catalogOf(c.now...), time.Now()) {
			got = append(got, e.sentence()+"; "+e.Cause)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestCrowdsAreOneEvent(t *testing.T) {
	var many []string
	for n := range 30 {
		many = append(many, fmt.Sprintf("web w%d passing", n))
	}
	got := diff(catalogOf(info("n")), catalogOf(info("n", append(many, "db d passing")...)), time.Now())
	if len(got) != 2 || got[1].sentence() != "30 instances of web registered" || got[1].Count != 30 {
		t.Errorf("%d events, the last %q", len(got), got[len(got)-1].sentence())
	}
}

func TestTimelineIsBounded(t *testing.T) {
	start := time.Now()
	tl := newTimeline(start)
	for n := range maxEvents + 500 {
		tl.add(&event{Kind: registered, At: start.Add(time.Duration(n) * time.Second), Instance: fmt.Sprint(n)})
	}
	all := tl.latest(1e6, func(*event) bool { return true })
	if len(all) != maxEvents || all[0].Instance != fmt.Sprint(maxEvents+499) {
		t.Errorf("%d events, the newest %s", len(all), all[0].Instance)
	}
	tl.add(&event{Kind: registered, At: start.Add(24 * time.Hour)})
	if n := len(tl.latest(1e6, func(*event) bool { return true })); n != 1 {
		t.Errorf("%d events after a day", n)
	}
}

func TestPastKeepsTheWorstOfEachMinute(t *testing.T) {
	tl, minute := newTimeline(time.Now()), time.Unix(6000, 0)
	good, bad := catalogOf(info("n", "web w passing")), catalogOf(info("n", "web w critical"))
	tl.note(good, minute)
	tl.note(bad, minute.Add(time.Minute))
	tl.note(good, minute.Add(time.Minute+time.Second)) // the minute was bad all the same
	tl.note(good, minute.Add(3*time.Minute))
	got := tl.past("web")
	if len(got) != slots {
		t.Fatalf("%d points", len(got))
	}
	if got := fmt.Sprint(got[slots-5:]); got != "[{0 0 0 0} {0 0 0 1} {1 0 0 1} {0 0 0 1} {0 0 0 1}]" {
		t.Errorf("past %s", got)
	}
	tl.note(catalogOf(), minute.Add(3*time.Hour))
	if tl.past("web") != nil {
		t.Error("a service that is gone for hours is remembered")
	}
}

// TestSparkHasEachStatesColour: an area is drawn for every state of the hour, the worst at
// the bottom and over the others.
func TestSparkHasEachStatesColour(t *testing.T) {
	const full, half = "M0 24V1H240V24Z", "M0 24V13H240V24Z"
	for name, c := range map[string]struct {
		points []point
		want   []area
	}{
		"well":            {[]point{{All: 2}}, []area{{api.Passing, full}}},
		"warning":         {[]point{{Warning: 2, All: 2}}, []area{{api.Warning, full}}},
		"maintenance":     {[]point{{Maintenance: 1, All: 2}}, []area{{api.Passing, full}, {maintenance, half}}},
		"two at a time":   {[]point{{Critical: 1, Warning: 1, All: 2}}, []area{{api.Warning, full}, {api.Critical, half}}},
		"one after other": {[]point{{Critical: 2, Warning: 2, All: 2}}, []area{{api.Critical, full}}},
		"in turn":         {[]point{{Warning: 1, All: 2}, {Critical: 1, All: 2}}, []area{{api.Passing, "M0 24V1H120V1H240V24Z"}, {api.Warning, "M0 24V13H120V13H240V24Z"}, {api.Critical, "M0 24V24H120V13H240V24Z"}}},
		"not there":       {[]point{{}}, nil},
	} {
		if got := sparkAreas(c.points); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestSegmentsShowWhatIsRare(t *testing.T) {
	got := segments(counts{Passing: 9999, Critical: 1})
	if len(got) != 2 || got[0].status != api.Critical || got[0].width < 8 || got[1].from+got[1].width != 1000 {
		t.Errorf("segments %+v", got)
	}
}

// TestMapIsBounded: however much there is, the map has a bounded number of elements, and
// shows what is not well.
func TestMapIsBounded(t *testing.T) {
	var nodes []*api.NodeInfo
	for n := range 200 {
		var services []string
		for s := range 100 {
			services = append(services, fmt.Sprintf("s%d i%d passing", s, s))
		}
		if n == 150 {
			services[99] = "s99 i99 critical"
		}
		nodes = append(nodes, info(fmt.Sprintf("n%03d", n), services...))
	}
	h := newHall(catalogOf(nodes...))
	groups, shown := 0, false
	for _, c := range h.hosts {
		groups += len(c.groups)
		for _, g := range c.groups {
			shown = shown || g.counts.Critical > 0
		}
	}
	if len(h.hosts) > maxHosts || groups > maxHosts*perHost || h.hidden != 200-maxHosts {
		t.Errorf("%d hosts, %d groups, %d hidden", len(h.hosts), groups, h.hidden)
	}
	if !shown {
		t.Error("the one that is critical is not on the map")
	}
}

// TestGeneratedIsCurrent: the checked-in Go code is what templ makes of the templates.
func TestGeneratedIsCurrent(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "templ")
	if out, err := exec.Command("go", "build", "-modfile=../../../tools/go.mod", "-o", bin, "github.com/a-h/templ/cmd/templ").CombinedOutput(); err != nil {
		t.Fatalf("build templ: %v\n%s", err, out)
	}
	files, err := filepath.Glob("*.templ")
	if err != nil || len(files) == 0 {
		t.Fatalf("templates %q: %v", files, err)
	}
	for _, f := range files {
		want, err := exec.Command(bin, "generate", "-stdout", "-f", f).Output()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(strings.TrimSuffix(f, ".templ") + "_templ.go")
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s was changed and its Go code was not made anew: make generate", f)
		}
	}
}

func TestTrailJoinsWhatEachTells(t *testing.T) {
	start := time.Now()
	after := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	known := suite{
		{Kind: announce.Registrator, Node: "n", Births: []announce.Birth{{Service: "w", Started: start, Registered: after(20)}}},
		{Kind: announce.Templater, Node: "edge", Groups: []announce.Group{{Services: []string{"web"}}}, Applies: []announce.Apply{
			{Index: 6, Rendered: after(1), At: after(2)}, {Index: 8, Rendered: after(30), At: after(70)}, {Index: 9, Rendered: after(90), At: after(99)},
		}},
		{Kind: announce.Templater, Node: "other", Groups: []announce.Group{{Services: []string{"db"}}}, Applies: []announce.Apply{{Index: 8, Rendered: after(30), At: after(70)}}},
	}
	for name, c := range map[string]struct {
		e    event
		want []string
	}{
		"registered":   {event{Kind: registered, Status: api.Passing, Index: 7}, []string{"container started", "registered +20 ms", "committed at index 7", "rendered +10 ms", "nginx on edge serves it +40 ms"}},
		"critical":     {event{Kind: turned, Status: api.Critical, Index: 7}, []string{"committed at index 7", "rendered ", "nginx on edge has the change +40 ms"}},
		"deregistered": {event{Kind: deregistered, Status: api.Passing, Index: 9}, []string{"committed at index 9", "rendered +50 ms", "nginx on edge has the change +9.0 ms"}},
		"under way":    {event{Kind: turned, Status: api.Passing, Index: 10}, []string{"committed at index 10", "on its way to 1 templater "}},
	} {
		c.e.Node, c.e.Service, c.e.Instance, c.e.At = "n", "web", "w", after(40)
		var got []string
		for _, s := range known.trail(&c.e) {
			if s.name == "container started" {
				s.name, s.text = "container", "started"
			}
			got = append(got, s.name+" "+s.text)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestSamples: looks come at most once a second and are kept for a quarter of an hour; a
// line is drawn by their times, and only of what they have.
func TestSamples(t *testing.T) {
	var s samples
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	look := func(after time.Duration, lag float64) {
		at = at.Add(after)
		s.take(at, map[string]float64{"lag": lag})
	}
	look(0, 10)
	look(sampled-10*time.Second, 0)
	look(500*time.Millisecond, 7) // too soon
	s.take(at.Add(time.Minute), nil)
	if got, want := linePath(s.now(), "lag"), "M5.3 15.3L298.0 97.0"; got != want {
		t.Errorf("two looks draw %s, want %s", got, want)
	}
	look(20*time.Second, 5) // the first is too old now
	if got := s.now(); len(got) != 2 {
		t.Errorf("%d looks are kept, want 2", len(got))
	}
	if got := linePath(s.now(), "other"); got != "" {
		t.Errorf("what no look has draws %s", got)
	}
}
