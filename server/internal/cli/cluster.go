package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/internal/api"
)

func (a *app) members() *cli.Command {
	return &cli.Command{
		Name: "members", Usage: "list the agents of the cluster", UsageText: "rollcall members -status=alive",
		Description: "Exit code 2: nobody matches.",
		Flags: clientFlags(format(),
			&cli.BoolFlag{Name: "detailed", Usage: "show all tags"},
			&cli.BoolFlag{Name: "wan", Usage: "the servers of all datacenters"},
			&cli.StringFlag{Name: "status", Usage: "only states that match this regular expression", Value: ".*"},
			&cli.StringFlag{Name: "segment", Usage: "accepted; there are no segments", Hidden: true},
			&cli.StringFlag{Name: "filter", Usage: "only members for which this expression holds"},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			want, err := regexp.Compile(c.String("status"))
			if err != nil {
				return misused(c, "-status: %v", err)
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			all, err := cl.Agent().MembersOpts(consul.MembersOpts{WAN: c.Bool("wan"), Filter: c.String("filter")})
			if err != nil {
				return explain("retrieving members", err)
			}
			list := slices.DeleteFunc(all, func(m *consul.AgentMember) bool { return !want.MatchString(api.MemberStatus(m.Status).String()) })
			if len(list) == 0 {
				return &exit{code: exitNoMatch}
			}
			slices.SortFunc(list, func(x, y *consul.AgentMember) int { return strings.Compare(x.Name, y.Name) })
			if c.String("format") == "json" {
				return a.json(list)
			}
			a.table(memberRows(list, c.Bool("detailed"))...)
			return nil
		},
	}
}

func memberRows(list []*consul.AgentMember, detailed bool) [][]string {
	rows := [][]string{{"Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"}}
	if detailed {
		rows = [][]string{{"Node", "Address", "Status", "Tags"}}
	}
	for _, m := range list {
		row := []string{m.Name, fmt.Sprintf("%s:%d", m.Addr, m.Port), api.MemberStatus(m.Status).String()}
		if detailed {
			var tags []string
			for _, k := range slices.Sorted(maps.Keys(m.Tags)) {
				tags = append(tags, k+"="+m.Tags[k])
			}
			rows = append(rows, append(row, strings.Join(tags, ",")))
			continue
		}
		kind, segment := "client", "<default>"
		if m.Tags["role"] == "consul" {
			kind, segment = "server", "<all>"
		}
		build, _, _ := strings.Cut(m.Tags["build"], ":")
		rows = append(rows, append(row, kind, build, m.Tags["vsn"], m.Tags["dc"], segment))
	}
	return rows
}

func (a *app) info() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "print the agent's numbers", UsageText: "rollcall info", Flags: clientFlags(format()),
		Action: func(_ context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			self, err := cl.Agent().Self()
			if err != nil {
				return explain("querying agent", err)
			}
			if c.String("format") == "json" {
				return a.json(self["Stats"])
			}
			for _, section := range slices.Sorted(maps.Keys(self["Stats"])) {
				a.printf("%s:\n", section)
				values, _ := self["Stats"][section].(map[string]any)
				for _, k := range slices.Sorted(maps.Keys(values)) {
					a.printf("\t%s = %v\n", k, values[k])
				}
			}
			return nil
		},
	}
}

func (a *app) join() *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "have the agent join others", ArgsUsage: "ADDRESS…", UsageText: "rollcall join 10.0.0.2",
		Flags: clientFlags(&cli.BoolFlag{Name: "wan", Usage: "join a server of another datacenter"}),
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() == 0 {
				return misused(c, "name at least one address to join")
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			joined := 0
			for _, addr := range c.Args().Slice() {
				if err := cl.Agent().Join(addr, c.Bool("wan")); err != nil {
					fmt.Fprintln(a.Stderr, explain(fmt.Sprintf("joining address '%s'", addr), err))
					continue
				}
				joined++
			}
			if joined == 0 {
				return &exit{1, "Failed to join any nodes."}
			}
			a.printf("Successfully joined cluster by contacting %d nodes.\n", joined)
			return nil
		},
	}
}

