package render

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// nginxFuncs keep what comes from a catalog from being read as configuration: names and
// tags are anybody's to choose.
var nginxFuncs = template.FuncMap{
	"nginxName":    nginxName,
	"nginxServers": nginxServers,
	"nginxHosts":   nginxHosts,
	"nginxRoutes":  nginxRoutes,
}

var unsafeName = regexp.MustCompile(`[^A-Za-z0-9_.\-]`)

// nginxName makes a word that nginx takes as the name of an upstream. Different names
// stay different.
func nginxName(s string) string {
	safe := unsafeName.ReplaceAllString(s, "_")
	if safe == s && s != "" {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return safe + "-" + hex.EncodeToString(sum[:4])
}

// NginxServer is a line of an upstream.
type NginxServer struct {
	Host   string // address:port
	Weight int    // at least 1
}

// nginxServers gives an instance's place and share, each place once, in order. An
// instance that has no address nginx could use without asking a resolver, or no port,
// is left out.
func nginxServers(list []*Instance) []NginxServer {
	out := []NginxServer{}
	for _, i := range list {
		ip, err := netip.ParseAddr(i.Address)
		if err != nil || ip.IsUnspecified() || i.Port < 1 || i.Port > 65535 {
			continue
		}
		w := i.Weights.Passing
		if i.Status == "warning" {
			w = i.Weights.Warning
		}
		s := NginxServer{net.JoinHostPort(ip.WithZone("").String(), strconv.Itoa(i.Port)), min(max(w, 1), 65535)}
		if !slices.ContainsFunc(out, func(o NginxServer) bool { return o.Host == s.Host }) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b NginxServer) int { return strings.Compare(a.Host, b.Host) })
	return out
}

var hostName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_\-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_\-]*[A-Za-z0-9_])?)*$`)

// nginxHosts gives the host names that a service answers to: its own, that in the
// catalog's domain, and those that its instances ask for, by a tag "host=NAME" or
// "urlprefix-NAME/", or by the meta key host. What is no host name is left out.
func nginxHosts(service string, list []*Instance) []string {
	seen := map[string]bool{}
	add := func(name string) {
		if hostName.MatchString(name) && len(name) <= 253 {
			seen[strings.ToLower(name)] = true
		}
	}
	add(service)
	add(service + ".service.consul")
	for _, i := range list {
		for name := range strings.SplitSeq(i.ServiceMeta["host"], ",") {
			add(strings.TrimSpace(name))
		}
		for _, t := range i.Tags {
			if name, ok := strings.CutPrefix(t, "host="); ok {
				add(name)
			} else if name, ok := strings.CutPrefix(t, "urlprefix-"); ok {
				name, _, _ = strings.Cut(name, "/")
				add(name)
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// NginxRoute is a host and path that a service asks for.
type NginxRoute struct{ Host, Path, Service string }

var plainPath = regexp.MustCompile(`^/[A-Za-z0-9_\-./~]*$`)

// nginxRoutes gives the hosts and paths of a service's tags "urlprefix-HOST/PATH", in
// order. What is no host name or no plain path is left out.
func nginxRoutes(service string, list []*Instance) []NginxRoute {
	seen := map[NginxRoute]bool{}
	for _, i := range list {
		for _, t := range i.Tags {
			place, ok := strings.CutPrefix(t, "urlprefix-")
			host, path, slash := strings.Cut(place, "/")
			if ok && slash && hostName.MatchString(host) && plainPath.MatchString("/"+path) {
				seen[NginxRoute{strings.ToLower(host), "/" + path, service}] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b NginxRoute) int {
		return strings.Compare(a.Host+" "+a.Path, b.Host+" "+b.Path)
	})
}
