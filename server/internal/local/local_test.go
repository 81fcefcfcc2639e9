package local

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

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

func report(t testing.TB, s *State, id, status, output string) {
	t.Helper()
	if _, err := s.TTL(id, status, output); err != nil {
		t.Fatal(err)
	}
}

func ttlError(s *State, id string) error {
	_, err := s.TTL(id, api.Passing, "")
	return err
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
	report(t, s, "own", api.Passing, "well")
	feed := s.Feed()
	<-feed.Wake()
	again := webService(ttl("own"))
	again.Tags = []string{"b"}
	must(t, s.AddService(again, FromAPI, false))
	select {
	case <-feed.Wake():
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
		"unknown check":   {ttlError(s, "no"), "Unknown check", api.NotFound},
		"no TTL":          {ttlError(s, "service:w1"), "does not have associated TTL", api.Internal},
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
	report(t, s, "c", api.Passing, strings.Repeat("x", 500))
	if got, want := s.Checks()["c"].Output, strings.Repeat("x", 100)+" ... (captured 100 of 500 bytes)"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
}

// What was registered over the API comes back after a crash; what came from files does
// not need to.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.AddService(webService(ttl("c")), FromAPI, false))
	report(t, s, "c", api.Warning, "so so")
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

// After a restart a check is what it was last found to be. What it was said to be when it was
// registered counts no more: who passed then may be long dead.
func TestResultsOverARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		check := func(id string, every, ttl time.Duration) *api.CheckDefinition {
			c := &api.CheckDefinition{CheckID: id, Status: api.Passing, Interval: api.Duration(every), TTL: api.Duration(ttl)}
			if every > 0 {
				c.HTTP = "http://127.0.0.1:1/"
			}
			return c
		}
		const second = time.Second
		must(t, s.AddService(webService(
			check("never ran", 10*second, 0), check("passes", 10*second, 0), check("fails", 10*second, 0), check("was warned of", 10*second, 0),
			check("ran out", 0, second), check("not reported", 0, time.Hour), check("reported", 0, time.Hour),
		), FromAPI, false))
		s.UpdateCheck("passes", api.Passing, "200 OK")
		s.UpdateCheck("fails", api.Passing, "200 OK")
		s.UpdateCheck("fails", api.Critical, "refused")
		s.UpdateCheck("was warned of", api.Warning, "429")
		must(t, s.AddCheck(check("changed its kind", 0, time.Hour), FromAPI))
		report(t, s, "changed its kind", api.Passing, "well")
		must(t, s.AddCheck(check("changed its kind", 10*second, 0), FromAPI))
		s.UpdateCheck("changed its kind", api.Passing, "200 OK")
		report(t, s, "ran out", api.Passing, "well")
		report(t, s, "reported", api.Passing, "well")
		time.Sleep(2 * second)
		want := map[string]string{
			"never ran": "critical ", "passes": "passing 200 OK", "fails": "critical refused", "was warned of": "warning 429",
			"changed its kind": "passing 200 OK", "ran out": "critical ", "not reported": "critical ", "reported": "passing well",
		}
		for range 2 { // the second time from a file that was made anew
			must(t, s.Close())
			s = open(t, dir)
			for id, want := range want {
				if c := s.Checks()[id]; c.Status+" "+c.Output != want {
					t.Errorf("%s: %s %q after a restart, want %s", id, c.Status, c.Output, want)
				}
			}
		}
	})
}

// A service that one client removes and another registers while both wait for the same
// fsync has its check after a restart, and a report from before does not count for it.
func TestRemovedAndMadeAnewAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.AddService(webService(ttl("c")), FromAPI, false))
	must(t, s.ServiceMaintenance("w1", true, "tea"))
	s.disk.journal.file.Lock() // whoever writes waits, and those who come meanwhile share the next write
	var all sync.WaitGroup
	queued := func(n int) {
		for ; ; runtime.Gosched() {
			s.disk.journal.mu.Lock()
			enough := len(s.disk.journal.queue) == n
			s.disk.journal.mu.Unlock()
			if enough {
				return
			}
		}
	}
	all.Go(func() { must(t, s.AddService(&api.ServiceDefinition{Name: "first"}, FromAPI, false)) })
	for { // until it is being written
		s.disk.journal.mu.Lock()
		writing := s.disk.journal.writing && len(s.disk.journal.queue) == 0
		s.disk.journal.mu.Unlock()
		if writing {
			break
		}
		runtime.Gosched()
	}
	again := webService(ttl("c"))
	again.Tags = []string{"anew"}
	for n, act := range []func() error{
		func() error { return s.RemoveService("w1") },
		func() error { return s.AddService(again, FromAPI, false) },
	} {
		all.Go(func() { must(t, act()) })
		queued(n + 1)
	}
	s.disk.journal.file.Unlock()
	all.Wait()
	after := open(t, dir)
	if diff := gocmp.Diff(s.Services(), after.Services()); diff != "" {
		t.Errorf("services (-before +after a restart):\n%s", diff)
	}
	if diff := gocmp.Diff(s.Checks(), after.Checks()); diff != "" || len(s.Checks()) != 1 {
		t.Errorf("checks (-before +after a restart):\n%s", diff)
	}
}

