package cli

import (
	"context"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) event() *cli.Command {
	return asking("event", "tell all agents that something happened", "[PAYLOAD]", "rollcall event -name=deploy -service=web 1.2.3", catalogFlags(
		&cli.StringFlag{Name: "name", Usage: "name of the event (needed)"},
		&cli.StringFlag{Name: "node", Usage: "only nodes whose names match this regular expression"},
		&cli.StringFlag{Name: "service", Usage: "only nodes with a service whose name matches"},
		&cli.StringFlag{Name: "tag", Usage: "with -service: that has a tag which matches"},
	), func(_ context.Context, c *cli.Command, cl *consul.Client) error {
		switch {
		case c.String("name") == "":
			return misused(c, "Event name must be specified: -name")
		case c.Args().Len() > 1:
			return misused(c, "one payload, in quotes if it has blanks")
		case c.String("tag") != "" && c.String("service") == "":
			return misused(c, "-tag needs -service")
		}
		id, _, err := cl.Event().Fire(&consul.UserEvent{
			Name: c.String("name"), Payload: []byte(c.Args().First()),
			NodeFilter: c.String("node"), ServiceFilter: c.String("service"), TagFilter: c.String("tag"),
		}, writeOptionsIn(c))
		if err != nil {
			return explain("firing event", err)
		}
		a.printf("Event ID: %s\n", id)
		return nil
	})
}

func (a *app) monitor() *cli.Command {
	return asking("monitor", "follow the agent's log", "", "rollcall monitor -log-level=debug", clientFlags(
		&cli.StringFlag{Name: "log-level", Usage: "trace, debug, info, warn or err", Value: "INFO"},
		&cli.BoolFlag{Name: "log-json", Usage: "as JSON"},
	), func(ctx context.Context, c *cli.Command, cl *consul.Client) error {
		follow := cl.Agent().Monitor
		if c.Bool("log-json") {
			follow = cl.Agent().MonitorJSON
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		lines, err := follow(c.String("log-level"), ctx.Done(), nil)
		if err != nil {
			return explain("starting monitor", err)
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case line, ok := <-lines:
				if !ok {
					return &exit{1, "Remote side ended the monitor! This usually means that the remote side has exited or crashed."}
				}
				a.printf("%s\n", line)
			}
		}
	})
}

func (a *app) rtt() *cli.Command {
	return asking("rtt", "estimate the round trip time between two nodes", "NODE [NODE]", "rollcall rtt host-1 host-2", clientFlags(
		&cli.BoolFlag{Name: "wan", Usage: "between servers of datacenters, named node.dc"},
	), func(_ context.Context, c *cli.Command, cl *consul.Client) error {
		names := c.Args().Slice()
		if len(names) != 1 && len(names) != 2 {
			return misused(c, "name one node or two")
		}
		find, kind := lanCoordinates, "LAN"
		if c.Bool("wan") {
			for _, n := range names {
				if !strings.Contains(n, ".") {
					return misused(c, "Node names must be specified as <node name>.<datacenter> with -wan, not %q", n)
				}
			}
			find, kind = wanCoordinates, "WAN"
		}
		if len(names) == 1 {
			self, err := cl.Agent().Self()
			if err != nil {
				return explain("querying agent", err)
			}
			name, _ := self["Config"]["NodeName"].(string)
			if dc, _ := self["Config"]["Datacenter"].(string); c.Bool("wan") {
				name += "." + dc
			}
			names = append(names, name)
		}
		found, err := find(cl)
		if err != nil {
			return explain("getting coordinates", err)
		}
		from, to := found[names[0]], found[names[1]]
		for i, coordinate := range []*consul.CoordinateEntry{from, to} {
			if coordinate == nil {
				return &exit{1, "Could not find a coordinate for node \"" + names[i] + "\": an agent tells its coordinate after it has met others, and every 15 s at most"}
			}
		}
		dist := from.Coord.DistanceTo(to.Coord)
		a.printf("Estimated %s <-> %s rtt: %.3f ms (using %s coordinates)\n", names[0], names[1], float64(dist)/float64(time.Millisecond), kind)
		return nil
	})
}

func lanCoordinates(cl *consul.Client) (map[string]*consul.CoordinateEntry, error) {
	list, _, err := cl.Coordinate().Nodes(nil)
	out := map[string]*consul.CoordinateEntry{}
	for _, e := range list {
		out[e.Node] = e
	}
	return out, err
}

func wanCoordinates(cl *consul.Client) (map[string]*consul.CoordinateEntry, error) {
	list, err := cl.Coordinate().Datacenters()
	out := map[string]*consul.CoordinateEntry{}
	for _, dc := range list {
		for i := range dc.Coordinates {
			out[dc.Coordinates[i].Node+"."+dc.Datacenter] = &dc.Coordinates[i]
		}
	}
	return out, err
}
