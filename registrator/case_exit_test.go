package main

import (
	"fmt"
	"testing"
)

// With -on-exit=critical an instance that ended stays to be seen until it runs again, or
// is removed.
func TestOnExitCritical(t *testing.T) {
	t.Parallel()
	ss := both(t, "-on-exit=critical")
	id := start(t, "plain", "-e", "SERVICE_NAME=web", "--", "-drain", "200ms")
	ss.has(soon, "registered", "web", published(t, id))
	seen := func(s *site) error {
		rows, _, err := s.Health().Service("web", "", false, nil)
		if err == nil && (len(rows) != 1 || rows[0].Checks.AggregatedStatus() != "maintenance") {
			err = fmt.Errorf("%d instances", len(rows))
		}
		return err
	}
	for _, how := range []string{"kill", "stop"} {
		dockerCmd(t, how, id)
		ss.eventually(soon, how+": it is there, out of service", seen)
		dockerCmd(t, "start", id)
		ss.has(soon, "it runs again", "web", published(t, id))
	}
	dockerCmd(t, "kill", id)
	ss.eventually(soon, "out of service", seen)
	for _, s := range ss { // one that comes new to it keeps it, too
		s.reg.kill()
		s.reg.run()
	}
	probe := start(t, "plain", "-e", "SERVICE_NAME=probe")
	ss.has(soon, "it has looked", "probe", published(t, probe))
	ss.eventually(soon, "out of service", seen)
	remove(t, id)
	ss.eventually(soon, "removed", func(s *site) error {
		rows, _, err := s.Catalog().Service("web", "", nil)
		if err == nil && len(rows) > 0 {
			err = fmt.Errorf("%d instances", len(rows))
		}
		return err
	})
}
