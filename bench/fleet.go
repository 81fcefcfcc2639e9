package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// How many agents a fleet has, and how many services each.
const (
	fleetAgents   = 20
	fleetServices = 20
)

// fleet measures how long the agents of a server take to be back after all were lost at
// once, as when a rack has its power again.
func (s *suite) fleet() error {
	agents := map[string][]*peer{}
	sc := &scenario{
		Name: "agents-restart",
		What: fmt.Sprintf("%d agents with %d services each are killed, forgotten by the catalog, and start at once: all instances are in the catalog and pass", fleetAgents, fleetServices),
		Unit: "ms", Less: true,
		run: func(p *peer, _ int) (sample, error) { return restart(p, agents[p.name]) },
	}
	if !s.wants(sc.Name) {
		return nil
	}
	running, end, err := s.run(s.peersOf(sc), "-server", "-bootstrap-expect=1", "-node=server")
	if err != nil {
		return err
	}
	defer end()
	defer func() {
		for _, all := range agents {
			for _, a := range all {
				a.remove()
			}
		}
	}()
	for name, p := range running {
		for i := range fleetAgents {
			a, err := s.launch(name, "-node=a"+strconv.Itoa(i), "-retry-join="+p.lan())
			if err != nil {
				return err
			}
			agents[name] = append(agents[name], a)
			for k := range fleetServices {
				if err := a.put("/v1/agent/service/register", fmt.Sprintf(`{"ID":"s%d","Name":"fleet","Port":%d}`, k, 80+k)); err != nil {
					return err
				}
			}
		}
		if err := p.until(time.Minute, func() error { return inFleet(p, fleetAgents*fleetServices) }); err != nil {
			return err
		}
	}
	return s.measure(sc, running)
}

// restart kills the agents of a server and starts them.
func restart(server *peer, agents []*peer) (sample, error) {
	for _, a := range agents {
		a.kill()
	}
	for i := range agents {
		if err := server.put("/v1/catalog/deregister", fmt.Sprintf(`{"Node":"a%d"}`, i)); err != nil {
			return sample{}, err
		}
	}
	if err := inFleet(server, 0); err != nil {
		return sample{}, err
	}
	before, _ := server.usage()
	began := time.Now()
	for _, a := range agents {
		if err := a.begin(); err != nil {
			return sample{}, err
		}
	}
	err := server.until(2*time.Minute, func() error {
		time.Sleep(20 * time.Millisecond) // the list is long, and asked for on the same processors
		return inFleet(server, len(agents)*fleetServices)
	})
	took := time.Since(began)
	after, _ := server.usage()
	return sample{Value: ms(took), CPU: ms(after-before) / float64(len(agents)*fleetServices)}, err
}

// inFleet wants so many instances that pass.
func inFleet(server *peer, want int) error {
	body, err := server.fetch("/v1/health/service/fleet?passing&stale")
	if n := strings.Count(body, `"Checks"`); err == nil && n != want {
		err = fmt.Errorf("%d of %d instances of the fleet pass", n, want)
	}
	return err
}
