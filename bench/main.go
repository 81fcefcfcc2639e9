// Bench measures Rollcall beside the programs that it replaces, or is held against, on one
// machine in one run: Consul and, for keys, etcd. docs/benchmarks.md has what it found.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"time"
)

func main() {
	if len(os.Args) == 3 && slices.Contains(children, os.Args[1]) {
		fail(serve(os.Args[1], os.Args[2]))
	}
	bin := flag.String("rollcall", "bin/rollcall", "our binary")
	theirs := flag.String("consul", "", "the real Consul's binary; without, ours is measured alone")
	other := flag.String("etcd", "", "etcd's binary; found on PATH if not given")
	only := flag.String("run", "", "only the scenarios that this regular expression finds")
	rounds := flag.Int("rounds", 3, "how often each peer is measured, in turn")
	during := flag.Duration("for", 3*time.Second, "how long each measurement takes")
	profiles := flag.String("profiles", "", "keep a profile of our processor time in each scenario in this folder")
	out := flag.String("o", "", "keep the results in this file, JSON")
	render := flag.String("render", "", "measure nothing: make the page and the charts in this folder from the results in -o")
	flag.Parse()
	if *render != "" {
		fail(page(*out, *render))
	}
	s := &suite{programs: programs{ours: *bin}, rounds: *rounds, during: *during, profiles: *profiles, out: os.Stdout}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		fail(err)
	}
	if *theirs != "" {
		s.programs[consul], s.compare = *theirs, append(s.compare, consul)
	}
	if *other == "" {
		*other, _ = exec.LookPath("etcd")
	}
	if *other != "" {
		s.programs[etcd], s.compare = *other, append(s.compare, etcd)
	}
	if *out != "" {
		s.keep = func() error { return keep(*out, s.found) }
	}
	if s.scratch, err = os.MkdirTemp("", "rollcall-bench-"); err != nil {
		fail(err)
	}
	if err = raiseFiles(20_000); err == nil {
		err = s.all()
	}
	if err == nil { // what a failure left is for whoever looks for its cause
		err = os.RemoveAll(s.scratch)
	}
	fail(err)
}

// fail ends the program, well if err is nil.
func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// results is what a file keeps.
type results struct {
	Machine   string      `json:"machine"`
	Command   string      `json:"command"`
	When      string      `json:"when"`
	Scenarios []*scenario `json:"scenarios"`
}

// keep writes the results to a file; scenarios that it had and that were not measured this
// time stay.
func keep(file string, found []*scenario) error {
	r := results{}
	if old, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(old, &r); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, sc := range found {
		known := false
		for i, old := range r.Scenarios {
			if old.Name == sc.Name {
				r.Scenarios[i], known = sc, true
			}
		}
		if !known {
			r.Scenarios = append(r.Scenarios, sc)
		}
	}
	r.Machine, r.Command, r.When = machine(), "make bench", time.Now().UTC().Format(time.DateOnly)
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
