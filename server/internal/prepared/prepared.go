// Package prepared says what a prepared query means: whether a definition holds together,
// what a template becomes for a name, and which instances pass. It is pure: it keeps
// nothing, and knows neither store nor network. store keeps compiled queries; endpoint
// checks and executes them.
package prepared

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// Check reports the first fault of a definition, in Consul's words.
func Check(q *api.PreparedQuery) error {
	fault := func(format string, args ...any) error {
		return api.Errorf(api.Internal, "Invalid prepared query: "+format, args...)
	}
	switch {
	case !q.IsTemplate() && q.Name == "" && q.Session == "":
		return fault("Must be bound to a session")
	case q.Token == api.HiddenToken:
		return fault("Bad Token '%s', it looks like a query definition with a redacted token was submitted", q.Token)
	case q.Service.Service == "":
		return fault("Must provide a Service name to query")
	case q.Service.Failover.NearestN < 0:
		return fault("Bad NearestN '%d', must be >= 0", q.Service.Failover.NearestN)
	case len(q.Service.Failover.Targets) > 0 && (q.Service.Failover.NearestN > 0 || len(q.Service.Failover.Datacenters) > 0):
		return fault("Targets cannot be populated with NearestN or Datacenters")
	case slices.ContainsFunc(q.Service.Failover.Targets, func(t api.QueryTarget) bool { return t.Peer != "" }):
		return fault("Bad Targets: peered clusters are left out: give Datacenter")
	}
	if !q.IsTemplate() { // whose strings are not yet what they will be
		if err := api.ValidCatalogMeta(q.Service.NodeMeta); err != nil {
			return fault("invalid NodeMeta filters: %v", err)
		}
		if err := api.ValidCatalogMeta(q.Service.ServiceMeta); err != nil {
			return fault("invalid ServiceMeta filters: %v", err)
		}
	}
	if q.DNS.TTL != "" {
		ttl, err := time.ParseDuration(q.DNS.TTL)
		if err != nil {
			return fault("Bad DNS TTL '%s': %v", q.DNS.TTL, err)
		}
		if ttl < 0 {
			return fault("DNS TTL '%d', must be >=0", ttl)
		}
	}
	if _, err := Compile(q); err != nil {
		return api.Errorf(api.Internal, "failed compiling template: %v", err)
	}
	return nil
}

// Compiled is a query ready to be rendered for names. It is immutable.
type Compiled struct {
	query *api.PreparedQuery
	re    *regexp.Regexp // nil: none
}

// Compile prepares a query. The error is a fault of its template.
func Compile(q *api.PreparedQuery) (*Compiled, error) {
	c := &Compiled{query: q}
	if !q.IsTemplate() {
		return c, nil
	}
	if q.Template.Type != api.TemplatePrefixMatch {
		return nil, api.Errorf(api.Internal, "Bad Template.Type '%s'", q.Template.Type)
	}
	if q.Template.Regexp != "" {
		re, err := regexp.Compile(q.Template.Regexp)
		if err != nil {
			return nil, api.Errorf(api.Internal, "Bad Regexp: %v", err)
		}
		c.re = re
	}
	if _, err := c.Render(q.Name); err != nil {
		return nil, err
	}
	return c, nil
}

// Render gives the query as it is for a name. One that is no template is itself.
func (c *Compiled) Render(name string) (*api.PreparedQuery, error) {
	if !c.query.IsTemplate() {
		return c.query, nil
	}
	vars := variables{full: name, prefix: c.query.Name}
	if len(name) >= len(vars.prefix) && strings.EqualFold(name[:len(vars.prefix)], vars.prefix) {
		vars.suffix = name[len(vars.prefix):]
	}
	if c.re != nil {
		vars.matches = c.re.FindStringSubmatch(name)
	}
	out := *c.query
	s := &out.Service
	fill := filler{vars: vars}
	fill.one("Service.Service", &s.Service)
	fill.one("Service.Near", &s.Near)
	s.Failover.Datacenters = fill.list("Service.Failover.Datacenters", s.Failover.Datacenters)
	s.Failover.Targets = slices.Clone(s.Failover.Targets)
	for i := range s.Failover.Targets {
		fill.one("Service.Failover.Targets", &s.Failover.Targets[i].Datacenter)
	}
	s.IgnoreCheckIDs = fill.list("Service.IgnoreCheckIDs", s.IgnoreCheckIDs)
	s.Tags = fill.list("Service.Tags", s.Tags)
	s.NodeMeta = fill.pairs("Service.NodeMeta", s.NodeMeta)
	s.ServiceMeta = fill.pairs("Service.ServiceMeta", s.ServiceMeta)
	if fill.err != nil {
		return nil, fill.err
	}
	if out.Template.RemoveEmptyTags {
		s.Tags = slices.DeleteFunc(s.Tags, func(t string) bool { return t == "" })
	}
	return &out, nil
}

// Passes reports whether an instance is one that the query wants. Who wants instances of
// the service mesh gets none: there is no mesh.
func Passes(q *api.ServiceQuery, i *api.Instance) bool {
	if q.Connect {
		return false
	}
	for _, c := range i.Checks {
		if slices.Contains(q.IgnoreCheckIDs, c.CheckID) {
			continue
		}
		if c.Status == api.Critical || q.OnlyPassing && c.Status != api.Passing {
			return false
		}
	}
	return within(q.NodeMeta, i.Node.Meta) && within(q.ServiceMeta, i.Service.Meta) && tagged(q.Tags, i.Service.Tags)
}

// within reports whether every pair wanted is there.
func within(want, have map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// tagged reports whether all tags wanted are there and none that is not; in any case.
func tagged(want, have []string) bool {
	for _, w := range want {
		w, not := strings.CutPrefix(w, "!")
		if slices.ContainsFunc(have, func(t string) bool { return strings.EqualFold(t, w) }) == not {
			return false
		}
	}
	return true
}
