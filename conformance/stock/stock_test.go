// Package stock runs the test suite of Consul's own Go client, unchanged, against our
// server standing in as the program "consul". Tests named in left_out.txt need not pass;
// every other one must, and one that passes has no business in the list.
package stock

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/hashicorp/consul/api" // so that go.mod keeps it, and what its tests need
)

const (
	suite   = "github.com/hashicorp/consul/api"
	enough  = 175             // tests that must pass in all
	longest = 2 * time.Minute // one test
)

// TestStockClient gives each test of the suite a process of its own, so that one that
// panics takes no other along. How many run at a time is go test's -parallel.
func TestStockClient(t *testing.T) {
	bin := t.TempDir()
	command(t, "../..", "go", "build", "-o", filepath.Join(bin, "consul"), "./server")
	command(t, ".", "go", "test", "-c", "-o", filepath.Join(bin, "suite"), suite)
	home := strings.TrimSpace(command(t, ".", "go", "list", "-m", "-f", "{{.Dir}}", suite))
	names := strings.Fields(command(t, home, filepath.Join(bin, "suite"), "-test.list", "."))
	left := leftOut(t, names)

	var passed atomic.Int64
	t.Run("suite", func(t *testing.T) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				verdict, output := run(t, bin, home, name)
				reason, listed := left[name]
				switch {
				case verdict == "PASS" && listed:
					t.Errorf("%s passes, but left_out.txt lists it (%s): take it off the list", name, reason)
				case verdict == "PASS":
					passed.Add(1)
				case listed:
					t.Skipf("left out: %s", reason)
				default:
					t.Errorf("%s: %s\n%s", name, verdict, output)
				}
			})
		}
	})
	t.Logf("%d of %d tests pass, %d are left out", passed.Load(), len(names), len(left))
	if passed.Load() < enough && !t.Failed() {
		t.Errorf("%d tests pass, want at least %d", passed.Load(), enough)
	}
}

// run gives what became of one test, PASS, SKIP or FAIL, and what it printed. Servers it
// leaves behind are killed with it. Where that may be had it has a network of its own: the
// suite takes ports by trying ten times for one of fifteen ranges, and of eight at a time one
// gives up now and then.
func run(t *testing.T, bin, home, name string) (verdict, output string) {
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	argv := []string{filepath.Join(bin, "suite"), "-test.v", "-test.run", "^" + name + "$"}
	if os.Getuid() == 0 {
		argv = append([]string{"unshare", "--net", "--", "sh", "-c", `ip link set lo up && exec "$0" "$@"`}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = group, 5*time.Second
	err := cmd.Run()
	if cmd.Process != nil {
		group() // what is left of it; none is the rule
	}
	switch {
	case err != nil:
		return "FAIL (" + err.Error() + ")", out.String()
	case strings.Contains(out.String(), "--- SKIP: "+name+" "):
		return "SKIP", out.String()
	}
	return "PASS", out.String()
}

// leftOut reads the list: a test and the reason in a line, # for remarks.
func leftOut(t *testing.T, names []string) map[string]string {
	t.Helper()
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	text, err := os.ReadFile("left_out.txt")
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, _ := strings.Cut(line, " ")
		reason = strings.TrimSpace(reason)
		switch {
		case !known[name]:
			t.Errorf("left_out.txt: the suite has no test %s", name)
		case reason == "":
			t.Errorf("left_out.txt: %s has no reason", name)
		case left[name] != "":
			t.Errorf("left_out.txt: %s is listed twice", name)
		}
		left[name] = reason
	}
	return left
}

// command runs a program to its end and gives its output.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}
