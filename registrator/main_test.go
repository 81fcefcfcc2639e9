package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain lets the test binary be the registrator itself, for tests that need it as a
// process.
func TestMain(m *testing.M) {
	if os.Getenv("REGISTRATOR_UNDER_TEST") == "1" {
		main()
		return
	}
	flag.Parse()
	var err error
	if workDir, err = os.MkdirTemp("", "registrator-test"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(workDir)
	os.Exit(code)
}

// workDir holds what is built once for all tests.
var workDir string

// command is the registrator as a process that has not started.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "REGISTRATOR_UNDER_TEST=1")
	return cmd
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args        []string
		code        int
		out, errors string
	}{
		"help":       {[]string{"-h"}, 0, "Usage: registrator", ""},
		"version":    {[]string{"--version"}, 0, "registrator v", ""},
		"no address": {nil, 2, "", "consul://"},
		"two":        {[]string{"consul://127.0.0.1:1", "consul://127.0.0.1:2"}, 2, "", "one catalog"},
		"bad flag":   {[]string{"-interal", "consul://127.0.0.1:1"}, 2, "", "-internal"},
		"bad values": {[]string{"-drain=x", "-adopt=y", "consul://127.0.0.1:1"}, 2, "", "-adopt"},
		"other kind": {[]string{"etcd://127.0.0.1:2379"}, 2, "", "etcd"},
		"no token":   {[]string{"consul://127.0.0.1:1?token_file=/none/such"}, 1, "", "/none/such"},
		"no engine":  {[]string{"-once", "-docker=unix:///none/such", "consul://127.0.0.1:1"}, 1, "", "/none/such"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			cmd := command(t, c.args...)
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run() // the exit code is looked at
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit %d, want %d", got, c.code)
			}
			if !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.errors) {
				t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
			}
			if n := strings.Count(errs.String(), "\n"); n > 1 || (c.code != 0) != (n == 1) {
				t.Errorf("%d lines on stderr, want one where it fails:\n%s", n, errs.String())
			}
		})
	}
}
