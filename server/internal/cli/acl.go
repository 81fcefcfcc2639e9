package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/server/internal/acl"
)

func (a *app) acl() *cli.Command {
	return &cli.Command{
		Name: "acl", Usage: "who may do what: tokens, policies, roles, auth methods",
		Commands: []*cli.Command{
			a.aclBootstrap(), a.aclTokens(), a.aclPolicies(), a.aclRoles(), a.aclMethods(), a.aclRules(), a.aclAgentToken(), a.aclTranslate(),
		},
	}
}

// aclFlags are on the commands that print what ACLs hold.
func aclFlags(more ...cli.Flag) []cli.Flag {
	return catalogFlags(append(more, format(), &cli.BoolFlag{Name: "meta", Usage: "show hashes and indexes, too"})...)
}

func idFlag(what string) cli.Flag {
	return &cli.StringFlag{Name: "id", Usage: "the " + what + "'s ID, or a begin of it that no other has"}
}

func nameFlag(what string) cli.Flag {
	return &cli.StringFlag{Name: "name", Usage: "the " + what + "'s name"}
}

func descriptionFlag() cli.Flag {
	return &cli.StringFlag{Name: "description", Usage: "what it is for"}
}

func noMergeFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-merge", Usage: "replace everything, also what no flag names"}
}

// aclCommand is a command that asks an agent about ACLs and takes no arguments.
func aclCommand(name, usage, example string, flags []cli.Flag, do func(*cli.Command, *consul.Client) error) *cli.Command {
	return asking(name, usage, "", example, flags, func(_ context.Context, c *cli.Command, cl *consul.Client) error { return do(c, cl) })
}

// text gives a flag's value as it is named: of a file after @, of the standard input for -.
func (a *app) text(value string) (string, error) {
	b, err := a.data(value)
	return string(b), err
}

