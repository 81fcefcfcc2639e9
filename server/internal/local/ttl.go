package local

import (
	"fmt"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// TTL takes a report on a TTL check and remembers it over a restart. It tells whether
// the report changed anything but the expiry.
func (s *State) TTL(id, status, output string) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.checks[id]
	if c == nil {
		return false, unknown(id)
	}
	if c.def == nil || c.def.TTL == 0 {
		return false, api.Errorf(api.Internal, "CheckID %q does not have associated TTL", id)
	}
	if err := api.ValidStatus(status); err != nil {
		return false, err
	}
	output = s.limit(output, c.def)
	if s.discard {
		output = ""
	}
	s.disk.saveTTL(c.def, status, output)
	return s.report(id, c, status, output), nil
}

// Expire turns a TTL check critical if its last report has run out, with an output made
// from the last one, and says when to look again: zero where there is no such check.
// Without a report yet, the TTL begins at the first call.
func (s *State) Expire(id string, output func(last string) string) (look time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.checks[id]
	if c == nil || c.def == nil || c.def.TTL == 0 {
		return time.Time{}
	}
	now := time.Now()
	at := s.disk.expiry(id)
	switch {
	case at.IsZero():
		at = s.disk.extend(c.def)
	case !at.After(now) && s.disk.expired[id]: // it was said
		at = s.disk.extend(c.def)
		s.disk.expired[id] = true
	case !at.After(now):
		at = s.disk.extend(c.def)
		s.disk.expired[id] = true
		s.log.Warn("a check missed its TTL", "check", id, "ttl", c.def.TTL.String(), "was", c.row.Status)
		s.report(id, c, api.Critical, output(c.row.Output))
	}
	return at
}

// limit cuts a report's note to its first bytes, as Consul does, and says so.
func (s *State) limit(output string, def *api.CheckDefinition) string {
	size := s.cfg.MaxOutput
	if def.OutputMaxSize > 0 {
		size = min(size, def.OutputMaxSize)
	}
	if len(output) <= size {
		return output
	}
	return fmt.Sprintf("%s ... (captured %d of %d bytes)", strings.ToValidUTF8(output[:size], ""), size, len(output))
}
