package endpoint

import (
	"slices"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// Nodes and instances are found by their address, however it is written.
func TestByAddress(t *testing.T) {
	t.Parallel()
	l, _, _ := setup()
	for _, r := range []api.Registration{
		{Node: "n1", Address: "10.0.0.1", Service: &api.Service{Service: "web", Address: "192.168.0.1"}},
		{Node: "n2", Address: "10.0.0.1", Service: &api.Service{Service: "web"}},
		{Node: "six", Address: "FD00:0::6", Service: &api.Service{Service: "db", Address: "192.168.0.1"}},
	} {
		if _, err := l.Write(t.Context(), &Write{Command: &command.Register{Registration: r}}); err != nil {
			t.Fatal(err)
		}
	}
	for addr, want := range map[string][2][]string{
		"10.0.0.1":    {{"n1", "n2"}, nil},
		"fd00::6":     {{"six"}, nil},
		"192.168.0.1": {nil, {"db", "web"}},
		"10.0.0.9":    {nil, nil},
	} {
		a, err := l.Read(t.Context(), &Query{Kind: Nodes, Name: addr})
		if err != nil {
			t.Fatal(err)
		}
		var names, services []string
		for _, n := range a.Value.([]*api.Node) {
			names = append(names, n.Node)
		}
		if a, err = l.Read(t.Context(), &Query{Kind: InstancesAt, Name: addr}); err != nil {
			t.Fatal(err)
		}
		for _, s := range a.Value.([]*api.ServiceNode) {
			services = append(services, s.ServiceName)
		}
		if slices.Sort(services); !slices.Equal(names, want[0]) || !slices.Equal(services, want[1]) {
			t.Errorf("at %s: nodes %v and services %v, want %v", addr, names, services, want)
		}
	}
}
