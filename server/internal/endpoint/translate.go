package endpoint

import (
	"context"
	"encoding/json"

	"github.com/rollcall/rollcall/internal/api"
)

// Translated gives an endpoint whose answers about other datacenters than dc bear the
// addresses that nodes and instances have for those from afar ("wan" among their tagged
// addresses), where they have some.
func Translated(ep Endpoint, dc string) Endpoint { return &translated{ep, dc} }

type translated struct {
	Endpoint
	dc string
}

// Read reads, and translates what comes from elsewhere.
func (t *translated) Read(ctx context.Context, q *Query) (*Answer, error) {
	a, err := t.Endpoint.Read(ctx, q)
	if err != nil || !a.Found {
		return a, err
	}
	far := q.Datacenter != "" && q.Datacenter != t.dc
	switch {
	case q.Kind == QueryExecute:
		return rewritten(a, func(r *api.QueryResult) bool {
			for _, i := range r.Nodes {
				instanceFromAfar(i)
			}
			return r.Datacenter != t.dc
		})
	case !far:
		return a, nil
	}
	switch q.Kind {
	case Nodes:
		return rewritten(a, func(l *[]*api.Node) bool { return each(*l, nodeFromAfar) })
	case ServiceNodes:
		return rewritten(a, func(l *[]*api.ServiceNode) bool { return each(*l, serviceNodeFromAfar) })
	case HealthService:
		return rewritten(a, func(l *[]*api.Instance) bool { return each(*l, instanceFromAfar) })
	case NodeServices:
		return rewritten(a, func(n *api.NodeServices) bool {
			nodeFromAfar(n.Node)
			for _, s := range n.Services {
				serviceFromAfar(s)
			}
			return true
		})
	case NodeList:
		return rewritten(a, func(n *NodeServiceList) bool {
			nodeFromAfar(n.Node)
			return each(n.Services, serviceFromAfar)
		})
	}
	return a, nil
}

// rewritten gives an answer as change leaves it, which works on a copy: what others have
// got stays. It is the answer itself where change says that it was not needed.
func rewritten[T any](a *Answer, change func(*T) bool) (*Answer, error) {
	b, err := a.JSON()
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, err
	}
	if !change(v) {
		return a, nil
	}
	if b, err = marshal(v); err != nil {
		return nil, err
	}
	return Encoded(a.Meta, a.Found, b), nil
}

func each[T any](list []T, change func(T)) bool {
	for _, v := range list {
		change(v)
	}
	return true
}

func nodeFromAfar(n *api.Node) {
	if n == nil {
		return
	}
	if wan := n.TaggedAddresses["wan"]; wan != "" {
		n.Address = wan
	}
}

func serviceFromAfar(s *api.Service) {
	if wan := s.TaggedAddresses["wan"]; wan.Address != "" {
		s.Address = wan.Address
		if wan.Port != 0 {
			s.Port = wan.Port
		}
	}
}

func instanceFromAfar(i *api.Instance) {
	nodeFromAfar(i.Node)
	serviceFromAfar(i.Service)
}

func serviceNodeFromAfar(s *api.ServiceNode) {
	if wan := s.TaggedAddresses["wan"]; wan != "" {
		s.Address = wan
	}
	if wan := s.ServiceTaggedAddresses["wan"]; wan.Address != "" {
		s.ServiceAddress = wan.Address
		if wan.Port != 0 {
			s.ServicePort = wan.Port
		}
	}
}
