package local

import "github.com/rollcall/rollcall/internal/api"

// ServiceMaintenance takes a service out, or back in.
func (s *State) ServiceMaintenance(id string, on bool, reason string) error {
	if err := s.knows(id); err != nil {
		return err
	}
	if reason == "" {
		reason = "Maintenance mode is enabled for this service, but no reason was provided. This is a default message."
	}
	return s.maintain(api.ServiceMaintenancePrefix+id, id, "Service Maintenance Mode", on, reason)
}

// NodeMaintenance takes the whole node out, or back in.
func (s *State) NodeMaintenance(on bool, reason string) error {
	if reason == "" {
		reason = "Maintenance mode is enabled for this node, but no reason was provided. This is a default message."
	}
	return s.maintain(api.NodeMaintenance, "", "Node Maintenance Mode", on, reason)
}

func (s *State) maintain(id, serviceID, name string, on bool, reason string) error {
	s.mu.Lock()
	already := on == (s.checks[id] != nil)
	s.mu.Unlock()
	if already {
		return nil
	}
	m := maintenance{id, serviceID, name, reason}
	rec := record{Maintenance: &m}
	if !on {
		rec = record{RemoveCheck: id}
	}
	return s.commit(rec, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case !on:
			s.dropCheck(id)
		case serviceID == "" || s.services[serviceID] != nil:
			s.setMaintenance(m)
		}
		s.notify()
		return nil
	})
}

func (s *State) setMaintenance(m maintenance) {
	row := &api.Check{
		Node: s.cfg.Node, CheckID: m.CheckID, Name: m.Name, Status: api.Critical, Notes: m.Reason, ServiceID: m.ServiceID,
		ServiceTags: []string{}, Type: "maintenance",
	}
	if svc := s.services[m.ServiceID]; svc != nil {
		row.ServiceName, row.ServiceTags = svc.row.Service, svc.row.Tags
	}
	s.put(m.CheckID, &check{row: row})
}
