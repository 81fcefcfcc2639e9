// Package conformance sends the same requests to our server and to the real Consul 1.8.7
// and compares the answers: statuses, headers and bodies. It has tests only; nothing
// imports it.
//
// Scenarios stand in testdata, one in a file, as lines that are requests (see scenario).
// Each is played against a fresh agent of either kind. What differs between any two runs
// (indexes, ids, times, ports) is replaced by what it means (see normal); all else must be
// equal, but for what differences.txt lists with the reason. A listed difference that does
// not occur fails as well, so that the list stays true.
package conformance
