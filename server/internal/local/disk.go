package local

import (
	"crypto/sha256"
	"encoding/hex"
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

// disk keeps definitions under services/ and checks/, and TTL states under checks/state/,
// one file an id, named by the id's hash, as Consul lays them out. Without a directory
// it does nothing. It is used with State.mu held.
type disk struct {
	dir string
	log *slog.Logger
	// ttls are the states found at the start, until their checks are there.
	ttls map[string]savedTTL
	// expires are when TTL states run out, by check id.
	expires map[string]time.Time
}

type savedTTL struct {
	CheckID, Status, Output string
	Expires                 int64 // unix milliseconds
}

type maintenance struct{ CheckID, ServiceID, Name, Reason string }

// savedCheck is a file in checks/.
type savedCheck struct {
	Check       *api.CheckDefinition `json:",omitempty"`
	Maintenance *maintenance         `json:",omitempty"`
}

func (d *disk) path(kind, id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(d.dir, kind, hex.EncodeToString(sum[:]))
}

func (d *disk) saveService(def *api.ServiceDefinition) error {
	return d.save("services", def.ID, def)
}

func (d *disk) saveCheck(def *api.CheckDefinition) error {
	return d.save("checks", def.CheckID, savedCheck{Check: def})
}

func (d *disk) saveMaintenance(m maintenance) error {
	return d.save("checks", m.CheckID, savedCheck{Maintenance: &m})
}

// save writes a file so that after a crash it is whole, the old one or the new one.
func (d *disk) save(kind, id string, v any) error {
	if d.dir == "" {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("save %s %q: %w", kind, id, err)
	}
	path := d.path(kind, id)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(b) {
		return nil
	}
	if err := replace(path, b); err != nil {
		return fmt.Errorf("save %s %q: %w", kind, id, err)
	}
	return nil
}

func replace(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return os.Rename(path+".new", path)
}

func (d *disk) remove(kind, id string) error {
	if d.dir == "" {
		return nil
	}
	if err := os.Remove(d.path(kind, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s %q: %w", kind, id, err)
	}
	return nil
}

func (d *disk) removeService(id string) error { return d.remove("services", id) }

func (d *disk) removeCheck(id string) error {
	delete(d.expires, id)
	delete(d.ttls, id)
	return errors.Join(d.remove("checks", id), d.remove("checks/state", id))
}

// saveTTL remembers a report. Losing one in a crash only means that the check waits for
// the next, so it is not synced and a failure is no reason to refuse the report.
func (d *disk) saveTTL(def *api.CheckDefinition, status, output string) {
	at := time.Now().Add(time.Duration(def.TTL))
	if d.expires == nil {
		d.expires = map[string]time.Time{}
	}
	d.expires[def.CheckID] = at
	if d.dir == "" {
		return
	}
	path := d.path("checks/state", def.CheckID)
	b, err := json.Marshal(savedTTL{def.CheckID, status, output, at.UnixMilli()})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		d.log.Warn("state of a TTL check not saved; after a restart it waits for a report", "check", def.CheckID, "err", err)
	}
}

// ttl gives the state that a TTL check had before the restart, if it has not run out.
func (d *disk) ttl(def *api.CheckDefinition) (savedTTL, bool) {
	s, ok := d.ttls[def.CheckID]
	if !ok || def.TTL == 0 || time.Now().After(time.UnixMilli(s.Expires)) {
		return savedTTL{}, false
	}
	delete(d.ttls, def.CheckID)
	if d.expires == nil {
		d.expires = map[string]time.Time{}
	}
	d.expires[def.CheckID] = time.UnixMilli(s.Expires)
	return s, true
}

// expiry is when a TTL check's last report runs out, zero if there was none.
func (d *disk) expiry(id string) time.Time { return d.expires[id] }

// load reads all files. One that cannot be read is set aside, with a word, for the rest
// must not be lost with it.
func (s *State) load() error {
	if s.cfg.Dir == "" {
		return nil
	}
	s.disk.ttls = map[string]savedTTL{}
	err := s.each("checks/state", func(b []byte) error {
		var v savedTTL
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		s.disk.ttls[v.CheckID] = v
		return nil
	})
	if err != nil {
		return err
	}
	err = s.each("services", func(b []byte) error {
		var def api.ServiceDefinition
		if err := json.Unmarshal(b, &def); err != nil {
			return err
		}
		return s.AddService(&def, FromAPI, false)
	})
	if err != nil {
		return err
	}
	return s.each("checks", func(b []byte) error {
		var v savedCheck
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		return s.adopt(v)
	})
}

// adopt takes a check from disk. One whose service is not there waits for the service
// to come from a file.
func (s *State) adopt(v savedCheck) error {
	switch {
	case v.Maintenance != nil:
		if id := v.Maintenance.ServiceID; id != "" && s.services[id] == nil {
			s.waiting = append(s.waiting, v)
			return nil
		}
		s.setMaintenance(*v.Maintenance)
	case v.Check != nil:
		if id := v.Check.ServiceID; id != "" && s.services[id] == nil {
			s.waiting = append(s.waiting, v)
			return nil
		}
		return s.AddCheck(v.Check, FromAPI)
	}
	return nil
}

// adoptWaiting is called once the files' services are there. A check whose service is
// gone for good is forgotten.
func (s *State) adoptWaiting() {
	waiting := s.waiting
	s.waiting = nil
	for _, v := range waiting {
		if err := s.adopt(v); err != nil {
			s.log.Warn("saved check not taken over", "err", err)
		}
	}
	for _, v := range s.waiting {
		id := ""
		if v.Check != nil {
			id = v.Check.CheckID
		} else if v.Maintenance != nil {
			id = v.Maintenance.CheckID
		}
		s.log.Info("saved check forgotten: its service is gone", "check", id)
		if err := s.disk.removeCheck(id); err != nil {
			s.log.Warn("saved check not removed", "check", id, "err", err)
		}
	}
	s.waiting = nil
}

// each hands the content of every file of a kind to f.
func (s *State) each(kind string, f func([]byte) error) error {
	dir := filepath.Join(s.cfg.Dir, kind)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() || filepath.Ext(path) != "" { // .new and .corrupt
			continue
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = f(b)
		}
		if err != nil {
			s.log.Warn("file not readable; set aside", "file", path, "err", err)
			if err := os.Rename(path, path+".corrupt"); err != nil {
				return fmt.Errorf("set %s aside: %w", path, err)
			}
		}
	}
	return nil
}
