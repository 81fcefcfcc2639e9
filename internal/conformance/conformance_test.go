package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// enough is how many requests the suite must have at least.
const enough = 300

// TestDifferential plays every scenario against ours and the real Consul.
func TestDifferential(t *testing.T) {
	real := os.Getenv("CONSUL")
	if real == "" {
		out, err := exec.Command("../../deploy/lab/consul.sh").Output()
		if err != nil {
			t.Skipf("the real Consul cannot be had here (deploy/lab/consul.sh brings it, CONSUL names another): %v", err)
		}
		real = strings.TrimSpace(string(out))
	}
	bin := filepath.Join(t.TempDir(), "rollcall")
	if out, err := exec.Command("go", "build", "-o", bin, "../../server").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := readRules("differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu       sync.Mutex
		all      []difference // guarded by mu: those that no rule allows
		played   = map[string]bool{}
		requests int
	)
	t.Run("scenario", func(t *testing.T) {
		for _, file := range files {
			s, err := read(file)
			if err != nil {
				t.Fatal(err)
			}
			requests += len(s.steps)
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				found := play(t, s, bin, real)
				mu.Lock()
				defer mu.Unlock()
				played[s.name] = true
				for _, d := range found {
					if !list.allow(d) {
						t.Error(d)
						all = append(all, d)
					}
				}
			})
		}
	})
	for _, r := range list {
		if !r.used && (played[r.scenario] || len(played) == len(files)) {
			t.Errorf("differences.txt:%d: %q does not occur: take it off the list", r.line, r)
		}
	}
	if requests < enough {
		t.Errorf("the scenarios have %d requests, want %d", requests, enough)
	}
	t.Logf("%d requests in %d scenarios; %d kinds of difference are intended", requests, len(files), len(list))
	if file := os.Getenv("CONFORMANCE_REPORT"); file != "" {
		if err := report(file, all); err != nil {
			t.Error(err)
		}
	}
}

// play gives the differences of one scenario.
func play(t *testing.T, s *scenario, bin, real string) []difference {
	t.Helper()
	var found []difference
	token := ""
	if strings.Contains(s.hcl, `"root"`) {
		token = "root"
	}
	agents := []*agent{start(t, bin, s.hcl, token), start(t, real, s.hcl, token)}
	var players [2]*player
	var normals [2]*normal
	for i, a := range agents {
		players[i], normals[i] = &player{agent: a, kept: map[string]string{}}, newNormal(a)
	}
	for _, st := range s.steps {
		var answers [2]*answer
		var both sync.WaitGroup
		for i := range players {
			both.Go(func() { answers[i] = players[i].do(st) })
		}
		both.Wait()
		here := func(d difference) difference {
			d.scenario, d.line, d.request = s.name, st.line, st.String()
			return d
		}
		if answers[0].err != nil || answers[1].err != nil {
			found = append(found, here(difference{aspect: "no answer", ours: fmt.Sprint(answers[0].err), theirs: fmt.Sprint(answers[1].err)}))
			continue
		}
		for _, d := range compare(normals[0].of(st, answers[0]), normals[1].of(st, answers[1])) {
			found = append(found, here(d))
		}
	}
	return found
}

// report writes differences by route, for those who mend them.
func report(file string, all []difference) error {
	route := func(d difference) string {
		_, target, _ := strings.Cut(d.request, " ")
		path, _, _ := strings.Cut(target, "?")
		parts := strings.SplitN(path, "/", 5)
		return strings.Join(parts[:min(4, len(parts))], "/")
	}
	slices.SortStableFunc(all, func(a, b difference) int { return strings.Compare(route(a), route(b)) })
	var b strings.Builder
	last := ""
	for _, d := range all {
		if r := route(d); r != last {
			fmt.Fprintf(&b, "\n== %s\n", r)
			last = r
		}
		fmt.Fprintln(&b, d)
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
