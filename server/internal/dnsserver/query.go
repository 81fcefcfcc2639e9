package dnsserver

import (
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// query answers NAME.query, and _NAME._tcp.query, by carrying out a prepared query.
func (a *ask) query(f form) error {
	name := strings.Join(f.parts, ".")
	if len(f.parts) == 2 && strings.HasPrefix(f.parts[0], "_") && f.parts[1] == "_tcp" {
		name = f.parts[0][1:]
	}
	a.transient = true // chance and distance have a say each time
	how := endpoint.Execution{Agent: endpoint.Source{Datacenter: a.Datacenter, Node: a.Node}}
	if a.source.IsValid() {
		how.Source.IP = a.source.String()
	}
	found, err := endpoint.ExecuteQuery(a.reading, a.Endpoint, name, how, a.options(f.dc))
	if err != nil {
		return err
	}
	a.scope = a.subnet // the answer is for those there
	ttl := a.ttl(strings.ToLower(found.Service))
	if t, err := time.ParseDuration(found.DNS.TTL); err == nil {
		ttl = t
	}
	if err := a.places(found.Nodes, ttl); err != nil {
		return err
	}
	a.weights = nil // the order is the query's
	return nil
}

// options of a read in a datacenter.
func (c *Config) options(dc string) api.QueryOptions {
	o := api.QueryOptions{Datacenter: dc, Token: c.token(), MaxStale: c.MaxStale, Consistency: api.Stale}
	if c.Consistent {
		o.Consistency, o.MaxStale = api.Default, 0
	}
	return o
}

func (c *Config) token() string {
	if c.Token == nil {
		return ""
	}
	return c.Token()
}
