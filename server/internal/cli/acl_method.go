package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) aclMethods() *cli.Command {
	return &cli.Command{
		Name: "auth-method", Usage: "make and change auth methods",
		Commands: []*cli.Command{a.methodCreate(), a.methodList(), a.methodRead(), a.methodUpdate(), a.methodDelete()},
	}
}

func methodFlags() []cli.Flag {
	return []cli.Flag{
		nameFlag("auth method"), descriptionFlag(),
		&cli.StringFlag{Name: "display-name", Usage: "how pages call it"},
		&cli.DurationFlag{Name: "max-token-ttl", Usage: "how long tokens of its logins hold (1m to 24h); for ever by default"},
		&cli.StringFlag{Name: "token-locality", Usage: "local (default) or global"},
		&cli.StringFlag{Name: "config", Usage: "its configuration in JSON; @FILE reads a file, - the standard input"},
		&cli.StringFlag{Name: "kubernetes-host", Usage: "type kubernetes: the API server"},
		&cli.StringFlag{Name: "kubernetes-ca-cert", Usage: "type kubernetes: its CA certificate; @FILE reads a file"},
		&cli.StringFlag{Name: "kubernetes-service-account-jwt", Usage: "type kubernetes: the account that reviews tokens"},
	}
}

// method lays what the flags say over m.
func (a *app) method(c *cli.Command, m *consul.ACLAuthMethod) error {
	for flag, to := range map[string]*string{"display-name": &m.DisplayName, "description": &m.Description, "token-locality": &m.TokenLocality} {
		if c.IsSet(flag) {
			*to = c.String(flag)
		}
	}
	if c.IsSet("max-token-ttl") {
		m.MaxTokenTTL = c.Duration("max-token-ttl")
	}
	if c.IsSet("config") {
		text, err := a.text(c.String("config"))
		if err != nil {
			return fmt.Errorf("read -config: %w", err)
		}
		m.Config = nil
		if err := json.Unmarshal([]byte(text), &m.Config); err != nil {
			return fmt.Errorf("-config is no JSON object: %w", err)
		}
	}
	for flag, key := range map[string]string{
		"kubernetes-host": "Host", "kubernetes-ca-cert": "CACert", "kubernetes-service-account-jwt": "ServiceAccountJWT",
	} {
		if !c.IsSet(flag) {
			continue
		}
		text, err := a.text(c.String(flag))
		if err != nil {
			return fmt.Errorf("read -%s: %w", flag, err)
		}
		if m.Config == nil {
			m.Config = map[string]any{}
		}
		m.Config[key] = text
	}
	return nil
}

func (a *app) methodCreate() *cli.Command {
	flags := append(methodFlags(), &cli.StringFlag{Name: "type", Usage: "jwt; kubernetes is kept, but lets nobody in"})
	return aclCommand("create", "make an auth method", "rollcall acl auth-method create -type=jwt -name=ci -config=@ci.json", aclFlags(flags...), func(c *cli.Command, cl *consul.Client) error {
		if c.String("type") == "" || c.String("name") == "" {
			return misused(c, "give -type and -name")
		}
		m := &consul.ACLAuthMethod{Type: c.String("type"), Name: c.String("name")}
		if err := a.method(c, m); err != nil {
			return err
		}
		m, _, err := cl.ACL().AuthMethodCreate(m, writeOptions(c))
		return a.methodDone(c, "creating", m, err)
	})
}

func (a *app) methodDone(c *cli.Command, doing string, m *consul.ACLAuthMethod, err error) error {
	if err != nil {
		return explain(doing+" the auth method", err)
	}
	return a.print(c, m, func(w io.Writer) { showMethod(w, m, c.Bool("meta")) })
}

func readMethod(c *cli.Command, cl *consul.Client) (*consul.ACLAuthMethod, error) {
	name := c.String("name")
	if name == "" {
		return nil, misused(c, "-name is missing")
	}
	m, _, err := cl.ACL().AuthMethodRead(name, options(c))
	if err != nil {
		return nil, explain("reading the auth method", err)
	}
	if m == nil {
		return nil, fmt.Errorf("there is no auth method %q", name)
	}
	return m, nil
}

func (a *app) methodList() *cli.Command {
	return aclCommand("list", "list auth methods", "rollcall acl auth-method list", aclFlags(), func(c *cli.Command, cl *consul.Client) error {
		list, _, err := cl.ACL().AuthMethodList(options(c))
		if err != nil {
			return explain("listing auth methods", err)
		}
		return a.print(c, list, func(w io.Writer) {
			for _, m := range list {
				fmt.Fprintf(w, "%s:\n", m.Name)
				s := &sheet{indent: "   ", width: 13}
				s.add("Type", m.Type)
				if m.DisplayName != "" {
					s.add("DisplayName", m.DisplayName)
				}
				s.add("Description", m.Description)
				if c.Bool("meta") {
					s.add("Create Index", m.CreateIndex)
					s.add("Modify Index", m.ModifyIndex)
				}
				s.write(w)
			}
		})
	})
}

