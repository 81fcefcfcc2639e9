package ui

import (
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

func TestTitleOfAPolicy(t *testing.T) {
	r := viewer("h", "")
	for want, p := range map[string]*api.Policy{
		"New policy":       {},
		"operators-of-web": {ID: "5a6b7c8d-0000-0000-0000-000000000000", Name: "operators-of-web"},
	} {
		if got := r.policyView(p, "", 0).title; got != want {
			t.Errorf("title %q, want %q", got, want)
		}
	}
}
