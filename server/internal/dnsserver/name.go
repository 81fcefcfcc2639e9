package dnsserver

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// kinds are the labels that say what a name is of.
var kinds = []string{"service", "node", "query", "addr"}

// form is a name of our domain, taken apart.
type form struct {
	kind  string   // one of kinds
	parts []string // the labels before the kind
	dc    string   // "" for our own
}

// parseName reads the labels of a name, without its domain and in lower case. The last
// label that names a kind decides; behind it may stand a datacenter, alone or as
// <dc>.dc. Names by RFC 2782 (_web._tcp) may do without ".service" where srv is asked.
func parseName(labels []string, srv bool) (form, bool) {
	for i := len(labels) - 1; i >= 0; i-- {
		switch l := labels[i]; {
		case slices.Contains(kinds, l):
			return form{kind: l, parts: labels[:i]}.in(labels[i+1:])
		case srv && strings.HasPrefix(l, "_"):
			return form{kind: "service", parts: labels[:i+1]}.in(labels[i+1:])
		}
	}
	return form{}, false
}

// in takes the labels behind the kind as the datacenter.
func (f form) in(rest []string) (form, bool) {
	if len(rest) == 2 && rest[1] == "dc" {
		rest = rest[:1]
	}
	if len(rest) == 1 {
		f.dc = rest[0]
	}
	return f, len(rest) <= 1 && len(f.parts) > 0
}

// serviceName takes the labels before ".service" apart: _web._tag and _web._tcp are of
// RFC 2782, everything left of the last label is otherwise one tag.
func serviceName(parts []string) (name, tag string) {
	if n := len(parts); n != 2 || !strings.HasPrefix(parts[0], "_") || !strings.HasPrefix(parts[1], "_") {
		return parts[n-1], strings.Join(parts[:n-1], ".")
	}
	if tag = parts[1][1:]; tag == "tcp" {
		tag = ""
	}
	return parts[0][1:], tag
}

// inDomain gives the longest of domains that name is in, "" if none; both in lower case
// and with the final dot.
func inDomain(name string, domains ...string) string {
	in := ""
	for _, d := range domains {
		if len(d) > len(in) && dns.IsSubDomain(d, name) {
			in = d
		}
	}
	return in
}
