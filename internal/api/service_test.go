package api

import (
	"maps"
	"testing"
)

// TestTaggedAddresses: an address that is an IP is its tagged address, unless another is
// given.
func TestTaggedAddresses(t *testing.T) {
	t.Parallel()
	own := ServiceAddress{"192.0.2.9", 81}
	for _, c := range []struct {
		address string
		given   map[string]ServiceAddress
		want    map[string]ServiceAddress
	}{
		{"", nil, nil},
		{"web.example", nil, nil},
		{"10.0.0.1", nil, map[string]ServiceAddress{"lan_ipv4": {"10.0.0.1", 80}, "wan_ipv4": {"10.0.0.1", 80}}},
		{"fd00::1", nil, map[string]ServiceAddress{"lan_ipv6": {"fd00::1", 80}, "wan_ipv6": {"fd00::1", 80}}},
		{"10.0.0.1", map[string]ServiceAddress{"wan_ipv4": own, "lan": own}, map[string]ServiceAddress{"lan_ipv4": {"10.0.0.1", 80}, "wan_ipv4": own, "lan": own}},
	} {
		def := &ServiceDefinition{Name: "s", Port: 80, Address: c.address, TaggedAddresses: c.given}
		given := maps.Clone(c.given)
		if got := def.Instance().TaggedAddresses; !maps.Equal(got, c.want) {
			t.Errorf("%q with %v: %v, want %v", c.address, c.given, got, c.want)
		}
		if !maps.Equal(def.TaggedAddresses, given) {
			t.Errorf("%q: the definition was changed to %v", c.address, def.TaggedAddresses)
		}
	}
}

// TestServiceEqual: whatever a registration can say counts, an index does not.
func TestServiceEqual(t *testing.T) {
	t.Parallel()
	base := func() *Service {
		return &Service{ID: "a", Service: "s", Tags: []string{"t"}, Meta: map[string]string{"k": "v"}, Port: 80, Locality: &Locality{"r", "z"}}
	}
	same := base()
	same.CreateIndex, same.ModifyIndex = 7, 8
	if !base().Equal(same) {
		t.Error("an index counts")
	}
	for name, change := range map[string]func(*Service){
		"ID": func(s *Service) { s.ID = "b" }, "Service": func(s *Service) { s.Service = "b" }, "Tags": func(s *Service) { s.Tags = nil },
		"Meta": func(s *Service) { s.Meta = nil }, "Port": func(s *Service) { s.Port = 81 }, "Address": func(s *Service) { s.Address = "x" },
		"Weights": func(s *Service) { s.Weights.Passing = 2 }, "EnableTagOverride": func(s *Service) { s.EnableTagOverride = true },
		"SocketPath": func(s *Service) { s.SocketPath = "/x" }, "no Locality": func(s *Service) { s.Locality = nil },
		"Locality":        func(s *Service) { s.Locality = &Locality{"r", "y"} },
		"TaggedAddresses": func(s *Service) { s.TaggedAddresses = map[string]ServiceAddress{"lan": {}} },
	} {
		other := base()
		change(other)
		if base().Equal(other) || other.Equal(base()) {
			t.Errorf("%s does not count", name)
		}
	}
}
