package cli

import (
	"fmt"
	"io"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/server/internal/acl"
)

func (a *app) aclTokens() *cli.Command {
	return &cli.Command{
		Name: "token", Usage: "make and change tokens",
		Commands: []*cli.Command{a.tokenCreate(), a.tokenList(), a.tokenRead(), a.tokenUpdate(), a.tokenDelete(), a.tokenClone()},
	}
}

// grantFlags say what a token, or a role, is given.
func grantFlags(roles bool) []cli.Flag {
	out := []cli.Flag{
		&cli.StringSliceFlag{Name: "policy-id", Usage: "ID of a policy, or a begin of it; may be repeated"},
		&cli.StringSliceFlag{Name: "policy-name", Usage: "name of a policy; may be repeated"},
		&cli.StringSliceFlag{Name: "service-identity", Usage: "SERVICE or SERVICE:DC1,DC2: what its instances need; may be repeated"},
		&cli.StringSliceFlag{Name: "node-identity", Usage: "NODE:DC: what its agent needs; may be repeated"},
	}
	if roles {
		out = append(out,
			&cli.StringSliceFlag{Name: "role-id", Usage: "ID of a role, or a begin of it; may be repeated"},
			&cli.StringSliceFlag{Name: "role-name", Usage: "name of a role; may be repeated"})
	}
	return out
}

// grants are what the flags give.
type grants struct {
	policies, roles []*consul.ACLLink
	services        []*consul.ACLServiceIdentity
	nodes           []*consul.ACLNodeIdentity
}

func (g *grants) empty() bool { return len(g.policies)+len(g.roles)+len(g.services)+len(g.nodes) == 0 }

func readGrants(c *cli.Command, cl *consul.Client) (*grants, error) {
	g := &grants{services: identities(c.StringSlice("service-identity"))}
	var err error
	if g.nodes, err = nodeIdentities(c.StringSlice("node-identity")); err != nil {
		return nil, err
	}
	for _, name := range c.StringSlice("policy-name") {
		g.policies = append(g.policies, &consul.ACLLink{Name: name})
	}
	for _, prefix := range c.StringSlice("policy-id") {
		id, err := policyID(c, cl, prefix)
		if err != nil {
			return nil, err
		}
		g.policies = append(g.policies, &consul.ACLLink{ID: id})
	}
	for _, name := range c.StringSlice("role-name") {
		g.roles = append(g.roles, &consul.ACLLink{Name: name})
	}
	for _, prefix := range c.StringSlice("role-id") {
		id, err := roleID(c, cl, prefix)
		if err != nil {
			return nil, err
		}
		g.roles = append(g.roles, &consul.ACLLink{ID: id})
	}
	return g, nil
}

// tokenID finds a token by what -id says.
func tokenID(c *cli.Command, cl *consul.Client) (string, error) {
	prefix := c.String("id")
	if prefix == "" {
		prefix = c.String("accessor-id")
	}
	switch {
	case prefix == "":
		return "", misused(c, "-id is missing: name the token by its accessor")
	case prefix == "anonymous":
		return acl.AnonymousID, nil
	case len(prefix) == 36:
		return prefix, nil
	}
	list, _, err := cl.ACL().TokenList(options(c))
	if err != nil {
		return "", explain("listing tokens", err)
	}
	ids := make([]string, len(list))
	for i, t := range list {
		ids[i] = t.AccessorID
	}
	return whole("token", prefix, ids)
}

func tokenIDFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "id", Usage: "the token's accessor, a begin of it that no other has, or anonymous"},
		&cli.StringFlag{Name: "accessor-id", Usage: "the same"})
}

