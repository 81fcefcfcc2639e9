package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// scenario is something that each peer is measured at, several times, in turn.
type scenario struct {
	Name  string   `json:"name"`
	What  string   `json:"what"`
	Unit  string   `json:"unit"`
	Less  bool     `json:"less,omitempty"` // the smaller the better
	Goal  float64  `json:"goal,omitempty"` // the ratio to reach against Consul
	Only  []string `json:"-"`              // peers, if not ours and Consul
	Once  bool     `json:"-"`              // a round costs too much to repeat
	Kills bool     `json:"-"`              // it kills the peer, and with it a profile being taken
	run   func(p *peer, round int) (sample, error)
	Peers map[string][]sample `json:"peers"`
}

// suite measures scenarios and keeps what it found.
type suite struct {
	programs programs
	scratch  string
	profiles string // a folder, "" for none
	rounds   int
	during   time.Duration
	only     *regexp.Regexp
	compare  []string // the peers beside ours
	out      io.Writer
	found    []*scenario
	keep     func() error // keeps what was found so far; may be nil
	roles    map[string][3]*peer
}

// wants tells whether one of the scenarios is asked for.
func (s *suite) wants(names ...string) bool { return slices.ContainsFunc(names, s.only.MatchString) }

// peersOf gives the names of a scenario's peers, ours first.
func (s *suite) peersOf(sc *scenario) []string {
	all := sc.Only
	if all == nil {
		all = []string{ours, consul}
	}
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name != ours && !slices.Contains(s.compare, name) })
}

// measure runs a scenario on its peers, interleaved, each round in another order.
func (s *suite) measure(sc *scenario, running map[string]*peer) error {
	if !s.wants(sc.Name) {
		return nil
	}
	rounds := s.rounds
	if sc.Once {
		rounds = 1
	}
	sc.Peers = map[string][]sample{}
	names := slices.DeleteFunc(s.peersOf(sc), func(name string) bool { return running[name] == nil })
	for round := range rounds {
		for i := range names {
			name := names[(i+round)%len(names)]
			kept := s.profiled(running[name], sc)
			got, err := sc.run(running[name], round)
			if perr := kept(); err == nil {
				err = perr
			}
			if err != nil {
				return fmt.Errorf("%s of %s: %w", sc.Name, name, err)
			}
			got.Memory = running[name].resident() / 1e6
			sc.Peers[name] = append(sc.Peers[name], got)
		}
	}
	s.found = append(s.found, sc)
	fmt.Fprintf(s.out, "%-28s", sc.Name)
	for _, name := range names {
		fmt.Fprintf(s.out, "  %s %s", name, number(median(values(sc.Peers[name]))))
	}
	fmt.Fprintf(s.out, " %s", sc.Unit)
	if r := sc.ratios(consul); r != nil {
		fmt.Fprintf(s.out, "   ×%.1f (%.1f–%.1f)", median(r), slices.Min(r), slices.Max(r))
		if sc.Goal != 0 {
			fmt.Fprintf(s.out, ", goal ×%g", sc.Goal)
		}
	}
	fmt.Fprintln(s.out)
	if s.keep != nil { // each time: the rest may take long, and fail
		return s.keep()
	}
	return nil
}

// ratios says, round by round, how many times better ours is than another; nil if either
// was not measured.
func (sc *scenario) ratios(other string) []float64 {
	a, b := sc.Peers[ours], sc.Peers[other]
	var out []float64
	for i := range min(len(a), len(b)) {
		x, y := a[i].Value, b[i].Value
		if sc.Less {
			x, y = y, x
		}
		if y > 0 {
			out = append(out, x/y)
		}
	}
	return out
}

func values(samples []sample) []float64 {
	var out []float64
	for _, s := range samples {
		out = append(out, s.Value)
	}
	return out
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// number is a figure as people read it.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	case v < 10_000:
		return fmt.Sprintf("%.0f", v)
	case v < 10_000_000:
		return fmt.Sprintf("%.0f k", v/1000)
	}
	return fmt.Sprintf("%.0f M", v/1e6)
}

// all runs everything that was asked for.
func (s *suite) all() error {
	for _, part := range []func() error{s.starts, s.single, s.cluster, s.fleet, s.growth, s.limits} {
		if err := part(); err != nil {
			return err
		}
	}
	if len(s.found) == 0 {
		return fmt.Errorf("no scenario is called %q", s.only)
	}
	return nil
}

// run starts one of each, and ends them with end.
func (s *suite) run(names []string, args ...string) (running map[string]*peer, end func(), err error) {
	running = map[string]*peer{}
	end = func() {
		for _, p := range running {
			p.remove()
		}
	}
	for _, name := range names {
		p, err := s.launch(name, args...)
		if err != nil {
			end()
			return nil, nil, err
		}
		running[name] = p
	}
	return running, end, nil
}

// profiled takes a profile of ours while a scenario runs, if that is asked for. What it
// gives waits for the end of the profile.
func (s *suite) profiled(p *peer, sc *scenario) func() error {
	if s.profiles == "" || p.name != ours || p.http == "" || sc.Kills {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		body, err := p.fetch("/debug/pprof/profile?seconds=" + strconv.Itoa(max(1, int(s.during.Seconds()))))
		if err == nil {
			err = errors.Join(os.MkdirAll(s.profiles, 0o755), os.WriteFile(filepath.Join(s.profiles, sc.Name+".pprof"), []byte(body), 0o644))
		}
		done <- err
	}()
	return func() error { return <-done }
}

func (s *suite) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
