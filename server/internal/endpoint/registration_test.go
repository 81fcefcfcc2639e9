package endpoint

import (
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

// TestRegistration: what a registration may not be, and what it is completed to.
func TestRegistration(t *testing.T) {
	t.Parallel()
	with := func(s api.Service) *api.Registration {
		return &api.Registration{Node: "n", Address: "10.0.0.1", Service: &s}
	}
	for want, r := range map[string]*api.Registration{
		"Must provide node":                           {Address: "10.0.0.1"},
		"Must provide address":                        {Node: "n"},
		"Bad node ID":                                 {Node: "n", Address: "10.0.0.1", ID: "urn:uuid:10000000-2000-3000-4000-500000000000"},
		"Must provide service name":                   with(api.Service{}),
		"Must provide service name (Service.Service)": with(api.Service{ID: "x"}),
		"Invalid service address":                     with(api.Service{Service: "s", Address: "::"}),
		"Invalid service port 65536":                  with(api.Service{Service: "s", Port: 65536}),
		"Invalid Service Meta":                        with(api.Service{Service: "s", Meta: map[string]string{"bad key!": ""}}),
		"Invalid meta":                                {Node: "n", Address: "10.0.0.1", NodeMeta: map[string]string{"k": strings.Repeat("x", 513)}},
	} {
		if err := registration(r, "dc1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("registration(%+v): %v, want %q", r, err, want)
		}
	}
	r := with(api.Service{Service: "s", Weights: api.Weights{Passing: -1}})
	if err := registration(r, "dc1"); err != nil {
		t.Fatal(err)
	}
	if s := r.Service; s.ID != "s" || s.Tags == nil || s.Weights != (api.Weights{Passing: 1, Warning: 1}) {
		t.Errorf("completed to %+v", s)
	}
}