func (a *app) tokenCreate() *cli.Command {
	flags := append(grantFlags(true), descriptionFlag(),
		&cli.BoolFlag{Name: "local", Usage: "it holds in this datacenter only"},
		&cli.DurationFlag{Name: "expires-ttl", Usage: "how long it holds (1m to 24h); for ever by default"},
		&cli.StringFlag{Name: "accessor", Usage: "its accessor, a UUID; by default a new one"},
		&cli.StringFlag{Name: "secret", Usage: "its secret, a UUID; by default a new one"},
	)
	return aclCommand("create", "make a token", "rollcall acl token create -description=\"the web pool\" -service-identity=web", aclFlags(flags...), func(c *cli.Command, cl *consul.Client) error {
		g, err := readGrants(c, cl)
		if err != nil {
			return err
		}
		if g.empty() {
			return misused(c, "give it something: -policy-name, -policy-id, -role-name, -role-id, -service-identity or -node-identity")
		}
		t, _, err := cl.ACL().TokenCreate(&consul.ACLToken{
			AccessorID: c.String("accessor"), SecretID: c.String("secret"), Description: c.String("description"), Local: c.Bool("local"),
			ExpirationTTL: c.Duration("expires-ttl"), Policies: g.policies, Roles: g.roles, ServiceIdentities: g.services, NodeIdentities: g.nodes,
		}, writeOptions(c))
		if err != nil {
			return explain("creating the token", err)
		}
		return a.print(c, t, func(w io.Writer) { showToken(w, t, c.Bool("meta")) })
	})
}

func (a *app) tokenList() *cli.Command {
	return aclCommand("list", "list tokens", "rollcall acl token list", aclFlags(), func(c *cli.Command, cl *consul.Client) error {
		list, _, err := cl.ACL().TokenList(options(c))
		if err != nil {
			return explain("listing tokens", err)
		}
		return a.print(c, list, func(w io.Writer) {
			for _, e := range list { // without secrets: many are there to be seen at once
				showToken(w, &consul.ACLToken{
					AccessorID: e.AccessorID, Description: e.Description, Policies: e.Policies, Roles: e.Roles,
					ServiceIdentities: e.ServiceIdentities, NodeIdentities: e.NodeIdentities, Local: e.Local, AuthMethod: e.AuthMethod,
					ExpirationTime: e.ExpirationTime, CreateTime: e.CreateTime, Hash: e.Hash, CreateIndex: e.CreateIndex, ModifyIndex: e.ModifyIndex,
				}, c.Bool("meta"))
			}
		})
	})
}

func (a *app) tokenRead() *cli.Command {
	flags := aclFlags(tokenIDFlags(&cli.BoolFlag{Name: "self", Usage: "the token that this command uses"})...)
	return aclCommand("read", "show a token", "rollcall acl token read -self", flags, func(c *cli.Command, cl *consul.Client) error {
		var t *consul.ACLToken
		var err error
		if c.Bool("self") {
			t, _, err = cl.ACL().TokenReadSelf(options(c))
		} else {
			var id string
			if id, err = tokenID(c, cl); err != nil {
				return err
			}
			t, _, err = cl.ACL().TokenRead(id, options(c))
		}
		if err != nil {
			return explain("reading the token", err)
		}
		return a.print(c, t, func(w io.Writer) { showToken(w, t, c.Bool("meta")) })
	})
}

func (a *app) tokenUpdate() *cli.Command {
	merge := func(name string) cli.Flag {
		return &cli.BoolFlag{Name: name, Usage: "add to what the token has instead of replacing it"}
	}
	flags := tokenIDFlags(append(grantFlags(true), descriptionFlag(),
		merge("merge-policies"), merge("merge-roles"), merge("merge-service-identities"), merge("merge-node-identities"))...)
	return aclCommand("update", "change a token", "rollcall acl token update -id=1c55e3f1 -merge-policies -policy-name=readers", aclFlags(flags...), func(c *cli.Command, cl *consul.Client) error {
		id, err := tokenID(c, cl)
		if err != nil {
			return err
		}
		t, _, err := cl.ACL().TokenRead(id, nil)
		if err != nil {
			return explain("reading the token", err)
		}
		g, err := readGrants(c, cl)
		if err != nil {
			return err
		}
		t.Policies = merged(t.Policies, g.policies, c.Bool("merge-policies"))
		t.Roles = merged(t.Roles, g.roles, c.Bool("merge-roles"))
		t.ServiceIdentities = merged(t.ServiceIdentities, g.services, c.Bool("merge-service-identities"))
		t.NodeIdentities = merged(t.NodeIdentities, g.nodes, c.Bool("merge-node-identities"))
		if c.IsSet("description") {
			t.Description = c.String("description")
		}
		t, _, err = cl.ACL().TokenUpdate(t, writeOptions(c))
		if err != nil {
			return explain("updating the token", err)
		}
		return a.print(c, t, func(w io.Writer) { showToken(w, t, c.Bool("meta")) })
	})
}

