package view

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcall/rollcall/templater/internal/run"
	"github.com/rollcall/rollcall/templater/internal/status"
	"github.com/rollcall/rollcall/templater/internal/watch"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := status.Report{
		Stale: 90 * time.Second,
		Groups: []run.Status{
			{Name: "edge", Ready: true, Generation: "abc", AppliedAt: now.Add(-5 * time.Second), Reloads: 3, Instances: map[string]int{"web": 2, "api": 1}, Files: []string{"/srv/out.conf"},
				Templates: []run.TemplateStatus{{Name: "/etc/edge.ctmpl", Uses: []string{"service(web|passing)", "key(x)", "services()"}, Executed: 4}}},
			{Name: "bad", LastError: "no such directive", Stage: "check", Failures: 1},
			{Name: "small", Held: "web would go from 10 instances to 3"},
			{Name: "waits", Missing: map[string][]string{"/out": {"key(x)"}}},
			{Name: "back", Pinned: "abc", Held: "generation abc is pinned"},
		},
		Dependencies: []watch.State{{Name: "service(web|passing)", Known: true, Index: 7, Age: 2 * time.Second}, {Name: "key(x)", Waiting: 3 * time.Second},
			{Name: "services()", Known: true, Hidden: true}},
	}
	got := Status(r, now)
	for _, want := range []string{"NOT READY", "not answered for 1m30s", "5s ago", "failed: check", "no such directive", "from 10 instances to 3", "/out waits for key(x)", "pinned"} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
	for _, name := range []string{"edge", ".ctmpl", "out.conf"} { // the group, the source, the destination
		got, ok := Why(r, name)
		for _, want := range []string{"executed 4 times", "index 7, answered 2s ago", "no answer yet, for 3s", "may not see all"} {
			if !ok || !strings.Contains(got, want) {
				t.Errorf("why %s: it lacks %q:\n%s", name, want, got)
			}
		}
	}
	if _, ok := Why(r, "nosuch"); ok {
		t.Error("why: found what is not there")
	}
}
