package api

import "testing"

func TestCanonicalAddress(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "FD00:0:0::1": "fd00::1", "fd00::1": "fd00::1", "::ffff:10.0.0.1": "10.0.0.1",
		"fd00::x": "fd00::x", "X:y": "x:y", "Host.Example": "host.example", "": "", "::": "::",
	} {
		if got := CanonicalAddress(addr); got != want {
			t.Errorf("CanonicalAddress(%q) = %q, want %q", addr, got, want)
		}
	}
}
