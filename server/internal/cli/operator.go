package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) operator() *cli.Command {
	return &cli.Command{
		Name: "operator", Usage: "tools for those who run the cluster",
		Commands: []*cli.Command{
			{Name: "raft", Usage: "the servers' consensus", Commands: []*cli.Command{a.listPeers(), a.removePeer(), a.transferLeader(), a.recover()}},
			{Name: "autopilot", Usage: "what is done for servers that come and go", Commands: []*cli.Command{a.autopilotGet(), a.autopilotSet(), a.autopilotState()}},
			{Name: "usage", Usage: "how much is registered", Commands: []*cli.Command{a.usageInstances()}},
		},
	}
}

func (a *app) listPeers() *cli.Command {
	return asking("list-peers", "list the servers of the Raft configuration", "", "rollcall operator raft list-peers", catalogFlags(format()),
		func(_ context.Context, c *cli.Command, cl *consul.Client) error {
			reply, err := cl.Operator().RaftGetConfiguration(options(c))
			if err != nil {
				return explain("getting peers", err)
			}
			if c.String("format") == "json" {
				return a.json(reply)
			}
			slices.SortFunc(reply.Servers, func(x, y *consul.RaftServer) int { return strings.Compare(x.Node, y.Node) })
			rows := [][]string{{"Node", "ID", "Address", "State", "Voter", "RaftProtocol"}}
			for _, s := range reply.Servers {
				state := "follower"
				if s.Leader {
					state = "leader"
				}
				rows = append(rows, []string{s.Node, s.ID, s.Address, state, strconv.FormatBool(s.Voter), s.ProtocolVersion})
			}
			a.table(rows...)
			return nil
		})
}

func (a *app) removePeer() *cli.Command {
	return asking("remove-peer", "take a server that will not come back out of the Raft configuration", "", "rollcall operator raft remove-peer -id=ID", catalogFlags(
		&cli.StringFlag{Name: "id", Usage: "the server's id, as list-peers shows it"},
		&cli.StringFlag{Name: "address", Usage: "or its address and port"},
	), func(_ context.Context, c *cli.Command, cl *consul.Client) error {
		id, addr := c.String("id"), c.String("address")
		var err error
		switch {
		case id == "" && addr == "":
			return misused(c, "an address or id is required for the peer to remove")
		case id != "" && addr != "":
			return misused(c, "cannot give both an address and id")
		case id != "":
			err = cl.Operator().RaftRemovePeerByID(id, writeOptionsIn(c))
		default:
			err = cl.Operator().RaftRemovePeerByAddress(addr, writeOptionsIn(c))
		}
		if err != nil {
			return explain("removing peer", err)
		}
		if id != "" {
			a.printf("Removed peer with id %q\n", id)
		} else {
			a.printf("Removed peer with address %q\n", addr)
		}
		return nil
	})
}

func (a *app) transferLeader() *cli.Command {
	return asking("transfer-leader", "hand leadership to another server", "", "rollcall operator raft transfer-leader", catalogFlags(
		&cli.StringFlag{Name: "id", Usage: "of the next leader; by default the server that is furthest along"},
	), func(_ context.Context, c *cli.Command, cl *consul.Client) error {
		reply, err := cl.Operator().RaftLeaderTransfer(c.String("id"), &consul.QueryOptions{Datacenter: c.String("datacenter")})
		if err != nil {
			return explain("transferring leadership", err)
		}
		if reply != nil && !reply.Success {
			return &exit{1, "Leadership was not transferred."}
		}
		a.printf("Success\n")
		return nil
	})
}

func (a *app) autopilotGet() *cli.Command {
	return asking("get-config", "show the configuration", "", "rollcall operator autopilot get-config", catalogFlags(format()),
		func(_ context.Context, c *cli.Command, cl *consul.Client) error {
			conf, err := cl.Operator().AutopilotGetConfiguration(options(c))
			if err != nil {
				return explain("querying Autopilot configuration", err)
			}
			if c.String("format") == "json" {
				return a.json(conf)
			}
			a.printf("CleanupDeadServers = %t\nLastContactThreshold = %s\nMaxTrailingLogs = %d\nMinQuorum = %d\nServerStabilizationTime = %s\n",
				conf.CleanupDeadServers, conf.LastContactThreshold, conf.MaxTrailingLogs, conf.MinQuorum, conf.ServerStabilizationTime)
			a.printf("RedundancyZoneTag = %q\nDisableUpgradeMigration = %t\nUpgradeVersionTag = %q\n", conf.RedundancyZoneTag, conf.DisableUpgradeMigration, conf.UpgradeVersionTag)
			return nil
		})
}

