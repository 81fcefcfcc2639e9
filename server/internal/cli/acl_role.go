package cli

import (
	"fmt"
	"io"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) aclRoles() *cli.Command {
	return &cli.Command{
		Name: "role", Usage: "make and change roles",
		Commands: []*cli.Command{a.roleCreate(), a.roleList(), a.roleRead(), a.roleUpdate(), a.roleDelete()},
	}
}

// roleID finds the role whose ID begins with a prefix.
func roleID(c *cli.Command, cl *consul.Client, prefix string) (string, error) {
	if len(prefix) == 36 {
		return prefix, nil
	}
	list, _, err := cl.ACL().RoleList(options(c))
	if err != nil {
		return "", explain("listing roles", err)
	}
	ids := make([]string, len(list))
	for i, r := range list {
		ids[i] = r.ID
	}
	return whole("role", prefix, ids)
}

// namedRole reads the role that -id or -name means.
func namedRole(c *cli.Command, cl *consul.Client) (*consul.ACLRole, error) {
	var r *consul.ACLRole
	var err error
	id, name := c.String("id"), c.String("name")
	switch {
	case id != "":
		if id, err = roleID(c, cl, id); err != nil {
			return nil, err
		}
		r, _, err = cl.ACL().RoleRead(id, options(c))
	case name != "":
		r, _, err = cl.ACL().RoleReadByName(name, options(c))
	default:
		return nil, misused(c, "give -id or -name of the role")
	}
	if err != nil {
		return nil, explain("reading the role", err)
	}
	if r == nil {
		return nil, fmt.Errorf("there is no role %q", id+name)
	}
	return r, nil
}

func (a *app) roleCreate() *cli.Command {
	flags := append(grantFlags(false), nameFlag("role"), descriptionFlag())
	return aclCommand("create", "make a role", "rollcall acl role create -name=team-web -policy-name=readers", aclFlags(flags...), func(c *cli.Command, cl *consul.Client) error {
		g, err := readGrants(c, cl)
		if err != nil {
			return err
		}
		if c.String("name") == "" {
			return misused(c, "-name is missing")
		}
		if g.empty() {
			return misused(c, "give it something: -policy-name, -policy-id, -service-identity or -node-identity")
		}
		r, _, err := cl.ACL().RoleCreate(&consul.ACLRole{
			Name: c.String("name"), Description: c.String("description"), Policies: g.policies, ServiceIdentities: g.services, NodeIdentities: g.nodes,
		}, writeOptions(c))
		return a.roleDone(c, "creating", r, err)
	})
}

func (a *app) roleDone(c *cli.Command, doing string, r *consul.ACLRole, err error) error {
	if err != nil {
		return explain(doing+" the role", err)
	}
	return a.print(c, r, func(w io.Writer) { showRole(w, r, c.Bool("meta")) })
}

func (a *app) roleList() *cli.Command {
	return aclCommand("list", "list roles", "rollcall acl role list", aclFlags(), func(c *cli.Command, cl *consul.Client) error {
		list, _, err := cl.ACL().RoleList(options(c))
		if err != nil {
			return explain("listing roles", err)
		}
		return a.print(c, list, func(w io.Writer) {
			for _, r := range list {
				fmt.Fprintf(w, "%s:\n", r.Name)
				s := &sheet{indent: "   ", width: 13}
				s.add("ID", r.ID)
				roleRest(s, r, c.Bool("meta"))
				s.write(w)
				showGrants(w, "   ", r.Policies, nil, r.ServiceIdentities, r.NodeIdentities)
			}
		})
	})
}

func (a *app) roleRead() *cli.Command {
	return aclCommand("read", "show a role", "rollcall acl role read -name=team-web", aclFlags(idFlag("role"), nameFlag("role")), func(c *cli.Command, cl *consul.Client) error {
		r, err := namedRole(c, cl)
		if err != nil {
			return err
		}
		return a.roleDone(c, "reading", r, nil)
	})
}

func (a *app) roleUpdate() *cli.Command {
	flags := append(grantFlags(false), nameFlag("role"), idFlag("role"), descriptionFlag(), noMergeFlag())
	return aclCommand("update", "change a role: adds what the flags give", "rollcall acl role update -name=team-web -service-identity=web", aclFlags(flags...), func(c *cli.Command, cl *consul.Client) error {
		r, err := namedRole(c, cl)
		if err != nil {
			return err
		}
		g, err := readGrants(c, cl)
		if err != nil {
			return err
		}
		both := !c.Bool("no-merge")
		if !both {
			r = &consul.ACLRole{ID: r.ID, Name: r.Name}
		}
		if c.String("id") != "" && c.IsSet("name") {
			r.Name = c.String("name")
		}
		if c.IsSet("description") {
			r.Description = c.String("description")
		}
		r.Policies = merged(r.Policies, g.policies, both)
		r.ServiceIdentities = merged(r.ServiceIdentities, g.services, both)
		r.NodeIdentities = merged(r.NodeIdentities, g.nodes, both)
		r, _, err = cl.ACL().RoleUpdate(r, writeOptions(c))
		return a.roleDone(c, "updating", r, err)
	})
}

func (a *app) roleDelete() *cli.Command {
	return aclCommand("delete", "remove a role", "rollcall acl role delete -name=team-web", catalogFlags(idFlag("role"), nameFlag("role")), func(c *cli.Command, cl *consul.Client) error {
		r, err := namedRole(c, cl)
		if err != nil {
			return err
		}
		if _, err := cl.ACL().RoleDelete(r.ID, writeOptions(c)); err != nil {
			return explain("deleting the role", err)
		}
		a.printf("Role %q deleted successfully\n", r.ID)
		return nil
	})
}

func roleRest(s *sheet, r *consul.ACLRole, meta bool) {
	s.add("Description", r.Description)
	if meta {
		s.add("Hash", fmt.Sprintf("%x", r.Hash))
		s.add("Create Index", r.CreateIndex)
		s.add("Modify Index", r.ModifyIndex)
	}
}

func showRole(w io.Writer, r *consul.ACLRole, meta bool) {
	s := &sheet{width: 13}
	s.add("ID", r.ID)
	s.add("Name", r.Name)
	roleRest(s, r, meta)
	s.write(w)
	showGrants(w, "", r.Policies, nil, r.ServiceIdentities, r.NodeIdentities)
	fmt.Fprintln(w)
}
