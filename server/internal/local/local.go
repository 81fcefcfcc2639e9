// Package local is what this agent itself vouches for: its own services and checks, and
// the results of those checks. What is registered over the API is on disk before the
// call returns, and comes back after a crash, TTL states included; what comes from
// configuration files does not need to be. It runs no checks and knows no catalog: checks
// reports into it, antientropy reads from it.
package local

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// Source is where a definition came from.
type Source uint8

// The sources. What a file says wins over what was registered under the same id.
const (
	FromAPI Source = iota
	FromConfig
)

// Config is what Open needs.
type Config struct {
	// Dir is the data directory, "" keeps all in memory.
	Dir string
	// Node is this agent's name.
	Node string
	// MaxOutput is how many bytes of a check's output are kept. Default 4096.
	MaxOutput int
	Log       *slog.Logger
}

// State is the agent's own services and checks. Its methods may be called concurrently.
type State struct {
	cfg  Config
	log  *slog.Logger
	disk disk

	mu       sync.Mutex
	services map[string]*service // guarded by mu; by id
	checks   map[string]*check   // guarded by mu; by id
	changed  chan struct{}       // guarded by mu; closed at the next change

	waiting []savedCheck // until the first ReplaceConfig; see adopt
}

// service and check are immutable once in the maps: a change puts a new one there.
type service struct {
	def *api.ServiceDefinition
	row *api.Service
	src Source
}

type check struct {
	def   *api.CheckDefinition // nil for maintenance, which nobody runs
	row   *api.Check
	src   Source
	owned bool      // came with its service's definition
	since time.Time // critical since; zero if it is not
}

// Runnable is a check that somebody has to run.
type Runnable struct {
	Def *api.CheckDefinition
	// Status and Output are the present ones, where the runner begins.
	Status, Output string
	// Expires is when a TTL check that is not reported on turns critical; zero for a full
	// TTL from now.
	Expires time.Time
}

// Open loads what was registered and outlived the last run.
func Open(cfg Config) (*State, error) {
	if cfg.MaxOutput == 0 {
		cfg.MaxOutput = 4096
	}
	s := &State{
		cfg: cfg, log: cfg.Log.With("room", "local"), disk: disk{dir: cfg.Dir, log: cfg.Log.With("room", "local")},
		services: map[string]*service{}, checks: map[string]*check{}, changed: make(chan struct{}),
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// Watch gives a channel that closes at the next change of any kind. Take it before
// looking.
func (s *State) Watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// notify is called with mu held.
func (s *State) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

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

// Runnables gives the checks that have to be run, by id.
func (s *State) Runnables() map[string]Runnable {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]Runnable, len(s.checks))
	for id, c := range s.checks {
		if c.def != nil {
			out[id] = Runnable{c.def, c.row.Status, c.row.Output, s.disk.expiry(id)}
		}
	}
	return out
}

