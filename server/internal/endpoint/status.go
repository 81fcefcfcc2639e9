package endpoint

import (
	"net"
	"strconv"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// status answers what is asked of the cluster itself, from what this server knows.
func (l *Local) status(q *Query) (*Answer, bool, error) {
	var value any
	switch q.Kind {
	case Datacenters:
		value = []string{l.cfg.Datacenter}
	case Leader:
		_, addr := l.cfg.Raft.Leader()
		value = addr
	case Peers:
		rows, _, err := l.cfg.Raft.Servers()
		if err != nil {
			return nil, false, err
		}
		addrs := make([]string, 0, len(rows))
		for _, r := range rows {
			addrs = append(addrs, r.Address)
		}
		value = addrs
	case Raft:
		rows, index, err := l.cfg.Raft.Servers()
		if err != nil {
			return nil, false, err
		}
		st := l.cfg.Store.State()
		if rows == nil {
			rows = []*api.RaftServer{}
		}
		for _, r := range rows {
			r.Node = "(unknown)"
			if n := st.NodeByID(r.ID); n != nil {
				r.Node = n.Node.Node
			}
		}
		value = &api.RaftConfiguration{Servers: rows, Index: index}
	default:
		return nil, false, nil
	}
	a := &Answer{Found: true, Value: value, body: &body{encode: func() ([]byte, error) { return marshal(value) }}}
	_, addr := l.cfg.Raft.Leader()
	a.Meta = api.QueryMeta{Index: 1, KnownLeader: addr != "", Consistency: q.Consistency}
	return a, true, nil
}

// normalise fills in what a write leaves open and refuses what cannot be meant, before
// anything reaches the log.
func normalise(c command.Command, dc string) error {
	switch w := c.(type) {
	case *command.Register:
		return registration(&w.Registration, dc)
	case *command.Deregister:
		if w.Node == "" {
			return api.Errorf(api.Internal, "Must provide node")
		}
	case *command.KV:
		if w.Pair.Key == "" && w.Verb != command.DeleteTree {
			return api.Errorf(api.Internal, "Must provide key")
		}
		switch {
		case w.Verb != command.Lock:
		case w.Pair.Session == "":
			return api.Errorf(api.Internal, "missing session")
		default: // there are no sessions yet
			return api.Errorf(api.Internal, "invalid session %q", w.Pair.Session)
		}
	}
	return nil
}

func registration(r *api.Registration, dc string) error {
	if r.Node == "" {
		return api.Errorf(api.Internal, "Must provide node")
	}
	if r.Address == "" && !r.SkipNodeUpdate {
		return api.Errorf(api.Internal, "Must provide address if SkipNodeUpdate is not set")
	}
	r.Datacenter = dc
	if s := r.Service; s != nil {
		if s.ID == "" {
			s.ID = s.Service
		}
		if s.Service == "" && s.ID == "" {
			return api.Errorf(api.Internal, "Must provide service name (Service.Service) or ID (Service.ID)")
		}
		if s.Service == "" {
			return api.Errorf(api.Internal, "Must provide service name (Service.Service)")
		}
		if ip := net.ParseIP(s.Address); ip != nil && ip.IsUnspecified() {
			return api.Errorf(api.Invalid, "Invalid service address")
		}
		if s.Port < 0 || s.Port > 65535 {
			return api.Errorf(api.Invalid, "Invalid service port %s", strconv.Itoa(s.Port))
		}
		if s.Weights == (api.Weights{}) {
			s.Weights = api.Weights{Passing: 1, Warning: 1}
		}
		if s.Tags == nil {
			s.Tags = []string{}
		}
	}
	if r.Check != nil {
		r.Checks = append(r.Checks, r.Check)
		r.Check = nil
	}
	for _, c := range r.Checks {
		if c.CheckID == "" {
			c.CheckID = c.Name
		}
		if c.CheckID == "" {
			return api.Errorf(api.Internal, "Must provide check name or id")
		}
		if c.Node == "" {
			c.Node = r.Node
		}
		if c.Status == "" {
			c.Status = api.Critical
		}
		if err := api.ValidStatus(c.Status); err != nil {
			return err
		}
	}
	if err := api.ValidCatalogMeta(r.NodeMeta); err != nil {
		return api.Errorf(api.Internal, "Invalid meta: %v", err)
	}
	return nil
}
