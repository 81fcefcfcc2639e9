package local

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// disk keeps what was registered over the API, and the last results of its checks, in
// registrations.jsonl. Without a directory it only knows when TTLs run out. Its fields
// are guarded by State.mu.
type disk struct {
	journal *journal // nil without a directory
	log     *slog.Logger
	// results are the last of each check, by id; of checks too that wait for their service
	// to come from a file.
	results map[string]result
	// expires are when TTL states run out, by check id, or when to look again at those
	// that are in expired: they ran out with no report since.
	expires map[string]time.Time
	expired map[string]bool
}

// record is a line of the journal: one of the fields is set.
type record struct {
	Service       *api.ServiceDefinition `json:",omitempty"`
	Replace       bool                   `json:",omitempty"` // with Service: checks that are not in it go
	Check         *api.CheckDefinition   `json:",omitempty"`
	Owned         bool                   `json:",omitempty"` // with Check: it came with a definition of its service
	Maintenance   *maintenance           `json:",omitempty"`
	Result        *result                `json:"TTL,omitempty"`
	RemoveService string                 `json:",omitempty"`
	RemoveCheck   string                 `json:",omitempty"`
	Forget        string                 `json:",omitempty"` // what was reported of a check before: it is gone, or was made anew since
}

// check is the id of the check that a record makes, and of the service it is of; "" where it
// makes none, or one of the node.
func (r record) check() (id, service string) {
	switch {
	case r.Check != nil:
		return r.Check.CheckID, r.Check.ServiceID
	case r.Maintenance != nil:
		return r.Maintenance.CheckID, r.Maintenance.ServiceID
	}
	return "", ""
}

// result is what a check was last found to be: a TTL check by a report, another when its
// status last changed.
type result struct {
	CheckID, Status, Output string
	Expires                 int64 `json:",omitempty"` // unix milliseconds; of a TTL check
}

type maintenance struct{ CheckID, ServiceID, Name, Reason string }

// commit has a record on disk before apply, if there is a disk. Called without mu.
func (s *State) commit(rec record, apply func() error) error {
	if s.disk.journal == nil {
		return apply()
	}
	return s.disk.journal.commit(rec, apply)
}

// removeCheck notes that a check is gone. Called with mu held.
func (d *disk) removeCheck(id string) { d.drop(id, record{RemoveCheck: id}) }

// forget notes that results of a check count no more. Called with mu held.
func (d *disk) forget(id string) { d.drop(id, record{Forget: id}) }

func (d *disk) drop(id string, rec record) {
	delete(d.expires, id)
	delete(d.expired, id)
	delete(d.results, id)
	if d.journal == nil {
		return
	}
	if err := d.journal.later(rec); err != nil {
		d.log.Warn("a check that is gone is not off the disk; it, or its state, may come back at the next start", "check", id, "err", err)
	}
}

// saveTTL remembers a report. Losing one in a crash only means that the check waits for
// the next, so it is not synced and a failure is no reason to refuse the report.
func (d *disk) saveTTL(def *api.CheckDefinition, status, output string) {
	d.save(result{def.CheckID, status, output, d.extend(def).UnixMilli()})
}

func (d *disk) save(r result) {
	if d.journal == nil {
		return
	}
	d.results[r.CheckID] = r
	if err := d.journal.later(record{Result: &r}); err != nil {
		d.log.Warn("result of a check not saved; after a restart it waits for another", "check", r.CheckID, "err", err)
	}
}

// result gives the state that a check had before the restart, if it is known and, of a TTL
// check, has not run out. The TTL begins anew then: nobody could report while the agent was
// away.
func (d *disk) result(def *api.CheckDefinition) (result, bool) {
	r, ok := d.results[def.CheckID]
	return r, ok && r.holds(def)
}

func (r result) holds(def *api.CheckDefinition) bool {
	if def.TTL == 0 {
		return r.Expires == 0
	}
	return time.Now().Before(time.UnixMilli(r.Expires))
}

// extend gives a TTL check a full TTL from now.
func (d *disk) extend(def *api.CheckDefinition) time.Time {
	if d.expires == nil {
		d.expires, d.expired = map[string]time.Time{}, map[string]bool{}
	}
	at := time.Now().Add(time.Duration(def.TTL))
	delete(d.expired, def.CheckID)
	d.expires[def.CheckID] = at
	return at
}

// expiry is when a TTL check's last report runs out, zero if there was none.
func (d *disk) expiry(id string) time.Time { return d.expires[id] }

// load replays the journal, or takes over what an agent left that kept a file for each
// registration, as Consul's do.
func (s *State) load() error {
	if s.cfg.Dir == "" {
		return nil
	}
	recs, old, err := s.kept()
	if err != nil {
		return err
	}
	s.disk.results = map[string]result{}
	for _, r := range recs {
		if err := s.replay(r); err != nil {
			s.log.Warn("saved registration not taken over", "err", err)
		}
	}
	j := &journal{path: s.journalPath(), state: &s.mu, live: s.live, log: s.log}
	j.file.Lock()
	err = j.rewrite()
	j.file.Unlock()
	if err != nil {
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	s.disk.journal = j
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			s.log.Warn("what was taken over could not be removed", "err", err)
		}
	}
	return nil
}

func (s *State) journalPath() string { return filepath.Join(s.cfg.Dir, "registrations.jsonl") }

