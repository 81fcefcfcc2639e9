package store

import "github.com/rollcall/rollcall/internal/api"

// NodesAt gives the nodes that have addr.
func (st *State) NodesAt(addr string) (out []*Node, m Mark) {
	at := api.CanonicalAddress(addr)
	st.nodeAt.Ascend(&Node{at: at}, func(n *Node) bool {
		if n.at != at {
			return false
		}
		out = append(out, n)
		return true
	})
	return out, st.NodesMark()
}

// InstancesAt gives the instances that have addr as an address of their own.
func (st *State) InstancesAt(addr string) (out []Instance, m Mark) {
	if at := api.CanonicalAddress(addr); at != "" {
		st.serviceAt.Ascend(&Service{at: at}, func(s *Service) bool {
			if s.at != at {
				return false
			}
			node, _ := st.nodes.Get(&Node{key: s.node})
			out = append(out, Instance{Node: node, Service: s})
			return true
		})
	}
	return out, st.mark(st.index, st.index)
}
