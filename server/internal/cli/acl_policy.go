package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) aclPolicies() *cli.Command {
	return &cli.Command{
		Name: "policy", Usage: "make and change policies",
		Commands: []*cli.Command{a.policyCreate(), a.policyList(), a.policyRead(), a.policyUpdate(), a.policyDelete()},
	}
}

// policyID finds the policy whose ID begins with a prefix.
func policyID(c *cli.Command, cl *consul.Client, prefix string) (string, error) {
	if len(prefix) == 36 {
		return prefix, nil
	}
	list, _, err := cl.ACL().PolicyList(options(c))
	if err != nil {
		return "", explain("listing policies", err)
	}
	ids := make([]string, len(list))
	for i, p := range list {
		ids[i] = p.ID
	}
	return whole("policy", prefix, ids)
}

// missing reports whether an object of ACLs is not there, by what the server says of all
// of them; of the token of a request it says the same.
func missing(err error) bool {
	var s consul.StatusError
	return errors.As(err, &s) && (s.Code == 403 && strings.HasSuffix(s.Body, "ACL not found") || s.Code == 404)
}

// namedPolicy reads the policy that -id or, where that says another thing, -name means.
func namedPolicy(c *cli.Command, cl *consul.Client) (*consul.ACLPolicy, error) {
	var p *consul.ACLPolicy
	var err error
	switch id, name := c.String("id"), c.String("name"); {
	case id != "":
		if id, err = policyID(c, cl, id); err != nil {
			return nil, err
		}
		p, _, err = cl.ACL().PolicyRead(id, options(c))
	case name != "":
		if p, _, err = cl.ACL().PolicyReadByName(name, options(c)); missing(err) {
			p, err = nil, nil
		}
	default:
		return nil, misused(c, "give -id or -name of the policy")
	}
	if err != nil {
		return nil, explain("reading the policy", err)
	}
	if p == nil {
		return nil, fmt.Errorf("there is no policy named %q", c.String("name"))
	}
	return p, nil
}

func policyFlags() []cli.Flag {
	return []cli.Flag{
		nameFlag("policy"), descriptionFlag(),
		&cli.StringFlag{Name: "rules", Usage: "the rules; @FILE reads a file, - the standard input"},
		&cli.StringSliceFlag{Name: "valid-datacenter", Usage: "a datacenter that it holds in (default: all); may be repeated"},
	}
}

func (a *app) policyCreate() *cli.Command {
	return aclCommand("create", "make a policy", "rollcall acl policy create -name=readers -rules='key_prefix \"\" { policy = \"read\" }'", aclFlags(policyFlags()...), func(c *cli.Command, cl *consul.Client) error {
		rules, err := a.text(c.String("rules"))
		if err != nil {
			return fmt.Errorf("read the rules: %w", err)
		}
		p, _, err := cl.ACL().PolicyCreate(&consul.ACLPolicy{
			Name: c.String("name"), Description: c.String("description"), Datacenters: c.StringSlice("valid-datacenter"), Rules: rules,
		}, writeOptions(c))
		return a.policyDone(c, "creating", p, err)
	})
}

func (a *app) policyDone(c *cli.Command, doing string, p *consul.ACLPolicy, err error) error {
	if err != nil {
		return explain(doing+" the policy", err)
	}
	return a.print(c, p, func(w io.Writer) { showPolicy(w, p, c.Bool("meta")) })
}

func (a *app) policyList() *cli.Command {
	return aclCommand("list", "list policies", "rollcall acl policy list", aclFlags(), func(c *cli.Command, cl *consul.Client) error {
		list, _, err := cl.ACL().PolicyList(options(c))
		if err != nil {
			return explain("listing policies", err)
		}
		return a.print(c, list, func(w io.Writer) {
			for _, p := range list {
				fmt.Fprintf(w, "%s:\n", p.Name)
				s := &sheet{indent: "   ", width: 13}
				s.add("ID", p.ID)
				s.add("Description", p.Description)
				s.add("Datacenters", strings.Join(p.Datacenters, ", "))
				if c.Bool("meta") {
					s.add("Hash", fmt.Sprintf("%x", p.Hash))
					s.add("Create Index", p.CreateIndex)
					s.add("Modify Index", p.ModifyIndex)
				}
				s.write(w)
			}
		})
	})
}

func (a *app) policyRead() *cli.Command {
	return aclCommand("read", "show a policy", "rollcall acl policy read -name=readers", aclFlags(idFlag("policy"), nameFlag("policy")), func(c *cli.Command, cl *consul.Client) error {
		p, err := namedPolicy(c, cl)
		if err != nil {
			return err
		}
		return a.policyDone(c, "reading", p, nil)
	})
}

func (a *app) policyUpdate() *cli.Command {
	return aclCommand("update", "change a policy", "rollcall acl policy update -name=readers -description=\"may read keys\"", aclFlags(append(policyFlags(), idFlag("policy"), noMergeFlag())...), func(c *cli.Command, cl *consul.Client) error {
		p, err := namedPolicy(c, cl)
		if err != nil {
			return err
		}
		next := p
		if c.Bool("no-merge") {
			next = &consul.ACLPolicy{ID: p.ID, Name: p.Name}
		}
		if c.String("id") != "" && c.IsSet("name") {
			next.Name = c.String("name")
		}
		if c.IsSet("description") {
			next.Description = c.String("description")
		}
		if c.IsSet("valid-datacenter") {
			next.Datacenters = c.StringSlice("valid-datacenter")
		}
		if c.IsSet("rules") {
			if next.Rules, err = a.text(c.String("rules")); err != nil {
				return fmt.Errorf("read the rules: %w", err)
			}
		}
		next, _, err = cl.ACL().PolicyUpdate(next, writeOptions(c))
		return a.policyDone(c, "updating", next, err)
	})
}

func (a *app) policyDelete() *cli.Command {
	return aclCommand("delete", "remove a policy", "rollcall acl policy delete -name=readers", catalogFlags(idFlag("policy"), nameFlag("policy")), func(c *cli.Command, cl *consul.Client) error {
		p, err := namedPolicy(c, cl)
		if err != nil {
			return err
		}
		if _, err := cl.ACL().PolicyDelete(p.ID, writeOptions(c)); err != nil {
			return explain("deleting the policy", err)
		}
		a.printf("Policy %q deleted successfully\n", p.ID)
		return nil
	})
}

func showPolicy(w io.Writer, p *consul.ACLPolicy, meta bool) {
	s := &sheet{width: 13}
	s.add("ID", p.ID)
	s.add("Name", p.Name)
	s.add("Description", p.Description)
	s.add("Datacenters", strings.Join(p.Datacenters, ", "))
	if meta {
		s.add("Hash", fmt.Sprintf("%x", p.Hash))
		s.add("Create Index", p.CreateIndex)
		s.add("Modify Index", p.ModifyIndex)
	}
	s.write(w)
	fmt.Fprintf(w, "Rules:\n%s\n", p.Rules)
}
