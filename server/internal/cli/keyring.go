package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) keyring() *cli.Command {
	return asking("keyring", "look at and change the keys that gossip is encrypted with",
		"", "rollcall keyring -list", clientFlags(format(),
			&cli.BoolFlag{Name: "list", Usage: "show the keys, and on how many members each is"},
			&cli.BoolFlag{Name: "list-primary", Usage: "show those that messages are encrypted with"},
			&cli.StringFlag{Name: "install", Usage: "give all members another key; nothing is encrypted with it yet"},
			&cli.StringFlag{Name: "use", Usage: "encrypt with a key that is installed"},
			&cli.StringFlag{Name: "remove", Usage: "forget a key that is not in use"},
			&cli.IntFlag{Name: "relay-factor", Usage: "send replies also through so many other members (0 to 5)"},
			&cli.BoolFlag{Name: "local-only", Usage: "with -list: only this agent's datacenter and pool"},
		), func(_ context.Context, c *cli.Command, cl *consul.Client) error {
			asked := 0
			for _, f := range []string{"list", "list-primary", "install", "use", "remove"} {
				if c.IsSet(f) {
					asked++
				}
			}
			if asked != 1 {
				return misused(c, "give exactly one of -list, -list-primary, -install, -use and -remove")
			}
			if n := c.Int("relay-factor"); n < 0 || n > 5 {
				return misused(c, "-relay-factor is 0 to 5")
			}
			q := &consul.QueryOptions{RelayFactor: uint8(c.Int("relay-factor")), LocalOnly: c.Bool("local-only")}
			w := &consul.WriteOptions{RelayFactor: uint8(c.Int("relay-factor"))}
			o := cl.Operator()
			say := func(text string) {
				if c.String("format") != "json" {
					a.printf("%s\n", text)
				}
			}
			switch {
			case c.IsSet("install"):
				say("==> Installing new gossip encryption key...")
				return explain("installing key", o.KeyringInstall(c.String("install"), w))
			case c.IsSet("use"):
				say("==> Changing primary gossip encryption key...")
				return explain("changing primary key", o.KeyringUse(c.String("use"), w))
			case c.IsSet("remove"):
				say("==> Removing gossip encryption key...")
				return explain("removing key", o.KeyringRemove(c.String("remove"), w))
			}
			say("==> Gathering installed encryption keys...")
			pools, err := o.KeyringList(q)
			if err != nil {
				return explain("listing keys", err)
			}
			if c.String("format") == "json" {
				return a.json(pools)
			}
			for _, p := range pools {
				keys := p.Keys
				if c.Bool("list-primary") {
					keys = p.PrimaryKeys
				}
				a.pool(p, keys)
			}
			return nil
		})
}

func (a *app) pool(p *consul.KeyringResponse, keys map[string]int) {
	name := p.Datacenter + " (LAN)"
	if p.WAN {
		name = "WAN"
	}
	a.printf("\n%s:\n", name)
	for _, from := range slices.Sorted(maps.Keys(p.Messages)) {
		a.printf("  ===> %s: %s\n", from, p.Messages[from])
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		a.printf("  %s\n", fmt.Sprintf("%s [%d/%d]", key, keys[key], p.NumNodes))
	}
}
