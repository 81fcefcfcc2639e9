package cli

import (
	"fmt"
	"io"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) aclRules() *cli.Command {
	return &cli.Command{
		Name: "binding-rule", Usage: "say what logins are given",
		Commands: []*cli.Command{a.ruleCreate(), a.ruleList(), a.ruleRead(), a.ruleUpdate(), a.ruleDelete()},
	}
}

func ruleFlags() []cli.Flag {
	return []cli.Flag{
		descriptionFlag(),
		&cli.StringFlag{Name: "bind-type", Usage: "service, node, role or policy"},
		&cli.StringFlag{Name: "bind-name", Usage: "what to bind to; ${value.NAME} puts a claim in"},
		&cli.StringFlag{Name: "selector", Usage: "for which logins: an expression like value.NAME == \"x\"; for all by default"},
	}
}

// rule lays what the flags say over r.
func rule(c *cli.Command, r *consul.ACLBindingRule) {
	for flag, to := range map[string]*string{"description": &r.Description, "bind-name": &r.BindName, "selector": &r.Selector} {
		if c.IsSet(flag) {
			*to = c.String(flag)
		}
	}
	if c.IsSet("bind-type") {
		r.BindType = consul.BindingRuleBindType(c.String("bind-type"))
	}
}

// readRule reads the rule that -id means.
func readRule(c *cli.Command, cl *consul.Client) (*consul.ACLBindingRule, error) {
	id := c.String("id")
	if id == "" {
		return nil, misused(c, "-id is missing")
	}
	if len(id) != 36 {
		list, _, err := cl.ACL().BindingRuleList("", options(c))
		if err != nil {
			return nil, explain("listing binding rules", err)
		}
		ids := make([]string, len(list))
		for i, r := range list {
			ids[i] = r.ID
		}
		if id, err = whole("binding rule", id, ids); err != nil {
			return nil, err
		}
	}
	r, _, err := cl.ACL().BindingRuleRead(id, options(c))
	if err != nil {
		return nil, explain("reading the binding rule", err)
	}
	if r == nil {
		return nil, fmt.Errorf("there is no binding rule %q", id)
	}
	return r, nil
}

func (a *app) ruleCreate() *cli.Command {
	flags := append(ruleFlags(), &cli.StringFlag{Name: "method", Usage: "the auth method"})
	return aclCommand("create", "make a binding rule", "rollcall acl binding-rule create -method=ci -bind-type=service -bind-name='${value.project}'", aclFlags(flags...), func(c *cli.Command, cl *consul.Client) error {
		if c.String("method") == "" || c.String("bind-type") == "" || c.String("bind-name") == "" {
			return misused(c, "give -method, -bind-type and -bind-name")
		}
		r := &consul.ACLBindingRule{AuthMethod: c.String("method")}
		rule(c, r)
		r, _, err := cl.ACL().BindingRuleCreate(r, writeOptions(c))
		return a.ruleDone(c, "creating", r, err)
	})
}

func (a *app) ruleDone(c *cli.Command, doing string, r *consul.ACLBindingRule, err error) error {
	if err != nil {
		return explain(doing+" the binding rule", err)
	}
	return a.print(c, r, func(w io.Writer) {
		s := &sheet{width: 13}
		s.add("ID", r.ID)
		ruleRest(s, r, c.Bool("meta"))
		s.write(w)
		fmt.Fprintln(w)
	})
}

func (a *app) ruleList() *cli.Command {
	flags := aclFlags(&cli.StringFlag{Name: "method", Usage: "only those of this auth method"})
	return aclCommand("list", "list binding rules", "rollcall acl binding-rule list -method=ci", flags, func(c *cli.Command, cl *consul.Client) error {
		list, _, err := cl.ACL().BindingRuleList(c.String("method"), options(c))
		if err != nil {
			return explain("listing binding rules", err)
		}
		return a.print(c, list, func(w io.Writer) {
			for _, r := range list {
				fmt.Fprintf(w, "%s:\n", r.ID)
				s := &sheet{indent: "   ", width: 13}
				ruleRest(s, r, c.Bool("meta"))
				s.write(w)
			}
		})
	})
}

func (a *app) ruleRead() *cli.Command {
	return aclCommand("read", "show a binding rule", "rollcall acl binding-rule read -id=1c55e3f1", aclFlags(idFlag("rule")), func(c *cli.Command, cl *consul.Client) error {
		r, err := readRule(c, cl)
		if err != nil {
			return err
		}
		return a.ruleDone(c, "reading", r, nil)
	})
}

func (a *app) ruleUpdate() *cli.Command {
	return aclCommand("update", "change a binding rule", "rollcall acl binding-rule update -id=1c55e3f1 -description=\"projects\"", aclFlags(append(ruleFlags(), idFlag("rule"), noMergeFlag())...), func(c *cli.Command, cl *consul.Client) error {
		r, err := readRule(c, cl)
		if err != nil {
			return err
		}
		if c.Bool("no-merge") {
			r = &consul.ACLBindingRule{ID: r.ID, AuthMethod: r.AuthMethod}
		}
		rule(c, r)
		r, _, err = cl.ACL().BindingRuleUpdate(r, writeOptions(c))
		return a.ruleDone(c, "updating", r, err)
	})
}

func (a *app) ruleDelete() *cli.Command {
	return aclCommand("delete", "remove a binding rule", "rollcall acl binding-rule delete -id=1c55e3f1", catalogFlags(idFlag("rule")), func(c *cli.Command, cl *consul.Client) error {
		r, err := readRule(c, cl)
		if err != nil {
			return err
		}
		if _, err := cl.ACL().BindingRuleDelete(r.ID, writeOptions(c)); err != nil {
			return explain("deleting the binding rule", err)
		}
		a.printf("Binding rule %q deleted successfully\n", r.ID)
		return nil
	})
}

func ruleRest(s *sheet, r *consul.ACLBindingRule, meta bool) {
	s.add("AuthMethod", r.AuthMethod)
	s.add("Description", r.Description)
	s.add("BindType", r.BindType)
	s.add("BindName", r.BindName)
	s.add("Selector", r.Selector)
	if meta {
		s.add("Create Index", r.CreateIndex)
		s.add("Modify Index", r.ModifyIndex)
	}
}
