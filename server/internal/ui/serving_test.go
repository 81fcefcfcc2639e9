package ui

import (
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/announce"
)

// TestServing: an instance is served by an nginx whose files have its service and its
// place; one that is behind says in what.
func TestServing(t *testing.T) {
	c := catalogOf(at(info("n1", "web w1 passing"), 81), at(info("n2", "web w2 critical"), 82), at(info("n3", "web w3 passing"), 83), at(info("n4", "db d1 passing"), 81))
	known := suite{
		{Kind: announce.Registrator, Node: "n1"},
		{Kind: announce.Templater, Node: "edge", Groups: []announce.Group{{Services: []string{"gone", "web"}, Places: []string{"10.0.0.1:81", "10.0.0.1:82"}, Servers: 2, Index: 7, Behind: time.Now().Add(-time.Minute)}}},
		{Kind: announce.Templater, Node: "many", Groups: []announce.Group{{Services: []string{"web"}, Servers: 5000}}},
	}
	r := &request{serving: known.fronts(), gathered: true}
	for key, want := range map[string]string{"n1\x00w1": "nginx on edge", "n2\x00w2": "nginx on edge", "n3\x00w3": "", "n4\x00d1": ""} {
		if got := r.servedBy(c.Instances[key]); got != want {
			t.Errorf("servedBy(%q) = %q, want %q", key, got, want)
		}
	}
	edge, crowd := r.serving[0], r.serving[1]
	for call, c := range map[string][2]string{
		"share(web)":       {edge.share(c.service("web")), "2 of 3"},
		"share(gone)":      {edge.share(c.service("gone")), "none registered"},
		"share of many":    {crowd.share(c.service("web")), "3 instances"},
		"lacks":            {edge.lacks(c), "1 passing instance not in yet, 1 instance still in that should not be"},
		"lacks of many":    {crowd.lacks(c), ""},
		"late":             {edge.late(), "behind for 1 min"},
		"late, if not":     {crowd.late(), ""},
		"of a service":     {r.serving.of("web")[1].name(), "nginx on many"},
		"of an other":      {many(len(r.serving.of("db")), "front"), "0 fronts"},
		"of one in nobody": {many(len(r.serving.of("gone")), "front"), "1 front"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %q, want %q", call, c[0], c[1])
		}
	}
}