// AddService adds or replaces a service with its checks. A check that keeps its id keeps
// its status, so that registering again does not flap; checks that came with the old
// definition and are not in the new one stay unless replace is set.
func (s *State) AddService(def *api.ServiceDefinition, src Source, replace bool) error {
	if err := def.Validate(); err != nil {
		return err
	}
	own := *def
	if own.ID == "" {
		own.ID = own.Name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.services[own.ID]; old != nil && old.src == FromConfig && src == FromAPI {
		src = FromConfig // the file goes on owning the id until the next reload
	}
	if src == FromAPI {
		if err := s.disk.saveService(&own); err != nil {
			return err
		}
	}
	s.services[own.ID] = &service{&own, own.Instance(), src}
	kept := map[string]bool{}
	for i, c := range own.AllChecks() {
		d := *c
		d.CheckID, d.ServiceID = checkID(&own, c, i), own.ID
		if d.Name == "" {
			d.Name = fmt.Sprintf("Service '%s' check", own.Name)
		}
		kept[d.CheckID] = true
		s.setCheck(&d, src, true)
	}
	for id, c := range s.checks {
		if c.row.ServiceID != own.ID {
			continue
		}
		if c.owned && !kept[id] && (replace || c.src == FromConfig) {
			s.dropCheck(id)
			continue
		}
		s.relabel(id, c)
	}
	s.notify()
	return nil
}

// checkID is the id of a service's i-th check.
func checkID(def *api.ServiceDefinition, c *api.CheckDefinition, i int) string {
	switch {
	case c.CheckID != "":
		return c.CheckID
	case len(def.AllChecks()) > 1:
		return fmt.Sprintf("service:%s:%d", def.ID, i+1)
	}
	return "service:" + def.ID
}

// relabel gives a check the name and tags of its service. Called with mu held.
func (s *State) relabel(id string, c *check) {
	svc := s.services[c.row.ServiceID].row
	if c.row.ServiceName == svc.Service && slices.Equal(c.row.ServiceTags, svc.Tags) {
		return
	}
	next, row := *c, *c.row
	row.ServiceName, row.ServiceTags = svc.Service, svc.Tags
	next.row = &row
	s.checks[id] = &next
}

// setCheck puts a check in place, with the status it had. Called with mu held, and with
// its service known.
func (s *State) setCheck(def *api.CheckDefinition, src Source, owned bool) {
	row := &api.Check{
		Node: s.cfg.Node, CheckID: def.CheckID, Name: def.Name, Notes: def.Notes, ServiceID: def.ServiceID, ServiceTags: []string{},
		Status: def.Status, Type: def.Kind(), Interval: text(def.Interval), Timeout: text(def.Timeout),
	}
	if row.Status == "" {
		row.Status = api.Critical
	}
	if svc := s.services[def.ServiceID]; svc != nil {
		row.ServiceName, row.ServiceTags = svc.row.Service, svc.row.Tags
	}
	c := &check{def: def, row: row, src: src, owned: owned}
	if old := s.checks[def.CheckID]; old != nil {
		row.Status, row.Output, c.since = old.row.Status, old.row.Output, old.since
	} else if saved, ok := s.disk.ttl(def); ok {
		row.Status, row.Output = saved.Status, saved.Output
	}
	if row.Status == api.Critical && c.since.IsZero() {
		c.since = time.Now()
	}
	s.checks[def.CheckID] = c
}

func text(d api.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// RemoveService removes a service and all its checks.
func (s *State) RemoveService(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services[id] == nil {
		return api.Errorf(api.NotFound, "Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id)
	}
	if err := s.disk.removeService(id); err != nil {
		return err
	}
	s.dropService(id)
	s.notify()
	return nil
}

func (s *State) dropService(id string) {
	for cid, c := range s.checks {
		if c.row.ServiceID == id {
			s.dropCheck(cid)
		}
	}
	delete(s.services, id)
}

// dropCheck forgets a check, on disk too. Called with mu held.
func (s *State) dropCheck(id string) {
	if err := s.disk.removeCheck(id); err != nil {
		s.log.Warn("check not removed from disk; it may come back at the next start", "check", id, "err", err)
	}
	delete(s.checks, id)
}

// AddCheck adds or replaces a check of the node, or of a service that is there.
func (s *State) AddCheck(def *api.CheckDefinition, src Source) error {
	if err := def.Validate(); err != nil {
		return err
	}
	own := *def
	if own.CheckID == "" {
		own.CheckID = own.Name
	}
	if own.CheckID == "" {
		return api.Errorf(api.Invalid, "Missing check name")
	}
	if own.Name == "" {
		own.Name = own.CheckID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.ServiceID != "" && s.services[own.ServiceID] == nil {
		return api.Errorf(api.Internal, "ServiceID %q does not exist", own.ServiceID)
	}
	if src == FromAPI {
		if err := s.disk.saveCheck(&own); err != nil {
			return err
		}
	}
	s.setCheck(&own, src, false)
	s.notify()
	return nil
}

// RemoveCheck removes a check.
func (s *State) RemoveCheck(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checks[id] == nil {
		return unknown(id)
	}
	s.dropCheck(id)
	s.notify()
	return nil
}

func unknown(id string) error {
	return api.Errorf(api.NotFound, "Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id)
}

// UpdateCheck takes a result from whoever runs a check. A check that is gone is none of
// the runner's concern.
func (s *State) UpdateCheck(id, status, output string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.checks[id]; c != nil {
		s.report(id, c, status, output)
	}
}

// TTL takes a report on a TTL check and remembers it over a restart.
func (s *State) TTL(id, status, output string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.checks[id]
	if c == nil {
		return unknown(id)
	}
	if c.def == nil || c.def.TTL == 0 {
		return api.Errorf(api.Internal, "CheckID %q does not have associated TTL", id)
	}
	if err := api.ValidStatus(status); err != nil {
		return err
	}
	output = s.limit(output, c.def)
	s.disk.saveTTL(c.def, status, output)
	s.report(id, c, status, output)
	return nil
}

// report puts a result in place. Called with mu held.
func (s *State) report(id string, c *check, status, output string) {
	output = s.limit(output, c.def)
	if c.row.Status == status && c.row.Output == output {
		return
	}
	next, row := *c, *c.row
	row.Status, row.Output = status, output
	next.row = &row
	switch {
	case status != api.Critical:
		next.since = time.Time{}
	case c.row.Status != api.Critical:
		next.since = time.Now()
	}
	s.checks[id] = &next
	s.notify()
}

// limit cuts output to its last bytes, which say how it ended.
func (s *State) limit(output string, def *api.CheckDefinition) string {
	size := s.cfg.MaxOutput
	if def != nil && def.OutputMaxSize > 0 {
		size = min(size, def.OutputMaxSize)
	}
	if len(output) <= size {
		return output
	}
	return strings.ToValidUTF8(output[len(output)-size:], "")
}

// ReplaceConfig takes what the files say now for what they said before. What was
// registered over the API stays, unless a file claims its id.
func (s *State) ReplaceConfig(services []*api.ServiceDefinition, checks []*api.CheckDefinition) error {
	claimed := map[string]bool{}
	for _, d := range services {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("service %q: %w", d.Name, err)
		}
		id := d.ID
		if id == "" {
			id = d.Name
		}
		if claimed[id] {
			return fmt.Errorf("service %q: the id is defined twice", id)
		}
		claimed[id] = true
	}
	stay := map[string]bool{}
	for _, c := range checks {
		if err := c.Validate(); err != nil {
			return fmt.Errorf("check %q: %w", c.Name, err)
		}
		id := c.CheckID
		if id == "" {
			id = c.Name
		}
		stay[id] = true
		s.mu.Lock()
		old := s.services[c.ServiceID]
		s.mu.Unlock()
		if c.ServiceID != "" && !claimed[c.ServiceID] && (old == nil || old.src == FromConfig) {
			return fmt.Errorf("check %q: service %q is not defined", id, c.ServiceID)
		}
	}
	s.mu.Lock()
	for id, v := range s.services {
		if v.src == FromConfig && !claimed[id] {
			s.dropService(id)
		}
	}
	for id, c := range s.checks {
		if c.src == FromConfig && !c.owned && !stay[id] && c.def != nil {
			s.dropCheck(id)
		}
	}
	s.notify()
	s.mu.Unlock()
	for _, d := range services {
		if err := s.AddService(d, FromConfig, true); err != nil {
			return fmt.Errorf("service %q: %w", d.Name, err)
		}
	}
	for _, c := range checks {
		if err := s.AddCheck(c, FromConfig); err != nil {
			return fmt.Errorf("check %q: %w", c.Name, err)
		}
	}
	s.adoptWaiting()
	return nil
}

// ServiceMaintenance takes a service out, or back in.
func (s *State) ServiceMaintenance(id string, on bool, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services[id] == nil {
		return api.Errorf(api.NotFound, "Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id)
	}
	if reason == "" {
		reason = "Maintenance mode is enabled for this service, but no reason was provided. This is a default message."
	}
	return s.maintain(api.ServiceMaintenancePrefix+id, id, "Service Maintenance Mode", on, reason)
}

// NodeMaintenance takes the whole node out, or back in.
func (s *State) NodeMaintenance(on bool, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reason == "" {
		reason = "Maintenance mode is enabled for this node, but no reason was provided. This is a default message."
	}
	return s.maintain(api.NodeMaintenance, "", "Node Maintenance Mode", on, reason)
}

// maintain is called with mu held.
func (s *State) maintain(id, serviceID, name string, on bool, reason string) error {
	if on == (s.checks[id] != nil) {
		return nil
	}
	if !on {
		s.dropCheck(id)
		s.notify()
		return nil
	}
	if err := s.disk.saveMaintenance(maintenance{id, serviceID, name, reason}); err != nil {
		return err
	}
	s.setMaintenance(maintenance{id, serviceID, name, reason})
	s.notify()
	return nil
}

func (s *State) setMaintenance(m maintenance) {
	row := &api.Check{
		Node: s.cfg.Node, CheckID: m.CheckID, Name: m.Name, Status: api.Critical, Notes: m.Reason, ServiceID: m.ServiceID,
		ServiceTags: []string{}, Type: "maintenance",
	}
	if svc := s.services[m.ServiceID]; svc != nil {
		row.ServiceName, row.ServiceTags = svc.row.Service, svc.row.Tags
	}
	s.checks[m.CheckID] = &check{row: row}
}

// Overdue names the services that one of their checks wants removed, because it has been
// critical for longer than its DeregisterCriticalServiceAfter.
func (s *State) Overdue(now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]bool{}
	for _, c := range s.checks {
		if c.def == nil || c.row.ServiceID == "" || c.def.DeregisterCriticalServiceAfter == 0 || c.since.IsZero() {
			continue
		}
		if after := max(time.Duration(c.def.DeregisterCriticalServiceAfter), minDeregister); now.Sub(c.since) >= after {
			out[c.row.ServiceID] = true
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// minDeregister is the shortest DeregisterCriticalServiceAfter that counts.
const minDeregister = time.Minute