func (a *app) leave() *cli.Command {
	return &cli.Command{
		Name: "leave", Usage: "have the agent leave the cluster and end", UsageText: "rollcall leave", Flags: clientFlags(),
		Action: func(_ context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			if err := cl.Agent().Leave(); err != nil {
				return explain("leaving", err)
			}
			a.printf("Graceful leave complete\n")
			return nil
		},
	}
}

func (a *app) forceLeave() *cli.Command {
	return &cli.Command{
		Name: "force-leave", Usage: "declare a failed agent to have left", ArgsUsage: "NODE", UsageText: "rollcall force-leave -prune host-3",
		Flags: clientFlags(
			&cli.BoolFlag{Name: "prune", Usage: "forget it at once"},
			&cli.BoolFlag{Name: "wan", Usage: "a server of another datacenter"},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() != 1 {
				return misused(c, "name one node")
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			return explain("force leaving", cl.Agent().ForceLeaveOptions(c.Args().First(), consul.ForceLeaveOpts{Prune: c.Bool("prune"), WAN: c.Bool("wan")}, nil))
		},
	}
}

func (a *app) reload() *cli.Command {
	return &cli.Command{
		Name: "reload", Usage: "have the agent read its configuration again", UsageText: "rollcall reload", Flags: clientFlags(),
		Action: func(_ context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			if err := cl.Agent().Reload(); err != nil {
				return explain("reloading", err)
			}
			a.printf("Configuration reload triggered\n")
			return nil
		},
	}
}

func (a *app) maint() *cli.Command {
	return &cli.Command{
		Name: "maint", Usage: "take this node or one of its services out, or back in",
		UsageText: "rollcall maint -enable -service=web -reason=\"new disk\"",
		Flags: clientFlags(format(),
			&cli.BoolFlag{Name: "enable", Usage: "take out"}, &cli.BoolFlag{Name: "disable", Usage: "take back in"},
			&cli.StringFlag{Name: "reason", Usage: "why, for others to read"}, &cli.StringFlag{Name: "service", Usage: "id of a service; without it, the node"},
		),
		Action: func(_ context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			on, off, service := c.Bool("enable"), c.Bool("disable"), c.String("service")
			switch {
			case on && off:
				return misused(c, "-enable and -disable exclude each other")
			case !on && !off && (service != "" || c.String("reason") != ""):
				return misused(c, "say -enable or -disable")
			case on && service == "":
				return said(a, "Node maintenance is now enabled\n", cl.Agent().EnableNodeMaintenance(c.String("reason")))
			case on:
				return said(a, fmt.Sprintf("Service maintenance is now enabled for %q\n", service), cl.Agent().EnableServiceMaintenance(service, c.String("reason")))
			case off && service == "":
				return said(a, "Node maintenance is now disabled\n", cl.Agent().DisableNodeMaintenance())
			case off:
				return said(a, fmt.Sprintf("Service maintenance is now disabled for %q\n", service), cl.Agent().DisableServiceMaintenance(service))
			}
			checks, err := cl.Agent().Checks()
			if err != nil {
				return explain("querying checks", err)
			}
			out := []maintained{}
			for _, id := range slices.Sorted(maps.Keys(checks)) {
				if api.IsMaintenance(id) {
					out = append(out, maintained{checks[id].Node, checks[id].ServiceID, checks[id].Notes})
				}
			}
			if c.String("format") == "json" {
				return a.json(out)
			}
			for _, m := range out {
				if m.ServiceID == "" {
					a.printf("Node:\n  Name:   %s\n  Reason: %s\n\n", m.Node, m.Reason)
				} else {
					a.printf("Service:\n  ID:     %s\n  Reason: %s\n\n", m.ServiceID, m.Reason)
				}
			}
			return nil
		},
	}
}

// maintained is a node, or a service of it, that is in maintenance.
type maintained struct{ Node, ServiceID, Reason string }

func said(a *app, text string, err error) error {
	if err != nil {
		return explain("changing maintenance", err)
	}
	a.printf("%s", text)
	return nil
}

func (a *app) keygen() *cli.Command {
	return &cli.Command{
		Name: "keygen", Usage: "make a key for gossip encryption", UsageText: "rollcall keygen",
		Action: func(context.Context, *cli.Command) error {
			key := make([]byte, 32)
			rand.Read(key)
			a.printf("%s\n", base64.StdEncoding.EncodeToString(key))
			return nil
		},
	}
}
