// Package buildinfo says which build this is. The variables are stamped by the linker
// (see the Makefile); an unstamped build says "dev".
package buildinfo

import "runtime"

var (
	// Version is Rollcall's own version, semver without a leading v.
	Version = "0.1.0-dev"
	// Revision is the commit the build was made from.
	Revision = "unknown"
	// Date is when it was made, RFC 3339.
	Date = "unknown"
)

// Compat is the Consul version whose interfaces we speak. Clients compare it to
// decide what they may ask, so it stays semver.
const Compat = "1.21.4"

// String gives one line for humans, for the binary called name.
func String(name string) string {
	return name + " v" + Version + " (" + Revision + ", built " + Date + ", " + runtime.Version() + ")"
}