func (a *app) methodRead() *cli.Command {
	return aclCommand("read", "show an auth method", "rollcall acl auth-method read -name=ci", aclFlags(nameFlag("auth method")), func(c *cli.Command, cl *consul.Client) error {
		m, err := readMethod(c, cl)
		if err != nil {
			return err
		}
		return a.methodDone(c, "reading", m, nil)
	})
}

func (a *app) methodUpdate() *cli.Command {
	return aclCommand("update", "change an auth method", "rollcall acl auth-method update -name=ci -max-token-ttl=1h", aclFlags(append(methodFlags(), noMergeFlag())...), func(c *cli.Command, cl *consul.Client) error {
		m, err := readMethod(c, cl)
		if err != nil {
			return err
		}
		if c.Bool("no-merge") {
			m = &consul.ACLAuthMethod{Name: m.Name, Type: m.Type}
		}
		if err := a.method(c, m); err != nil {
			return err
		}
		m, _, err = cl.ACL().AuthMethodUpdate(m, writeOptions(c))
		return a.methodDone(c, "updating", m, err)
	})
}

func (a *app) methodDelete() *cli.Command {
	return aclCommand("delete", "remove an auth method with its rules and tokens", "rollcall acl auth-method delete -name=ci", catalogFlags(nameFlag("auth method")), func(c *cli.Command, cl *consul.Client) error {
		name := c.String("name")
		if name == "" {
			return misused(c, "-name is missing")
		}
		if _, err := cl.ACL().AuthMethodDelete(name, writeOptions(c)); err != nil {
			return explain("deleting the auth method", err)
		}
		a.printf("Auth method %q deleted successfully\n", name)
		return nil
	})
}

func showMethod(w io.Writer, m *consul.ACLAuthMethod, meta bool) {
	s := &sheet{width: 14}
	s.add("Name", m.Name)
	s.add("Type", m.Type)
	if m.DisplayName != "" {
		s.add("DisplayName", m.DisplayName)
	}
	s.add("Description", m.Description)
	if m.MaxTokenTTL > 0 {
		s.add("MaxTokenTTL", m.MaxTokenTTL)
	}
	if m.TokenLocality != "" {
		s.add("TokenLocality", m.TokenLocality)
	}
	if meta {
		s.add("Create Index", m.CreateIndex)
		s.add("Modify Index", m.ModifyIndex)
	}
	s.write(w)
	b, err := json.MarshalIndent(m.Config, "", "  ")
	if err == nil { // it came as JSON
		fmt.Fprintf(w, "Config:\n%s\n", b)
	}
}

func (a *app) login() *cli.Command {
	flags := catalogFlags(
		&cli.StringFlag{Name: "method", Usage: "the auth method"},
		&cli.StringFlag{Name: "type", Usage: "accepted; the method has its type", Hidden: true},
		&cli.StringFlag{Name: "bearer-token-file", Usage: "file with what the method asks for (a JWT)"},
		&cli.StringFlag{Name: "token-sink-file", Usage: "file to write the token's secret into; only its owner may read it"},
		&cli.StringSliceFlag{Name: "meta", Usage: "KEY=VALUE for the token's description; may be repeated"},
	)
	return aclCommand("login", "exchange credentials for a token", "rollcall login -method=ci -bearer-token-file=jwt -token-sink-file=token", flags, func(c *cli.Command, cl *consul.Client) error {
		if c.String("method") == "" || c.String("token-sink-file") == "" || c.String("bearer-token-file") == "" {
			return misused(c, "give -method, -bearer-token-file and -token-sink-file")
		}
		if err := replaceable(c.String("token-sink-file")); err != nil { // before there is a token
			return misused(c, "-token-sink-file: %v", err)
		}
		b, err := os.ReadFile(c.String("bearer-token-file"))
		if err != nil {
			return fmt.Errorf("read the bearer token: %w", err)
		}
		meta := map[string]string{}
		for _, m := range c.StringSlice("meta") {
			k, v, ok := strings.Cut(m, "=")
			if !ok {
				return fmt.Errorf("-meta %q: write KEY=VALUE", m)
			}
			meta[k] = v
		}
		t, _, err := cl.ACL().Login(&consul.ACLLoginParams{AuthMethod: c.String("method"), BearerToken: strings.TrimSpace(string(b)), Meta: meta}, nil)
		if err != nil {
			return explain("logging in", err)
		}
		return sink(c.String("token-sink-file"), t.SecretID)
	})
}

// sink writes a secret into a file that is whole at any time.
func sink(path, secret string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".token-")
	if err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	defer os.Remove(f.Name()) // gone by then if all went well
	_, err = f.WriteString(secret)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	return nil
}

func (a *app) logout() *cli.Command {
	return aclCommand("logout", "remove the token of a login", "rollcall logout -token-file=token", catalogFlags(), func(_ *cli.Command, cl *consul.Client) error {
		_, err := cl.ACL().Logout(nil)
		return explain("logging out", err)
	})
}
