package endpoint

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// ArgKnown is in a read of Leader the one that the caller knows, "" for none: the answer
// comes when another leads, or when the time is up.
const ArgKnown = "known"

// otherLeader waits as ArgKnown says.
func (l *Local) otherLeader(ctx context.Context, q *Query) error {
	if q.Kind != Leader || q.MinIndex == 0 {
		return nil
	}
	known, waits := q.Args[ArgKnown]
	if !waits {
		return nil
	}
	timer := time.NewTimer(l.patience(q))
	defer timer.Stop()
	for {
		changed := l.cfg.Raft.Watch()
		if _, addr := l.cfg.Raft.Leader(); addr != known {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// status answers what is asked of the cluster itself, from what this server knows.
func (l *Local) status(q *Query) (*Answer, bool, error) {
	var value any
	switch q.Kind {
	case Datacenters:
		value = append([]string{l.cfg.Datacenter}, l.cfg.Others()...)
	case CoordinateDatacenters:
		value = []*api.DatacenterCoordinates{}
		if l.cfg.Servers != nil {
			value = l.cfg.Servers()
		}
	case RaftStanding:
		var standing api.RaftStats
		if l.cfg.Seats != nil {
			standing = l.cfg.Seats.Standing()
		}
		value = &standing
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
func (l *Local) normalise(c command.Command) error {
	switch w := c.(type) {
	case *command.Register:
		return registration(&w.Registration, l.cfg.Datacenter)
	case *command.CreateSession:
		return newSession(&w.Session, l.cfg.SessionTTLMin)
	case *command.EndSession:
		return validUUID("session", w.ID)
	case *command.Deregister:
		if w.Node == "" {
			return api.Errorf(api.Internal, "Must provide node")
		}
	case *command.Query:
		return preparable(w)
	case *command.Places:
		return placeable(w)
	case *command.Operate:
		return operable(w)
	case *command.KV:
		if w.Pair.Key == "" && w.Verb != command.DeleteTree {
			return api.Errorf(api.Internal, "Must provide key")
		}
		if w.Verb == command.Lock && w.Pair.Session != "" {
			return validUUID("session", w.Pair.Session)
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
	if r.ID != "" && (len(r.ID) != 36 || uuid.Validate(r.ID) != nil) {
		return api.Errorf(api.Invalid, "Bad node ID: %q is no UUID", r.ID)
	}
	if r.Service != nil {
		if err := service(r.Service); err != nil {
			return err
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
		if c.Type == "" {
			c.Type = c.Definition.Kind()
		}
		if err := api.ValidStatus(c.Status); err != nil {
			return err
		}
	}
	if err := api.ValidCatalogMeta(r.NodeMeta); err != nil {
		return api.Errorf(api.Invalid, "Invalid meta: %v", err)
	}
	return nil
}

// service completes a service of a registration, or says what is wrong with it.
func service(s *api.Service) error {
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
	if err := api.ValidCatalogMeta(s.Meta); err != nil {
		return api.Errorf(api.Invalid, "Invalid Service Meta: %v", err)
	}
	if s.Weights.Passing < 1 { // as Consul has it: neither can be meant
		s.Weights = api.Weights{Passing: 1, Warning: 1}
	}
	if s.Tags == nil {
		s.Tags = []string{}
	}
	return nil
}
