// Package e2e drives the built binaries as their users do: real processes on loopback, a
// real Docker engine, a real nginx, and where it takes two hosts, two engines in network
// namespaces. It has tests and benchmarks only; nothing imports it.
package e2e
