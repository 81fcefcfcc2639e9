package local

// ServiceToken gives the token that a service was registered with, "" if none, and where
// the service came from.
func (s *State) ServiceToken(id string) (string, Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.services[id]; v != nil {
		return v.def.Token, v.src
	}
	return "", FromAPI
}

// CheckToken gives the token that a check was registered with, else that of its service, ""
// if none, and where the check came from.
func (s *State) CheckToken(id string) (string, Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.checks[id]
	if c == nil {
		return "", FromAPI
	}
	if c.def != nil && c.def.Token != "" {
		return c.def.Token, c.src
	}
	if v := s.services[c.row.ServiceID]; v != nil {
		return v.def.Token, v.src
	}
	return "", c.src
}
