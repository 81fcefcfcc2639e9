package main

import (
	"fmt"
	"strconv"
	"time"
)

// cluster measures three servers and a client agent: reads of a follower, reads through
// the client, writes that need two of three disks.
func (s *suite) cluster() error {
	ask := func(role int, path string) func(p *peer, _ int) (sample, error) {
		return func(p *peer, _ int) (sample, error) {
			return drive(p, 16, s.during, 0, always(s.roles[p.name][role].http, "GET", path))
		}
	}
	all := []*scenario{
		{Name: "cluster-put", What: "three servers: KV put at the leader, 64 connections", Unit: "/s", run: func(p *peer, _ int) (sample, error) {
			return drive(p, 64, s.during, 0, over(p.http, putKey))
		}},
		{Name: "follower-stale", What: "three servers: `health/service/X?stale` of 100 instances at a follower", Unit: "/s", run: ask(follower, "/v1/health/service/s100?passing&stale")},
		{Name: "follower-default", What: "the same, asked for without `stale`: by way of the leader", Unit: "/s", run: ask(follower, "/v1/health/service/s100?passing")},
		{Name: "client-agent", What: "the same, at a client agent", Unit: "/s", run: ask(clientAgent, "/v1/health/service/s100?passing")},
	}
	if !s.wants(all[0].Name, all[1].Name, all[2].Name, all[3].Name) {
		return nil
	}
	s.roles = map[string][3]*peer{}
	leaders := map[string]*peer{}
	for _, name := range s.peersOf(all[0]) {
		var servers []*peer
		defer func() {
			for _, p := range servers {
				p.remove()
			}
		}()
		first, err := s.launch(name, "-server", "-bootstrap-expect=1", "-node=s0")
		if err != nil {
			return err
		}
		servers = append(servers, first)
		for i := 1; i <= 3; i++ {
			args := []string{"-node=s" + strconv.Itoa(i), "-retry-join=" + first.lan()}
			if i < 3 {
				args = append(args, "-server")
			}
			p, err := s.launch(name, args...)
			if err != nil {
				return err
			}
			servers = append(servers, p)
		}
		err = first.until(time.Minute, func() error { // both others have their vote
			return first.get("/v1/operator/autopilot/health", `"FailureTolerance":1`)
		})
		if err != nil {
			return err
		}
		for i := range 100 {
			if err := first.put("/v1/catalog/register", fmt.Sprintf(`{"Node":"n%d","Address":"10.0.0.%d","Service":{"Service":"s100","Port":80}}`, i, i)); err != nil {
				return err
			}
		}
		if err := servers[3].until(20*time.Second, func() error { return servers[3].get("/v1/health/service/s100", `"n99"`) }); err != nil {
			return err
		}
		s.roles[name] = [3]*peer{leader: first, follower: servers[1], clientAgent: servers[3]}
		leaders[name] = first
	}
	for _, sc := range all {
		if err := s.measure(sc, leaders); err != nil {
			return err
		}
	}
	return nil
}

// roles of a cluster's agents.
const (
	leader = iota
	follower
	clientAgent
)
