package local

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

func open(t testing.TB, dir string) *State {
	t.Helper()
	s, err := Open(Config{Dir: dir, Node: "n1", MaxOutput: 100, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func webService(checks ...*api.CheckDefinition) *api.ServiceDefinition {
	return &api.ServiceDefinition{ID: "w1", Name: "web", Port: 80, Tags: []string{"a"}, Checks: checks}
}

func ttl(id string) *api.CheckDefinition {
	return &api.CheckDefinition{CheckID: id, TTL: api.Duration(time.Minute)}
}

func TestIdsAndStatus(t *testing.T) {
	t.Parallel()
	s := open(t, "")
	must(t, s.AddService(webService(ttl(""), ttl(""), ttl("own")), FromAPI, false))
	checks := s.Checks()
	for _, id := range []string{"service:w1:1", "service:w1:2", "own"} {
		c := checks[id]
		if c == nil || c.Status != api.Critical || c.ServiceName != "web" || c.Name != "Service 'web' check" || c.Type != "ttl" || c.Node != "n1" {
			t.Errorf("%s: %+v", id, c)
		}
	}
	must(t, s.TTL("own", api.Passing, "well"))
	changed := s.Watch()
	again := webService(ttl("own"))
	again.Tags = []string{"b"}
	must(t, s.AddService(again, FromAPI, false))
	select {
	case <-changed:
	default:
		t.Error("a new definition woke nobody")
	}
	checks = s.Checks()
	if c := checks["own"]; c.Status != api.Passing || c.Output != "well" || c.ServiceTags[0] != "b" {
		t.Errorf("after registering again: %+v; want the status it had, and the new tags", c)
	}
	if len(checks) != 3 {
		t.Errorf("%d checks without replace, want 3", len(checks))
	}
	must(t, s.AddService(again, FromAPI, true))
	if n := len(s.Checks()); n != 1 {
		t.Errorf("%d checks with replace, want 1", n)
	}
	must(t, s.RemoveService("w1"))
	if len(s.Services())+len(s.Checks()) != 0 {
		t.Error("something is left of the service")
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := open(t, "")
	must(t, s.AddService(webService(&api.CheckDefinition{TCP: "x:1", Interval: api.Duration(time.Second)}), FromAPI, false))
	for name, c := range map[string]struct {
		err  error
		text string
		kind api.Kind
	}{
		"unknown service": {s.RemoveService("no"), "Unknown service ID", api.NotFound},
		"unknown check":   {s.TTL("no", api.Passing, ""), "Unknown check", api.NotFound},
		"no TTL":          {s.TTL("service:w1", api.Passing, ""), "does not have associated TTL", api.Internal},
		"check of nobody": {s.AddCheck(&api.CheckDefinition{Name: "c", ServiceID: "no", TTL: 1}, FromAPI), "does not exist", api.Internal},
		"no name":         {s.AddService(&api.ServiceDefinition{}, FromAPI, false), "Missing service name", api.Invalid},
		"maintenance":     {s.ServiceMaintenance("no", true, ""), "Unknown service ID", api.NotFound},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.text) || api.KindOf(c.err) != c.kind {
			t.Errorf("%s: %v (kind %d), want %q (kind %d)", name, c.err, api.KindOf(c.err), c.text, c.kind)
		}
	}
}

func TestOutputIsCut(t *testing.T) {
	t.Parallel()
	s := open(t, "")
	must(t, s.AddService(webService(ttl("c")), FromAPI, false))
	must(t, s.TTL("c", api.Passing, strings.Repeat("x", 500)+"end"))
	if got := s.Checks()["c"].Output; len(got) != 100 || !strings.HasSuffix(got, "end") {
		t.Errorf("output of %d bytes, ends %q", len(got), got[len(got)-3:])
	}
}

// What was registered over the API comes back after a crash; what came from files does
// not need to.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.AddService(webService(ttl("c")), FromAPI, false))
	must(t, s.TTL("c", api.Warning, "so so"))
	must(t, s.AddService(&api.ServiceDefinition{Name: "file"}, FromConfig, false))
	must(t, s.AddCheck(&api.CheckDefinition{CheckID: "of-file", Name: "x", ServiceID: "file", TTL: api.Duration(time.Minute)}, FromAPI))
	must(t, s.AddCheck(&api.CheckDefinition{CheckID: "node", Name: "node", TTL: api.Duration(time.Minute)}, FromAPI))
	must(t, s.ServiceMaintenance("w1", true, "tea"))
	must(t, s.ServiceMaintenance("file", true, "cake"))

	again := open(t, dir)
	if services := again.Services(); len(services) != 1 || services["w1"] == nil {
		t.Fatalf("services: %v", services)
	}
	if c := again.Checks()["c"]; c == nil || c.Status != api.Warning || c.Output != "so so" {
		t.Errorf("the TTL check: %+v", c)
	}
	if c := again.Checks()[api.ServiceMaintenancePrefix+"w1"]; c == nil || c.Notes != "tea" || c.Status != api.Critical {
		t.Errorf("maintenance: %+v", c)
	}
	must(t, again.ReplaceConfig([]*api.ServiceDefinition{{Name: "file"}}, nil))
	checks := again.Checks()
	if checks["of-file"] == nil || checks[api.ServiceMaintenancePrefix+"file"] == nil || checks["node"] == nil {
		t.Errorf("checks of a service from a file: %v", checks)
	}
	must(t, again.ServiceMaintenance("w1", false, ""))
	must(t, again.RemoveService("w1"))
	if third := open(t, dir); len(third.Services()) != 0 || third.Checks()["c"] != nil {
		t.Errorf("what was removed came back: %v", third.Services())
	}
}

func TestCorruptFileIsSetAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.AddService(webService(), FromAPI, false))
	bad := filepath.Join(dir, "services", "0000")
	must(t, os.WriteFile(bad, []byte(`{"ID": "half`), 0o600))
	again := open(t, dir)
	if len(again.Services()) != 1 {
		t.Errorf("services: %v", again.Services())
	}
	if _, err := os.Stat(bad + ".corrupt"); err != nil {
		t.Errorf("the broken file is not set aside: %v", err)
	}
}