func (a *app) autopilotSet() *cli.Command {
	return asking("set-config", "change the configuration; what is not named stays", "", "rollcall operator autopilot set-config -server-stabilization-time=30s", catalogFlags(
		&cli.BoolFlag{Name: "cleanup-dead-servers", Usage: "forget servers that failed"},
		&cli.DurationFlag{Name: "last-contact-threshold", Usage: "a server that did not hear the leader for longer is not healthy"},
		&cli.Uint64Flag{Name: "max-trailing-logs", Usage: "a server that lags by more entries is not healthy"},
		&cli.UintFlag{Name: "min-quorum", Usage: "never go below so many servers"},
		&cli.DurationFlag{Name: "server-stabilization-time", Usage: "a new server must be healthy for so long before it votes"},
		&cli.StringFlag{Name: "redundancy-zone-tag", Usage: "kept; what it does is Consul Enterprise's", Hidden: true},
		&cli.BoolFlag{Name: "disable-upgrade-migration", Usage: "likewise", Hidden: true},
		&cli.StringFlag{Name: "upgrade-version-tag", Usage: "likewise", Hidden: true},
	), func(_ context.Context, c *cli.Command, cl *consul.Client) error {
		conf, err := cl.Operator().AutopilotGetConfiguration(options(c))
		if err != nil {
			return explain("querying Autopilot configuration", err)
		}
		if c.IsSet("cleanup-dead-servers") {
			conf.CleanupDeadServers = c.Bool("cleanup-dead-servers")
		}
		if c.IsSet("last-contact-threshold") {
			conf.LastContactThreshold = consul.NewReadableDuration(c.Duration("last-contact-threshold"))
		}
		if c.IsSet("max-trailing-logs") {
			conf.MaxTrailingLogs = c.Uint64("max-trailing-logs")
		}
		if c.IsSet("min-quorum") {
			conf.MinQuorum = c.Uint("min-quorum")
		}
		if c.IsSet("server-stabilization-time") {
			conf.ServerStabilizationTime = consul.NewReadableDuration(c.Duration("server-stabilization-time"))
		}
		if c.IsSet("redundancy-zone-tag") {
			conf.RedundancyZoneTag = c.String("redundancy-zone-tag")
		}
		if c.IsSet("disable-upgrade-migration") {
			conf.DisableUpgradeMigration = c.Bool("disable-upgrade-migration")
		}
		if c.IsSet("upgrade-version-tag") {
			conf.UpgradeVersionTag = c.String("upgrade-version-tag")
		}
		ok, err := cl.Operator().AutopilotCASConfiguration(conf, writeOptionsIn(c))
		switch {
		case err != nil:
			return explain("setting Autopilot configuration", err)
		case !ok:
			return &exit{1, "Configuration could not be atomically updated: somebody else changed it; please try again"}
		}
		a.printf("Configuration updated!\n")
		return nil
	})
}

func (a *app) autopilotState() *cli.Command {
	return asking("state", "show how the servers are", "", "rollcall operator autopilot state", catalogFlags(format()),
		func(_ context.Context, c *cli.Command, cl *consul.Client) error {
			st, err := cl.Operator().AutopilotState(options(c))
			if err != nil {
				return explain("querying Autopilot state", err)
			}
			if c.String("format") == "json" {
				return a.json(st)
			}
			a.printf("Healthy:                      %t\nFailure Tolerance:            %d\nLeader:                       %s\nVoters:\n", st.Healthy, st.FailureTolerance, st.Leader)
			for _, id := range st.Voters {
				a.printf("   %s\n", id)
			}
			a.printf("Servers:\n")
			for _, id := range slices.Sorted(maps.Keys(st.Servers)) {
				s := st.Servers[id]
				a.printf("   %s\n", id)
				a.printf("      Name:            %s\n      Address:         %s\n      Version:         %s\n      Status:          %s\n      Node Status:     %s\n      Healthy:         %t\n      Last Contact:    %s\n      Last Term:       %d\n      Last Index:      %d\n",
					s.Name, s.Address, s.Version, s.Status, s.NodeStatus, s.Healthy, s.LastContact, s.LastTerm, s.LastIndex)
			}
			return nil
		})
}

func (a *app) usageInstances() *cli.Command {
	return asking("instances", "count services and their instances", "", "rollcall operator usage instances", catalogFlags(format(),
		&cli.BoolFlag{Name: "only-billable", Hidden: true}, &cli.BoolFlag{Name: "only-connect", Hidden: true},
		&cli.BoolFlag{Name: "all-datacenters", Usage: "of all datacenters"},
	), func(_ context.Context, c *cli.Command, cl *consul.Client) error {
		q := options(c)
		q.Global = c.Bool("all-datacenters")
		usage, _, err := cl.Operator().Usage(q)
		if err != nil {
			return explain("fetching usage", err)
		}
		if c.String("format") == "json" {
			return a.json(usage)
		}
		rows := [][]string{{"Datacenter", "Nodes", "Services", "Service instances"}}
		for _, dc := range slices.Sorted(maps.Keys(usage.Usage)) {
			u := usage.Usage[dc]
			rows = append(rows, []string{dc, fmt.Sprint(u.Nodes), fmt.Sprint(u.Services), fmt.Sprint(u.ServiceInstances)})
		}
		a.table(rows...)
		return nil
	})
}
