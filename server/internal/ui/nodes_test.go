package ui

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

// TestLifeHasItsColour: what gossip says of a node and the colour that stands beside it
// agree, whatever the node's checks said last.
func TestLifeHasItsColour(t *testing.T) {
	for name, c := range map[string]struct {
		checks string
		member *api.Member
		want   string
	}{
		"in the catalog only":    {api.Warning, nil, "warning warning"},
		"alive":                  {api.Passing, &api.Member{Status: api.StatusAlive}, "passing passing"},
		"alive, and ill":         {api.Critical, &api.Member{Status: api.StatusAlive}, "critical critical"},
		"failed":                 {api.Passing, &api.Member{Status: api.StatusFailed}, "failed critical"},
		"failed while taken out": {maintenance, &api.Member{Status: api.StatusFailed}, "failed critical"},
		"left":                   {api.Passing, &api.Member{Status: api.StatusLeft}, "left warning"},
		"left as it was ill":     {api.Critical, &api.Member{Status: api.StatusLeft}, "left critical"},
	} {
		h := &host{node: &node{NodeInfo: info("n"), Status: c.checks}, member: c.member}
		if got := h.life() + " " + h.state(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		h.known, h.rtt = true, 1e6
		var page bytes.Buffer
		rows := []*host{h}
		if err := nodes(viewer("h", ""), rows, pager{page: 1, pages: 1}, search{}, distances(rows)).Render(t.Context(), &page); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`data-state="` + h.state() + `"`, `<circle class="` + h.state() + `"`, `class="state ` + h.state() + `"`} {
			if !strings.Contains(page.String(), want) {
				t.Errorf("%s: the page lacks %s", name, want)
			}
		}
	}
}