// A registration that cannot be written is refused, and nothing changes.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "services"), nil, 0o600)) // a file where the directory must be
	s := &State{cfg: Config{Dir: dir}, log: slog.New(slog.DiscardHandler), disk: disk{dir: dir}, services: map[string]*service{}, checks: map[string]*check{}, changed: make(chan struct{})}
	if err := s.AddService(webService(), FromAPI, false); err == nil || len(s.Services()) != 0 {
		t.Errorf("AddService: %v with %d services, want an error and none", err, len(s.Services()))
	}
}

func TestReplaceConfig(t *testing.T) {
	t.Parallel()
	s := open(t, "")
	must(t, s.AddService(webService(), FromAPI, false))
	must(t, s.ReplaceConfig([]*api.ServiceDefinition{{Name: "one"}, {Name: "two"}}, []*api.CheckDefinition{{Name: "disk", TTL: 1}}))
	must(t, s.ReplaceConfig([]*api.ServiceDefinition{{Name: "two", Port: 2}}, nil))
	services := s.Services()
	if len(services) != 2 || services["w1"] == nil || services["two"].Port != 2 || len(s.Checks()) != 0 {
		t.Errorf("after the reload: %v, %v", services, s.Checks())
	}
	for name, err := range map[string]error{
		"twice":            s.ReplaceConfig([]*api.ServiceDefinition{{Name: "x"}, {Name: "x"}}, nil),
		"invalid":          s.ReplaceConfig([]*api.ServiceDefinition{{}}, nil),
		"check of nothing": s.ReplaceConfig(nil, []*api.CheckDefinition{{Name: "c", ServiceID: "two", TTL: 1}}),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if got := s.Services(); len(got) != 2 {
		t.Errorf("a refused configuration changed the services: %v", got)
	}
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, "")
		c := ttl("c")
		c.DeregisterCriticalServiceAfter = api.Duration(10 * time.Second) // a minute is the least
		must(t, s.AddService(webService(c), FromAPI, false))
		time.Sleep(59 * time.Second)
		if got := s.Overdue(time.Now()); len(got) != 0 {
			t.Errorf("after 59 s: %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := s.Overdue(time.Now()); len(got) != 1 || got[0] != "w1" {
			t.Errorf("after 61 s: %v", got)
		}
		must(t, s.TTL("c", api.Passing, ""))
		if got := s.Overdue(time.Now()); len(got) != 0 {
			t.Errorf("passing again: %v", got)
		}
	})
}