// whole finds the one id that begins with a prefix.
func whole(what, prefix string, ids []string) (string, error) {
	var found []string
	for _, id := range ids {
		if id == prefix {
			return id, nil
		}
		if strings.HasPrefix(id, prefix) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("no %s has an ID that begins with %q", what, prefix)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d %ss have an ID that begins with %q: give more of it", len(found), what, prefix)
}

// identities reads "web" and "web:dc1,dc2".
func identities(values []string) []*consul.ACLServiceIdentity {
	var out []*consul.ACLServiceIdentity
	for _, v := range values {
		name, dcs, _ := strings.Cut(v, ":")
		s := &consul.ACLServiceIdentity{ServiceName: name}
		for _, dc := range strings.Split(dcs, ",") {
			if dc != "" {
				s.Datacenters = append(s.Datacenters, dc)
			}
		}
		out = append(out, s)
	}
	return out
}

// nodeIdentities reads "node:dc1".
func nodeIdentities(values []string) ([]*consul.ACLNodeIdentity, error) {
	var out []*consul.ACLNodeIdentity
	for _, v := range values {
		name, dc, ok := strings.Cut(v, ":")
		if !ok || name == "" || dc == "" {
			return nil, fmt.Errorf("-node-identity %q: write NODE:DATACENTER", v)
		}
		out = append(out, &consul.ACLNodeIdentity{NodeName: name, Datacenter: dc})
	}
	return out, nil
}

// sheet is lines of keys and values, aligned.
type sheet struct {
	indent string
	width  int // of keys with their colon; Consul's are as wide in every answer
	lines  [][2]string
}

func (s *sheet) add(key string, value any) {
	s.lines = append(s.lines, [2]string{key + ":", fmt.Sprint(value)})
}

func (s *sheet) write(w io.Writer) {
	for _, l := range s.lines {
		fmt.Fprintf(w, "%s%-*s %s\n", s.indent, s.width, l[0], l[1])
	}
}

// print writes a value as the flags want it: as JSON, or by pretty.
func (a *app) print(c *cli.Command, v any, pretty func(io.Writer)) error {
	if c.String("format") == "json" {
		return a.json(v)
	}
	pretty(a.out)
	return nil
}

func (a *app) aclBootstrap() *cli.Command {
	return &cli.Command{
		Name: "bootstrap", Usage: "make the first management token, once", ArgsUsage: "[SECRET-FILE | -]", UsageText: "rollcall acl bootstrap", Flags: catalogFlags(format()),
		Description: "The token's secret is chosen, or read from a file or the standard input.\n" +
			"To do it again, write the reset index that the refusal names into acl-bootstrap-reset in the leader's data_dir.",
		Action: func(_ context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			secret := ""
			if arg := c.Args().First(); arg != "" {
				if arg != "-" {
					arg = "@" + arg
				}
				if secret, err = a.text(arg); err != nil {
					return fmt.Errorf("read the secret: %w", err)
				}
			}
			t, _, err := cl.ACL().BootstrapWithToken(strings.TrimSpace(secret))
			if err != nil {
				return explain("bootstrapping ACLs", err)
			}
			return a.print(c, t, func(w io.Writer) { showToken(w, t, false) })
		},
	}
}

// agentSlots are the tokens of an agent that can be set, by Consul's names.
var agentSlots = map[string]func(*consul.Agent, string) error{
	"default":        func(ag *consul.Agent, t string) error { _, err := ag.UpdateDefaultACLToken(t, nil); return err },
	"agent":          func(ag *consul.Agent, t string) error { _, err := ag.UpdateAgentACLToken(t, nil); return err },
	"recovery":       func(ag *consul.Agent, t string) error { _, err := ag.UpdateAgentRecoveryACLToken(t, nil); return err },
	"agent_recovery": func(ag *consul.Agent, t string) error { _, err := ag.UpdateAgentRecoveryACLToken(t, nil); return err },
	"master":         func(ag *consul.Agent, t string) error { _, err := ag.UpdateAgentRecoveryACLToken(t, nil); return err },
	"replication":    func(ag *consul.Agent, t string) error { _, err := ag.UpdateReplicationACLToken(t, nil); return err },
	"dns":            func(ag *consul.Agent, t string) error { _, err := ag.UpdateDNSToken(t, nil); return err },
	"config_file_service_registration": func(ag *consul.Agent, t string) error {
		_, err := ag.UpdateConfigFileRegistrationToken(t, nil)
		return err
	},
}

func (a *app) aclAgentToken() *cli.Command {
	return &cli.Command{
		Name: "set-agent-token", Usage: "set one of the agent's own tokens", ArgsUsage: "SLOT TOKEN", UsageText: "rollcall acl set-agent-token replication 1c55e3f1-3a1f-4b62-9df8-d2a8f8b1a6a1", Flags: localFlags(),
		Description: "SLOT is default, agent, recovery, replication, dns or config_file_service_registration.\n" +
			"With acl.enable_token_persistence it outlives a restart.",
		Action: func(_ context.Context, c *cli.Command) error {
			slot := c.Args().First()
			set := agentSlots[slot]
			if c.Args().Len() != 2 || set == nil {
				return misused(c, "give SLOT and TOKEN; the slots are default, agent, recovery, replication, dns, config_file_service_registration")
			}
			cl, err := client(c)
			if err != nil {
				return err
			}
			if err := set(cl.Agent(), c.Args().Get(1)); err != nil {
				return explain("setting the agent's token", err)
			}
			a.printf("ACL token %q set successfully\n", slot)
			return nil
		},
	}
}

func (a *app) aclTranslate() *cli.Command {
	return &cli.Command{
		Name: "translate-rules", Usage: "print rules of before 1.4 in today's syntax", ArgsUsage: "RULES | @FILE | - | ACCESSOR", UsageText: "rollcall acl translate-rules 'service \"\" { policy = \"write\" }'",
		Flags: catalogFlags(&cli.BoolFlag{Name: "token-accessor", Usage: "the argument is the accessor of a token that carries such rules"}),
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() != 1 {
				return misused(c, "give the rules, @FILE, or - for the standard input")
			}
			rules, err := a.text(c.Args().First())
			if c.Bool("token-accessor") {
				var cl *consul.Client
				if cl, err = client(c); err == nil {
					rules, err = rulesOf(cl, c.Args().First())
				}
			}
			if err != nil {
				return fmt.Errorf("read the rules: %w", err)
			}
			out, err := acl.Translate(rules)
			if err != nil {
				return fmt.Errorf("translate the rules: %w", err)
			}
			a.printf("%s\n", out)
			return nil
		},
	}
}

// rulesOf gives the rules that a token carries. The stock client does not show them any more.
func rulesOf(cl *consul.Client, accessor string) (string, error) {
	var t struct{ Rules string }
	if _, err := cl.Raw().Query("/v1/acl/token/"+accessor, &t, nil); err != nil {
		return "", explain("reading the token", err)
	}
	if t.Rules == "" {
		return "", fmt.Errorf("token %s carries no rules of its own: there is nothing to translate", accessor)
	}
	return t.Rules, nil
}