// merged is what a list becomes: next alone, or behind what is there.
func merged[T any](have, next []T, both bool) []T {
	if both {
		return append(have, next...)
	}
	return next
}

func (a *app) tokenDelete() *cli.Command {
	return aclCommand("delete", "remove a token", "rollcall acl token delete -id=1c55e3f1", catalogFlags(tokenIDFlags()...), func(c *cli.Command, cl *consul.Client) error {
		id, err := tokenID(c, cl)
		if err != nil {
			return err
		}
		if _, err := cl.ACL().TokenDelete(id, writeOptions(c)); err != nil {
			return explain("deleting the token", err)
		}
		a.printf("Token %q deleted successfully\n", id)
		return nil
	})
}

func (a *app) tokenClone() *cli.Command {
	return aclCommand("clone", "make a token with the rights of another", "rollcall acl token clone -id=1c55e3f1 -description=\"for the second pool\"", aclFlags(tokenIDFlags(descriptionFlag())...), func(c *cli.Command, cl *consul.Client) error {
		id, err := tokenID(c, cl)
		if err != nil {
			return err
		}
		t, _, err := cl.ACL().TokenClone(id, c.String("description"), writeOptions(c))
		if err != nil {
			return explain("cloning the token", err)
		}
		return a.print(c, t, func(w io.Writer) { showToken(w, t, c.Bool("meta")) })
	})
}

// timeLayout prints times as Consul's commands do.
const timeLayout = "2006-01-02 15:04:05.999999999 -0700 MST"

func showToken(w io.Writer, t *consul.ACLToken, meta bool) {
	s := &sheet{width: 17}
	s.add("AccessorID", t.AccessorID)
	if t.SecretID != "" {
		s.add("SecretID", t.SecretID)
	}
	s.add("Description", t.Description)
	s.add("Local", t.Local)
	if t.AuthMethod != "" {
		s.add("Auth Method", t.AuthMethod)
	}
	s.add("Create Time", t.CreateTime.Format(timeLayout))
	if t.ExpirationTime != nil && !t.ExpirationTime.IsZero() {
		s.add("Expiration Time", t.ExpirationTime.Format(timeLayout))
	}
	if meta {
		s.add("Hash", fmt.Sprintf("%x", t.Hash))
		s.add("Create Index", t.CreateIndex)
		s.add("Modify Index", t.ModifyIndex)
	}
	s.write(w)
	showGrants(w, "", t.Policies, t.Roles, t.ServiceIdentities, t.NodeIdentities)
	fmt.Fprintln(w)
}

func showGrants(w io.Writer, indent string, policies, roles []*consul.ACLLink, services []*consul.ACLServiceIdentity, nodes []*consul.ACLNodeIdentity) {
	links := func(what string, list []*consul.ACLLink) {
		if len(list) > 0 {
			fmt.Fprintf(w, "%s%s:\n", indent, what)
		}
		for _, l := range list {
			fmt.Fprintf(w, "%s   %s - %s\n", indent, l.ID, l.Name)
		}
	}
	links("Policies", policies)
	links("Roles", roles)
	if len(services) > 0 {
		fmt.Fprintf(w, "%sService Identities:\n", indent)
	}
	for _, s := range services {
		dcs := "all"
		if len(s.Datacenters) > 0 {
			dcs = strings.Join(s.Datacenters, ", ")
		}
		fmt.Fprintf(w, "%s   %s (Datacenters: %s)\n", indent, s.ServiceName, dcs)
	}
	if len(nodes) > 0 {
		fmt.Fprintf(w, "%sNode Identities:\n", indent)
	}
	for _, n := range nodes {
		fmt.Fprintf(w, "%s   %s (Datacenter: %s)\n", indent, n.NodeName, n.Datacenter)
	}
}
