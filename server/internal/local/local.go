// Package local is what this agent itself vouches for: its own services and checks, and
// the results of those checks. What is registered over the API is on disk before the
// call returns, and comes back after a crash, states of checks included; what comes from
// configuration files does not need to be. It runs no checks and knows no catalog: checks
// reports into it, antientropy reads from it.
package local

import (
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
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

	mu        sync.Mutex
	services  map[string]*service // guarded by mu; by id
	checks    map[string]*check   // guarded by mu; by id
	bound     boundChecks         // guarded by mu
	feeds     []*Feed             // guarded by mu
	discard   bool                // guarded by mu; outputs are not kept
	replaying bool                // guarded by mu; what is set comes from the disk

	waiting map[string]record // guarded by mu; checks whose services come from files, until the first ReplaceConfig
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
	Def    *api.CheckDefinition
	Source Source
	// Status is the present one, where the runner begins.
	Status string
}

// Open loads what was registered and outlived the last run.
func Open(cfg Config) (*State, error) {
	if cfg.MaxOutput == 0 {
		cfg.MaxOutput = 4096
	}
	s := &State{
		cfg: cfg, log: cfg.Log.With("room", "local"), disk: disk{log: cfg.Log.With("room", "local")},
		services: map[string]*service{}, checks: map[string]*check{}, bound: boundChecks{}, waiting: map[string]record{},
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the use of the disk: nothing can be registered after it.
func (s *State) Close() error {
	if s.disk.journal == nil {
		return nil
	}
	return s.disk.journal.close()
}

// notify wakes whoever reads a feed. Called with mu held.
func (s *State) notify() {
	for _, f := range s.feeds {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
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
	add := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.addService(&own, src, replace)
	}
	s.mu.Lock()
	old := s.services[own.ID]
	drops := replace && len(s.replaced(&own, replace)) > 0
	s.mu.Unlock()
	if src == FromConfig || old != nil && (old.src == FromConfig || !drops && reflect.DeepEqual(old.def, &own)) {
		return add() // nothing that the disk does not have
	}
	return s.commit(record{Service: &own, Replace: replace}, add)
}

// addService is AddService past the disk. Called with mu held.
func (s *State) addService(own *api.ServiceDefinition, src Source, replace bool) error {
	if old := s.services[own.ID]; old != nil && old.src == FromConfig && src == FromAPI {
		src = FromConfig // the file goes on owning the id until the next reload
	}
	s.services[own.ID] = &service{own, own.Instance(), src}
	s.serviceChanged(own.ID)
	for i, c := range own.AllChecks() {
		d := *c
		d.CheckID, d.ServiceID = checkID(own, c, i), own.ID
		if d.Name == "" {
			d.Name = fmt.Sprintf("Service '%s' check", own.Name)
		}
		s.setCheck(&d, src, true)
	}
	for _, id := range s.replaced(own, replace) {
		s.dropCheck(id)
	}
	for id := range s.bound[own.ID] {
		s.relabel(id, s.checks[id])
	}
	s.notify()
	return nil
}

// replaced names the checks that came with a definition of a service and go with this one.
// Called with mu held.
func (s *State) replaced(own *api.ServiceDefinition, replace bool) (ids []string) {
	kept := map[string]bool{}
	for i, c := range own.AllChecks() {
		kept[checkID(own, c, i)] = true
	}
	for id := range s.bound[own.ID] {
		if c := s.checks[id]; c.owned && !kept[id] && (replace || c.src == FromConfig) {
			ids = append(ids, id)
		}
	}
	return ids
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
	s.put(id, &next)
}

// setCheck puts a check in place, with the status it had. Called with mu held, and with
// its service known.
func (s *State) setCheck(def *api.CheckDefinition, src Source, owned bool) {
	row := &api.Check{
		Node: s.cfg.Node, CheckID: def.CheckID, Name: def.Name, Notes: def.Notes, ServiceID: def.ServiceID, ServiceTags: []string{},
		Status: def.Status, Type: def.Kind(), Interval: text(def.Interval), Timeout: text(def.Timeout),
	}
	if row.Status == "" || s.replaying {
		row.Status = api.Critical
	}
	if svc := s.services[def.ServiceID]; svc != nil {
		row.ServiceName, row.ServiceTags = svc.row.Service, svc.row.Tags
	}
	c := &check{def: def, row: row, src: src, owned: owned}
	if old := s.checks[def.CheckID]; old != nil {
		row.Status, row.Output, c.since = old.row.Status, old.row.Output, old.since
	} else if saved, ok := s.disk.result(def); ok {
		row.Status, row.Output = saved.Status, saved.Output
	}
	if row.Status == api.Critical && c.since.IsZero() {
		c.since = time.Now()
	}
	if s.discard {
		row.Output = ""
	}
	if def.TTL > 0 {
		s.disk.extend(def) // whoever registers is there: the TTL begins anew
	}
	s.put(def.CheckID, c)
	s.definitionChanged(def.CheckID)
	if after := time.Duration(def.DeregisterCriticalServiceAfter); after > 0 && after < minDeregister {
		s.log.Warn("deregister_critical_service_after is too short; it is raised", "check", def.CheckID, "after", after.String(), "to", minDeregister.String())
	}
}

func text(d api.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// RemoveService removes a service and all its checks.
func (s *State) RemoveService(id string) error {
	if err := s.knows(id); err != nil {
		return err
	}
	return s.commit(record{RemoveService: id}, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dropService(id)
		s.notify()
		return nil
	})
}

// knows refuses the id of a service that is not there.
func (s *State) knows(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services[id] == nil {
		return api.Errorf(api.NotFound, "Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id)
	}
	return nil
}

func (s *State) dropService(id string) {
	for cid := range s.bound[id] {
		s.dropCheck(cid)
	}
	delete(s.services, id)
	s.serviceChanged(id)
}

// dropCheck forgets a check. On disk it goes with the record that this carries out, behind
// which others may stand already that make it anew: only its results are taken back there.
// Called with mu held.
func (s *State) dropCheck(id string) {
	s.disk.forget(id)
	s.definitionChanged(id)
	if c := s.checks[id]; c != nil {
		delete(s.checks, id)
		s.bound.remove(c.row.ServiceID, id)
		s.checkChanged(id, c.row.ServiceID)
	}
}

// put puts a check, or what became of it, in place. Called with mu held.
func (s *State) put(id string, c *check) {
	if old := s.checks[id]; old != nil && old.row.ServiceID != c.row.ServiceID {
		s.bound.remove(old.row.ServiceID, id)
		s.checkChanged(id, old.row.ServiceID)
	}
	s.checks[id] = c
	s.bound.add(c.row.ServiceID, id)
	s.checkChanged(id, c.row.ServiceID)
}

// boundChecks are the ids of checks by the service that they bear on; "" is the node.
type boundChecks map[string]map[string]bool

func (b boundChecks) add(service, id string) {
	if b[service] == nil {
		b[service] = map[string]bool{}
	}
	b[service][id] = true
}

func (b boundChecks) remove(service, id string) {
	delete(b[service], id)
	if len(b[service]) == 0 {
		delete(b, service)
	}
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
	add := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.addCheck(&own, src, false)
	}
	s.mu.Lock()
	old := s.checks[own.CheckID]
	homeless := own.ServiceID != "" && s.services[own.ServiceID] == nil
	s.mu.Unlock()
	if src == FromConfig || homeless || old != nil && old.src == FromAPI && !old.owned && reflect.DeepEqual(old.def, &own) {
		return add()
	}
	return s.commit(record{Check: &own}, add)
}

// addCheck is AddCheck past the disk. Called with mu held.
func (s *State) addCheck(own *api.CheckDefinition, src Source, owned bool) error {
	if own.ServiceID != "" && s.services[own.ServiceID] == nil {
		return api.Errorf(api.Internal, "ServiceID %q does not exist", own.ServiceID)
	}
	s.setCheck(own, src, owned)
	s.notify()
	return nil
}

// RemoveCheck removes a check.
func (s *State) RemoveCheck(id string) error {
	s.mu.Lock()
	here := s.checks[id] != nil
	s.mu.Unlock()
	if !here {
		return unknown(id)
	}
	return s.commit(record{RemoveCheck: id}, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dropCheck(id)
		s.notify()
		return nil
	})
}

func unknown(id string) error {
	return api.Errorf(api.NotFound, "Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id)
}

// UpdateCheck takes a result from whoever runs a check. A check that is gone is none of
// the runner's concern.
func (s *State) UpdateCheck(id, status, output string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.checks[id]
	if c == nil {
		return
	}
	s.report(id, c, status, output)
	if c.def == nil || c.src != FromAPI {
		return
	}
	if saved, ok := s.disk.result(c.def); !ok || saved.Status != status {
		s.disk.save(result{CheckID: id, Status: status, Output: s.checks[id].row.Output})
	}
}

// report puts a result in place, and tells whether it changed anything. Called with mu
// held.
func (s *State) report(id string, c *check, status, output string) bool {
	if s.discard {
		output = ""
	}
	if c.row.Status == status && c.row.Output == output {
		return false
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
	s.put(id, &next)
	s.notify()
	return true
}

// DiscardOutput says whether outputs of checks are kept; those there are go, too.
func (s *State) DiscardOutput(discard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard = discard
	if !discard {
		return
	}
	for id, c := range s.checks {
		if c.row.Output != "" {
			s.report(id, c, c.row.Status, "")
		}
	}
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
			for check := range s.bound[id] {
				s.disk.removeCheck(check)
			}
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
