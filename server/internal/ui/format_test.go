package ui

import (
	"strings"
	"testing"
)

func TestAddressesInOnePiece(t *testing.T) {
	for address, want := range map[string]string{
		"10.77.0.4:8010": "at", "255.255.255.255:65535": "at", "[2001:db8:1111:2222:3333:4444:5555:6666]:65535": "at long",
		"fd00:1234::9abc": "at", strings.Repeat("a", 60): "",
	} {
		if got := inOne(address); got != want {
			t.Errorf("%s: class %q, want %q", address, got, want)
		}
	}
}
