package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"

	shared "github.com/rollcall/rollcall/internal/config"
	"github.com/rollcall/rollcall/server/internal/config"
)

func (a *app) catalog() *cli.Command {
	return &cli.Command{
		Name: "catalog", Usage: "look at the catalog",
		Commands: []*cli.Command{a.catalogDatacenters(), a.catalogNodes(), a.catalogServices()},
	}
}

func (a *app) catalogDatacenters() *cli.Command {
	return &cli.Command{
		Name: "datacenters", Usage: "list the datacenters", UsageText: "rollcall catalog datacenters", Flags: catalogFlags(format()),
		Action: func(_ context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			list, err := cl.Catalog().Datacenters()
			if err != nil {
				return explain("listing datacenters", err)
			}
			return a.lines(c, list)
		},
	}
}

func (a *app) lines(c *cli.Command, list []string) error {
	if c.String("format") == "json" {
		return a.json(list)
	}
	for _, s := range list {
		a.printf("%s\n", s)
	}
	return nil
}

func meta(c *cli.Command) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range c.StringSlice("node-meta") {
		k, v, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("-node-meta %q: want key=value", text)
		}
		out[k] = v
	}
	return out, nil
}

func (a *app) catalogNodes() *cli.Command {
	return &cli.Command{
		Name: "nodes", Usage: "list the nodes", UsageText: "rollcall catalog nodes -service=web -detailed",
		Flags: catalogFlags(format(),
			&cli.BoolFlag{Name: "detailed", Usage: "with tagged addresses and meta"},
			&cli.StringFlag{Name: "near", Usage: "sort by distance from this node"},
			&cli.StringSliceFlag{Name: "node-meta", Usage: "only nodes with this key=value; repeat for more"},
			&cli.StringFlag{Name: "service", Usage: "only nodes with an instance of this service"},
			&cli.StringFlag{Name: "filter", Usage: "only nodes for which this expression holds"},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			q := options(c)
			q.Near, q.Filter = c.String("near"), c.String("filter")
			if q.NodeMeta, err = meta(c); err != nil {
				return err
			}
			nodes, err := listNodes(cl, c.String("service"), q)
			if err != nil {
				return explain("listing nodes", err)
			}
			if c.String("format") == "json" {
				return a.json(nodes)
			}
			if len(nodes) == 0 {
				return &exit{0, "No nodes match the given query - try expanding your search."}
			}
			a.table(nodeRows(nodes, c.Bool("detailed"))...)
			return nil
		},
	}
}

func listNodes(cl *consul.Client, service string, q *consul.QueryOptions) ([]*consul.Node, error) {
	if service == "" {
		nodes, _, err := cl.Catalog().Nodes(q)
		return nodes, err
	}
	rows, _, err := cl.Catalog().Service(service, "", q)
	var out []*consul.Node
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.Node] {
			seen[r.Node] = true
			out = append(out, &consul.Node{ID: r.ID, Node: r.Node, Address: r.Address, Datacenter: r.Datacenter, TaggedAddresses: r.TaggedAddresses, Meta: r.NodeMeta})
		}
	}
	return out, err
}

func nodeRows(nodes []*consul.Node, detailed bool) [][]string {
	rows := [][]string{{"Node", "ID", "Address", "DC"}}
	if detailed {
		rows[0] = append(rows[0], "TaggedAddresses", "Meta")
	}
	for _, n := range nodes {
		id := n.ID
		if !detailed {
			id = id[:min(len(id), 8)]
		}
		row := []string{n.Node, id, n.Address, n.Datacenter}
		if detailed {
			row = append(row, pairs(n.TaggedAddresses), pairs(n.Meta))
		}
		rows = append(rows, row)
	}
	return rows
}

func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ", ")
}

func (a *app) catalogServices() *cli.Command {
	return &cli.Command{
		Name: "services", Usage: "list the services", UsageText: "rollcall catalog services -tags",
		Flags: catalogFlags(format(),
			&cli.BoolFlag{Name: "tags", Usage: "with their tags"},
			&cli.StringFlag{Name: "node", Usage: "only services of this node"},
			&cli.StringSliceFlag{Name: "node-meta", Usage: "only services on nodes with this key=value; repeat for more"},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			q := options(c)
			if q.NodeMeta, err = meta(c); err != nil {
				return err
			}
			services := map[string][]string{}
			if name := c.String("node"); name != "" {
				n, _, err := cl.Catalog().Node(name, q)
				if err != nil {
					return explain("listing services", err)
				}
				if n != nil {
					for _, s := range n.Services {
						services[s.Service] = append(services[s.Service], s.Tags...)
					}
				}
			} else if services, _, err = cl.Catalog().Services(q); err != nil {
				return explain("listing services", err)
			}
			if c.String("format") == "json" {
				return a.json(services)
			}
			if len(services) == 0 {
				return &exit{0, "No services match the given query - try expanding your search."}
			}
			names := slices.Sorted(maps.Keys(services))
			if !c.Bool("tags") {
				return a.lines(c, names)
			}
			var rows [][]string
			for _, n := range names {
				tags := slices.Compact(slices.Sorted(slices.Values(services[n])))
				rows = append(rows, []string{n, strings.Join(tags, ",")})
			}
			a.table(rows...)
			return nil
		},
	}
}

