package checks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

// The states are what `systemctl is-active` prints; its exit code is 3 where the unit is
// not active.
func TestOSService(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\n[ \"$1 $2\" = 'is-active --' ] || exit 9\necho \"$3\"\n[ \"$3\" = active ]\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	for state, want := range map[string]string{
		"active": api.Passing, "reloading": api.Passing, "activating": api.Warning, "deactivating": api.Warning,
		"inactive": api.Critical, "failed": api.Critical, "unknown": api.Critical,
	} {
		def := &api.CheckDefinition{OSService: state}
		if status, output := look(t, osServiceProbe(def), def); status != want || output != "Service "+state+" is "+state {
			t.Errorf("%s: %s %q, want %s", state, status, output, want)
		}
	}
	down := &api.CheckDefinition{OSService: "System has not been booted with systemd"}
	if status, output := look(t, osServiceProbe(down), down); status != api.Critical || !strings.Contains(output, "systemctl says: System has not") {
		t.Errorf("a host that systemd does not run: %s %q", status, output)
	}
	t.Setenv("PATH", t.TempDir())
	def := &api.CheckDefinition{OSService: "nginx"}
	if status, output := look(t, osServiceProbe(def), def); status != api.Critical || !strings.Contains(output, "systemctl") {
		t.Errorf("a host without systemd: %s %q", status, output)
	}
}
