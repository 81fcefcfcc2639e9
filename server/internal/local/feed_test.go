package local

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// took names what a feed has, as "definitions | services | checks | health".
func took(f *Feed) string {
	c := f.Take()
	var parts []string
	for _, set := range []map[string]bool{c.Definitions, c.Services, c.Checks, c.Health} {
		parts = append(parts, strings.Join(slices.Sorted(maps.Keys(set)), ","))
	}
	return strings.Join(parts, " | ")
}

// A feed has everything first, then each change once, whoever else reads.
func TestFeed(t *testing.T) {
	t.Parallel()
	s := open(t, "")
	must(t, s.AddService(webService(ttl("c")), FromAPI, false))
	f := s.Feed()
	for _, c := range []struct {
		what string
		do   func()
		want string
	}{
		{"at first", func() {}, "c | w1 | c | w1"},
		{"nothing", func() {}, " |  |  | "},
		{"a report", func() { report(t, s, "c", api.Passing, "x") }, " |  | c | w1"},
		{"the same report", func() { report(t, s, "c", api.Passing, "x") }, " |  |  | "},
		{"a result", func() { s.UpdateCheck("c", api.Warning, "x") }, " |  | c | w1"},
		{"a node's check", func() { must(t, s.AddCheck(ttl("n"), FromAPI)) }, "n |  | n | "},
		{"maintenance", func() { must(t, s.ServiceMaintenance("w1", true, "")) }, " |  | _service_maintenance:w1 | w1"},
		{"another service", func() { must(t, s.AddService(&api.ServiceDefinition{Name: "o"}, FromAPI, false)) }, " | o |  | o"},
		{"a check moves", func() {
			moved := ttl("n")
			moved.ServiceID = "o"
			must(t, s.AddCheck(moved, FromAPI))
		}, "n |  | n | ,o"},
		{"gone", func() { must(t, s.RemoveService("w1")) }, "_service_maintenance:w1,c | w1 | _service_maintenance:w1,c | w1"},
	} {
		c.do()
		if got := took(f); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
	other := s.Feed()
	if got := took(other); got != "n | o | n | o" {
		t.Errorf("a feed of later: %q", got)
	}
	select {
	case <-f.Wake():
	default:
		t.Error("nobody was woken")
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		must(t, s.AddService(webService(ttl("c")), FromAPI, false))
		words := func(last string) string { return "expired, " + last }
		if look := s.Expire("c", words); time.Until(look) != time.Minute {
			t.Errorf("look again in %s, want a TTL", time.Until(look))
		}
		report(t, s, "c", api.Passing, "well")
		time.Sleep(50 * time.Second)
		report(t, s, "c", api.Passing, "well")
		time.Sleep(50 * time.Second)
		if look := s.Expire("c", words); time.Until(look) != 10*time.Second || s.Checks()["c"].Status != api.Passing {
			t.Errorf("reported in time: look in %s, %s", time.Until(look), s.Checks()["c"].Status)
		}
		must(t, s.AddService(webService(ttl("c")), FromAPI, false)) // registering again is a sign of life
		time.Sleep(50 * time.Second)
		if look := s.Expire("c", words); time.Until(look) != 10*time.Second {
			t.Errorf("registered again: look in %s, want a TTL from then", time.Until(look))
		}
		time.Sleep(10 * time.Second)
		s.Expire("c", words)
		if c := s.Checks()["c"]; c.Status != api.Critical || c.Output != "expired, well" {
			t.Errorf("run out: %s %q", c.Status, c.Output)
		}
		time.Sleep(time.Minute)
		if look := s.Expire("c", words); time.Until(look) != time.Minute || s.Checks()["c"].Output != "expired, well" {
			t.Errorf("without a report since: look in %s, %q; want it said once", time.Until(look), s.Checks()["c"].Output)
		}
		if look := s.Expire("absent", words); !look.IsZero() {
			t.Errorf("no such check: look in %s", time.Until(look))
		}
		report(t, s, "c", api.Passing, "again")
		time.Sleep(time.Minute)
		s.Expire("c", words)
		if got := s.Checks()["c"].Output; got != "expired, again" {
			t.Errorf("the next time: %q", got)
		}
		// Over a restart: what has run out is not believed; what has not has its TTL anew.
		report(t, s, "c", api.Passing, "back")
		time.Sleep(50 * time.Second)
		again := open(t, dir)
		if c := again.Checks()["c"]; c.Status != api.Passing || c.Output != "back" {
			t.Errorf("after a restart: %s %q", c.Status, c.Output)
		}
		if look := again.Expire("c", words); time.Until(look) != time.Minute {
			t.Errorf("after a restart: look in %s, want a TTL", time.Until(look))
		}
		time.Sleep(11 * time.Second)
		if c := open(t, dir).Checks()["c"]; c.Status != api.Critical {
			t.Errorf("after a long absence: %s", c.Status)
		}
	})
}

func TestDiscardOutput(t *testing.T) {
	t.Parallel()
	s := open(t, "")
	must(t, s.AddService(webService(ttl("c")), FromAPI, false))
	report(t, s, "c", api.Passing, "before")
	s.DiscardOutput(true)
	if c := s.Checks()["c"]; c.Output != "" || c.Status != api.Passing {
		t.Errorf("what was there: %s %q", c.Status, c.Output)
	}
	report(t, s, "c", api.Warning, "words")
	if c := s.Checks()["c"]; c.Output != "" || c.Status != api.Warning {
		t.Errorf("a report: %s %q", c.Status, c.Output)
	}
	s.UpdateCheck("c", api.Passing, "words")
	if c := s.Checks()["c"]; c.Output != "" {
		t.Errorf("a result: %q", c.Output)
	}
	s.DiscardOutput(false)
	s.UpdateCheck("c", api.Passing, "words")
	if c := s.Checks()["c"]; c.Output != "words" {
		t.Errorf("kept again: %q", c.Output)
	}
}