func (a *app) services() *cli.Command {
	return &cli.Command{
		Name: "services", Usage: "register and deregister services with the agent",
		Commands: []*cli.Command{a.servicesRegister(), a.servicesDeregister()},
	}
}

// definitions reads the services of files, as the agent's configuration has them.
func definitions(files []string) ([]*consul.AgentServiceRegistration, error) {
	var out []*consul.AgentServiceRegistration
	for _, f := range files {
		sources, err := shared.ReadPath(f, "")
		if err != nil {
			return nil, err
		}
		for _, s := range sources {
			c := config.Default()
			if _, err := s.Decode(c); err != nil {
				return nil, oneLine(err)
			}
			for _, d := range c.Services {
				b, err := json.Marshal(d)
				if err != nil {
					return nil, err
				}
				var r consul.AgentServiceRegistration
				if err := json.Unmarshal(b, &r); err != nil {
					return nil, err
				}
				out = append(out, &r)
			}
		}
	}
	return out, nil
}

func (a *app) servicesRegister() *cli.Command {
	return &cli.Command{
		Name: "register", Usage: "register a service", ArgsUsage: "[FILE…]", UsageText: "rollcall services register -name=web -port=80 -tag=v1\nrollcall services register web.hcl",
		Flags: localFlags(
			&cli.StringFlag{Name: "id", Usage: "id of the instance, unique on this agent (default: the name)"}, &cli.StringFlag{Name: "name", Usage: "name of the service"},
			&cli.StringFlag{Name: "address", Usage: "its address (default: the node's)"}, &cli.IntFlag{Name: "port", Usage: "its port"},
			&cli.StringSliceFlag{Name: "meta", Usage: "key=value kept with it; may be repeated"}, &cli.StringSliceFlag{Name: "tag", Usage: "a tag; may be repeated"},
			&cli.StringSliceFlag{Name: "tagged-address", Usage: "another address, as lan=10.0.0.1:80; may be repeated"},
			&cli.StringFlag{Name: "kind", Usage: "accepted; there are no proxies", Hidden: true},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			if (c.Args().Len() == 0) == (c.String("name") == "") {
				return misused(c, "give either -name or files with service definitions")
			}
			list, err := definitions(c.Args().Slice())
			if err != nil {
				return fmt.Errorf("rollcall services register: %w", err)
			}
			if c.Args().Len() == 0 {
				r := &consul.AgentServiceRegistration{ID: c.String("id"), Name: c.String("name"), Address: c.String("address"), Port: c.Int("port"), Tags: c.StringSlice("tag"), Meta: map[string]string{}}
				for _, text := range c.StringSlice("meta") {
					k, v, ok := strings.Cut(text, "=")
					if !ok {
						return misused(c, "-meta %q: want key=value", text)
					}
					r.Meta[k] = v
				}
				if r.TaggedAddresses, err = taggedAddresses(c.StringSlice("tagged-address")); err != nil {
					return misused(c, "-tagged-address: %v", err)
				}
				list = append(list, r)
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return misused(c, "the files define no service")
			}
			for _, r := range list {
				if err := cl.Agent().ServiceRegister(r); err != nil {
					return explain(fmt.Sprintf("registering service %q", r.Name), err)
				}
				a.printf("Registered service: %s\n", r.Name)
			}
			return nil
		},
	}
}

// taggedAddresses reads addresses written as tag=host:port.
func taggedAddresses(texts []string) (map[string]consul.ServiceAddress, error) {
	out := map[string]consul.ServiceAddress{}
	for _, text := range texts {
		tag, at, ok := strings.Cut(text, "=")
		host, port, err := net.SplitHostPort(at)
		n, bad := strconv.ParseUint(port, 10, 16)
		if !ok || err != nil || bad != nil {
			return nil, fmt.Errorf("%q: want tag=host:port", text)
		}
		out[tag] = consul.ServiceAddress{Address: host, Port: int(n)}
	}
	return out, nil
}

func (a *app) servicesDeregister() *cli.Command {
	return &cli.Command{
		Name: "deregister", Usage: "deregister a service", ArgsUsage: "[FILE…]", UsageText: "rollcall services deregister -id=web",
		Flags: localFlags(&cli.StringFlag{Name: "id", Usage: "id of the instance"}),
		Action: func(_ context.Context, c *cli.Command) error {
			if (c.Args().Len() == 0) == (c.String("id") == "") {
				return misused(c, "give either -id or files with service definitions")
			}
			list, err := definitions(c.Args().Slice())
			if err != nil {
				return fmt.Errorf("rollcall services deregister: %w", err)
			}
			var ids []string
			if id := c.String("id"); id != "" {
				ids = append(ids, id)
			}
			for _, r := range list {
				if r.ID == "" {
					r.ID = r.Name
				}
				ids = append(ids, r.ID)
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				return misused(c, "the files define no service")
			}
			for _, id := range ids {
				if err := cl.Agent().ServiceDeregister(id); err != nil {
					return explain(fmt.Sprintf("deregistering service %q", id), err)
				}
				a.printf("Deregistered service: %s\n", id)
			}
			return nil
		},
	}
}