// Results alone make the journal no larger than a few times what is alive.
func TestResultsDoNotPileUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.AddService(webService(ttl("c")), FromAPI, false))
	note := strings.Repeat("x", 99)
	for range 3 * slack / len(note) {
		report(t, s, "c", api.Passing, note)
	}
	must(t, s.Close())
	if f, err := os.Stat(s.journalPath()); err != nil || f.Size() > 2*slack {
		t.Errorf("%d bytes (%v), want no more than %d", f.Size(), err, 2*slack)
	}
	if c := open(t, dir).Checks()["c"]; c == nil || c.Status != api.Passing || c.Output != note {
		t.Errorf("after a restart: %+v", c)
	}
}

// A line that cannot be read is set aside, half a line at the end left out; the rest is
// there.
func TestCorruptRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.AddService(webService(), FromAPI, false))
	f, err := os.OpenFile(s.journalPath(), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("{\"Service\": nonsense\n{\"Check\":{\"CheckID\":\"c\",\"TTL\":\"1m\"}}\n{\"Service\":{\"ID\":\"half")
	must(t, errors.Join(err, f.Close()))
	again := open(t, dir)
	if len(again.Services()) != 1 || again.Checks()["c"] == nil {
		t.Errorf("services %v, checks %v", again.Services(), again.Checks())
	}
	if b, err := os.ReadFile(s.journalPath() + ".corrupt"); err != nil || string(b) != "{\"Service\": nonsense\n" {
		t.Errorf("set aside: %q, %v", b, err)
	}
}

// What an agent left that kept a file for each registration is taken over.
func TestOldLayout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, text := range map[string]string{
		"services/00":     `{"ID":"w1","Name":"web","Port":80,"Checks":[{"CheckID":"c","TTL":"1m"}]}`,
		"services/01":     `{"ID":"half`,
		"checks/02":       `{"Maintenance":{"CheckID":"_service_maintenance:w1","ServiceID":"w1","Name":"m","Reason":"tea"}}`,
		"checks/03":       `{"Check":{"CheckID":"node","Name":"node","TTL":"1m"}}`,
		"checks/state/04": fmt.Sprintf(`{"CheckID":"c","Status":"passing","Output":"well","Expires":%d}`, time.Now().Add(time.Hour).UnixMilli()),
	} {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600))
	}
	for _, s := range []*State{open(t, dir), open(t, dir)} { // the second from the journal
		checks := s.Checks()
		if s.Services()["w1"] == nil || checks["node"] == nil || checks["_service_maintenance:w1"] == nil || checks["c"] == nil || checks["c"].Status != api.Passing {
			t.Errorf("services %v, checks %v", s.Services(), checks)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "0*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "01" {
		t.Errorf("files that are left: %v, %v; want the one that cannot be read", left, err)
	}
}

// A registration that cannot be written is refused, and nothing changes; once the disk is
// well again, the next one is taken, and nothing of before is lost.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.AddService(&api.ServiceDefinition{Name: "before"}, FromAPI, false))
	must(t, s.disk.journal.f.Close())
	must(t, os.Mkdir(s.journalPath()+".new", 0o700))
	for range 2 {
		if err := s.AddService(webService(), FromAPI, false); err == nil || len(s.Services()) != 1 {
			t.Errorf("AddService: %v with %d services, want an error and one", err, len(s.Services()))
		}
	}
	must(t, os.Remove(s.journalPath()+".new"))
	must(t, s.AddService(&api.ServiceDefinition{Name: "after"}, FromAPI, false))
	if got := open(t, dir).Services(); len(got) != 2 || got["before"] == nil || got["after"] == nil {
		t.Errorf("after a restart: %v", got)
	}
}

// Whatever is registered, reported and removed by many at once, the journal makes the same
// state, however often it was made anew in between.
func TestReplayMakesTheSame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range 300 {
				id := fmt.Sprint("s", r.IntN(5))
				check := fmt.Sprint("c", r.IntN(3))
				switch r.IntN(8) {
				case 0, 1, 2:
					_ = s.AddService(&api.ServiceDefinition{ID: id, Name: "web", Port: i, Checks: []*api.CheckDefinition{ttl(id + check)}}, FromAPI, r.IntN(2) == 0)
				case 3:
					_ = s.AddCheck(&api.CheckDefinition{CheckID: check, Name: fmt.Sprint(i), ServiceID: id, TTL: api.Duration(time.Minute)}, FromAPI)
				case 4:
					_ = s.RemoveService(id)
				case 5:
					_ = s.RemoveCheck(check)
				case 6:
					_ = s.ServiceMaintenance(id, r.IntN(2) == 0, "tea")
				case 7:
					_, _ = s.TTL(id+check, api.Passing, fmt.Sprint(i))
				}
				if i%100 == 99 {
					s.disk.journal.file.Lock()
					s.disk.journal.size, s.disk.journal.base = 1<<40, 0
					s.disk.journal.file.Unlock()
				}
			}
		})
	}
	all.Wait()
	again := open(t, dir)
	if diff := gocmp.Diff(s.Services(), again.Services()); diff != "" {
		t.Errorf("services (-before +after a restart):\n%s", diff)
	}
	if diff := gocmp.Diff(s.Checks(), again.Checks()); diff != "" {
		t.Errorf("checks (-before +after a restart):\n%s", diff)
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
		report(t, s, "c", api.Passing, "")
		if got := s.Overdue(time.Now()); len(got) != 0 {
			t.Errorf("passing again: %v", got)
		}
	})
}
