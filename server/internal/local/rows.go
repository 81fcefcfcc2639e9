package local

import (
	"maps"
	"slices"

	"github.com/rollcall/rollcall/internal/api"
)

// Services gives the services by id. The map is the caller's, the services are shared.
func (s *State) Services() map[string]*api.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*api.Service, len(s.services))
	for id, v := range s.services {
		out[id] = v.row
	}
	return out
}

// Checks gives the checks by id. The map is the caller's, the checks are shared.
func (s *State) Checks() map[string]*api.Check {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows()
}

func (s *State) rows() map[string]*api.Check {
	out := make(map[string]*api.Check, len(s.checks))
	for id, c := range s.checks {
		out[id] = c.row
	}
	return out
}

// Service gives one service, nil where there is none. It is shared.
func (s *State) Service(id string) *api.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.services[id]; v != nil {
		return v.row
	}
	return nil
}

// Check gives one check, nil where there is none. It is shared.
func (s *State) Check(id string) *api.Check {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.checks[id]; c != nil {
		return c.row
	}
	return nil
}

// Both gives services and checks of one moment.
func (s *State) Both() (map[string]*api.Service, map[string]*api.Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	services := make(map[string]*api.Service, len(s.services))
	for id, v := range s.services {
		services[id] = v.row
	}
	return services, s.rows()
}

// Some gives those services and checks of the ids that are there. They are shared.
func (s *State) Some(services, checks map[string]bool) (map[string]*api.Service, map[string]*api.Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	outServices, outChecks := make(map[string]*api.Service, len(services)), make(map[string]*api.Check, len(checks))
	for id := range services {
		if v := s.services[id]; v != nil {
			outServices[id] = v.row
		}
	}
	for id := range checks {
		if c := s.checks[id]; c != nil {
			outChecks[id] = c.row
		}
	}
	return outServices, outChecks
}

// Runnables gives the checks that have to be run, by id.
func (s *State) Runnables() map[string]Runnable {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]Runnable, len(s.checks))
	for id := range s.checks {
		if r, ok := s.runnable(id); ok {
			out[id] = r
		}
	}
	return out
}

// Runnable gives one check, if it is one that has to be run.
func (s *State) Runnable(id string) (Runnable, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runnable(id)
}

func (s *State) runnable(id string) (Runnable, bool) {
	c := s.checks[id]
	if c == nil || c.def == nil {
		return Runnable{}, false
	}
	return Runnable{c.def, c.src, c.row.Status}, true
}

// ServiceChecks gives the checks that bear on a service, its own and the node's by id,
// and whether there is such a service.
func (s *State) ServiceChecks(id string) (all []*api.Check, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range slices.Compact([]string{"", id}) {
		for _, cid := range slices.Sorted(maps.Keys(s.bound[of])) {
			all = append(all, s.checks[cid].row)
		}
	}
	return all, s.services[id] != nil
}