// replay does what a record says. What a check was when it was registered says nothing
// any more: until its last result is replayed it is critical.
func (s *State) replay(r record) error {
	s.replaying = true
	defer func() { s.replaying = false }()
	if check, service := r.check(); service != "" && s.services[service] == nil {
		s.waiting[check] = r
		return nil
	}
	switch {
	case r.Service != nil:
		return s.addService(r.Service, FromAPI, r.Replace)
	case r.Check != nil:
		return s.addCheck(r.Check, FromAPI, r.Owned)
	case r.Maintenance != nil:
		s.setMaintenance(*r.Maintenance)
	case r.Result != nil:
		s.replayResult(*r.Result)
	case r.RemoveService != "":
		for id, w := range s.waiting {
			if _, service := w.check(); service == r.RemoveService {
				delete(s.waiting, id)
			}
		}
		s.dropService(r.RemoveService)
	case r.RemoveCheck != "":
		delete(s.waiting, r.RemoveCheck)
		s.dropCheck(r.RemoveCheck)
	case r.Forget != "":
		s.disk.forget(r.Forget)
		if c := s.checks[r.Forget]; c != nil && c.def != nil {
			s.report(r.Forget, c, api.Critical, "")
		}
	}
	return nil
}

// replayResult takes a result as it was; a TTL check whose report has run out is critical.
func (s *State) replayResult(r result) {
	s.disk.results[r.CheckID] = r
	c := s.checks[r.CheckID]
	switch {
	case c == nil || c.def == nil:
	case r.holds(c.def):
		s.report(r.CheckID, c, r.Status, r.Output)
	default:
		s.report(r.CheckID, c, api.Critical, "")
	}
}

// live gives the records that make the present state. Called with mu held.
func (s *State) live() []record {
	var out []record
	defined := map[string]bool{} // checks that a service's definition makes
	for _, v := range s.services {
		if v.src == FromAPI {
			out = append(out, record{Service: v.def})
			for i, c := range v.def.AllChecks() {
				defined[checkID(v.def, c, i)] = true
			}
		}
	}
	for id, c := range s.checks {
		switch {
		case c.def == nil:
			out = append(out, record{Maintenance: &maintenance{id, c.row.ServiceID, c.row.Name, c.row.Notes}})
		case c.src == FromAPI && !defined[id]:
			out = append(out, record{Check: c.def, Owned: c.owned})
		}
	}
	for _, r := range s.waiting {
		out = append(out, r)
	}
	for _, r := range s.disk.results {
		out = append(out, record{Result: &r})
	}
	return out
}

// adoptWaiting is called once the files' services are there. A check whose service is
// gone for good is forgotten.
func (s *State) adoptWaiting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.waiting
	s.waiting = map[string]record{}
	for id, r := range waiting {
		if _, service := r.check(); s.services[service] == nil {
			s.log.Info("saved check forgotten: its service is gone", "check", id)
			s.disk.removeCheck(id)
			continue
		}
		if err := s.replay(r); err != nil {
			s.log.Warn("saved check not taken over", "err", err)
		}
	}
	s.notify()
}

// kept gives the journal's records, or those made from the files of another layout. Lines
// that cannot be read are kept aside, for the rest must not be lost with them; half a line
// at the end is what a power cut leaves of a registration that was never answered.
// The paths are the files of the other layout.
func (s *State) kept() (recs []record, old []string, err error) {
	b, err := os.ReadFile(s.journalPath())
	if errors.Is(err, fs.ErrNotExist) {
		return s.oldLayout()
	}
	if err != nil {
		return nil, nil, err
	}
	var bad bytes.Buffer
	for line := range bytes.Lines(b) {
		var r record
		err := json.Unmarshal(line, &r)
		switch {
		case err == nil:
			recs = append(recs, r)
		case line[len(line)-1] == '\n':
			bad.Write(line)
		default:
			s.log.Info("half a record at the journal's end, left out: it was never answered", "file", s.journalPath())
		}
	}
	if bad.Len() > 0 {
		aside := s.journalPath() + ".corrupt"
		s.log.Warn("records not readable; set aside", "file", aside, "bytes", bad.Len())
		if err := os.WriteFile(aside, bad.Bytes(), 0o600); err != nil {
			return nil, nil, fmt.Errorf("set records aside: %w", err)
		}
	}
	return recs, nil, nil
}

// oldLayout reads services/, checks/ and checks/state/, a file for each id. One that cannot
// be read stays where it is.
func (s *State) oldLayout() (recs []record, paths []string, err error) {
	for _, kind := range []string{"services", "checks", "checks/state"} {
		dir := filepath.Join(s.cfg.Dir, kind)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("read %s: %w", dir, err)
		}
		for _, e := range entries {
			if e.IsDir() || filepath.Ext(e.Name()) != "" { // half a file
				continue
			}
			path := filepath.Join(dir, e.Name())
			var r record
			b, err := os.ReadFile(path)
			if err == nil {
				switch kind {
				case "services":
					err = json.Unmarshal(b, &r.Service)
				case "checks":
					err = json.Unmarshal(b, &r)
				default:
					err = json.Unmarshal(b, &r.Result)
				}
			}
			if err != nil {
				s.log.Warn("saved registration not readable; left where it is", "file", path, "err", err)
				continue
			}
			recs, paths = append(recs, r), append(paths, path)
		}
	}
	return recs, paths, nil
}
