package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/server/internal/certificate"
)

const day = 24 * time.Hour

func (a *app) tls() *cli.Command {
	domain := &cli.StringFlag{Name: "domain", Usage: "domain of the agents", Value: "consul"}
	return &cli.Command{
		Name: "tls", Usage: "make an authority and certificates for the agents",
		Commands: []*cli.Command{
			{Name: "ca", Usage: "the authority", Commands: []*cli.Command{{
				Name: "create", Usage: "make an authority in this directory", UsageText: "rollcall tls ca create -days=1825",
				Flags: []cli.Flag{
					domain, &cli.IntFlag{Name: "days", Usage: "how long it is valid", Value: 1825},
					&cli.BoolFlag{Name: "name-constraint", Usage: "it may sign names below the domain only"},
					&cli.StringSliceFlag{Name: "additional-name-constraint", Usage: "with -name-constraint: another domain; may be repeated"},
					&cli.StringFlag{Name: "common-name", Usage: "of the authority"},
				},
				Action: a.caCreate,
			}}},
			{Name: "cert", Usage: "the agents' certificates", Commands: []*cli.Command{{
				Name: "create", Usage: "make a certificate in this directory", UsageText: "rollcall tls cert create -server -dc=dc1",
				Flags: []cli.Flag{
					domain, &cli.StringFlag{Name: "ca", Usage: "the authority's certificate (default <domain>-agent-ca.pem)"},
					&cli.StringFlag{Name: "key", Usage: "the authority's key (default <domain>-agent-ca-key.pem)"},
					&cli.IntFlag{Name: "days", Usage: "how long it is valid", Value: 365},
					&cli.StringFlag{Name: "dc", Usage: "datacenter", Value: "dc1"},
					&cli.BoolFlag{Name: "server", Usage: "for a server"}, &cli.BoolFlag{Name: "client", Usage: "for a client agent"},
					&cli.BoolFlag{Name: "cli", Usage: "for the command line"},
					&cli.StringFlag{Name: "node", Usage: "with -server: also valid for this node's own name"},
					&cli.StringSliceFlag{Name: "additional-dnsname", Usage: "another name; may be repeated"},
					&cli.StringSliceFlag{Name: "additional-ipaddress", Usage: "another address; may be repeated"},
				},
				Action: a.certCreate,
			}}},
		},
	}
}

func (a *app) caCreate(_ context.Context, c *cli.Command) error {
	domain := c.String("domain")
	cert, key := domain+"-agent-ca.pem", domain+"-agent-ca-key.pem"
	if c.Int("days") < 1 {
		return misused(c, "-days is 1 or more")
	}
	pair, err := certificate.NewCA(certificate.CA{
		Domain: domain, Valid: time.Duration(c.Int("days")) * day, CommonName: c.String("common-name"),
		Constrain: c.Bool("name-constraint"), Additional: c.StringSlice("additional-name-constraint"),
	})
	if err != nil {
		return fmt.Errorf("Error creating CA: %w", err)
	}
	return a.keep(pair, cert, key)
}

// keep writes a pair, the key for its owner only, and replaces nothing.
func (a *app) keep(pair *certificate.Pair, cert, key string) error {
	for _, f := range []struct {
		name string
		body []byte
		mode os.FileMode
	}{{cert, pair.Cert, 0o644}, {key, pair.Key, 0o600}} {
		file, err := os.OpenFile(f.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.mode)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already: move it away, or work in another directory", f.name)
		}
		if err != nil {
			return err
		}
		_, err = file.Write(f.body)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		a.printf("==> Saved %s\n", f.name)
	}
	return nil
}

func (a *app) certCreate(_ context.Context, c *cli.Command) error {
	server, client, line := c.Bool("server"), c.Bool("client"), c.Bool("cli")
	kinds := 0
	for _, on := range []bool{server, client, line} {
		if on {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return misused(c, "provide one of -server, -client and -cli")
	case c.String("node") != "" && !server:
		return misused(c, "-node needs -server")
	case c.Int("days") < 1:
		return misused(c, "-days is 1 or more")
	}
	domain, dc := c.String("domain"), c.String("dc")
	leaf := certificate.Leaf{Valid: time.Duration(c.Int("days")) * day, Server: !line, Client: true}
	kind := "client"
	switch {
	case server:
		kind = "server"
		leaf.CommonName = fmt.Sprintf("server.%s.%s", dc, domain)
		leaf.DNS = []string{leaf.CommonName, "localhost"}
		leaf.IPs = []net.IP{net.IPv4(127, 0, 0, 1)}
		if node := c.String("node"); node != "" {
			leaf.DNS = append([]string{fmt.Sprintf("%s.server.%s.%s", node, dc, domain)}, leaf.DNS...)
		}
	case client:
		leaf.CommonName = fmt.Sprintf("client.%s.%s", dc, domain)
		leaf.DNS = []string{leaf.CommonName, "localhost"}
		leaf.IPs = []net.IP{net.IPv4(127, 0, 0, 1)}
	default:
		kind = "cli"
		leaf.CommonName = fmt.Sprintf("cli.%s.%s", dc, domain)
		leaf.DNS = []string{leaf.CommonName, "localhost"}
	}
	leaf.DNS = append(leaf.DNS, c.StringSlice("additional-dnsname")...)
	for _, text := range c.StringSlice("additional-ipaddress") {
		ip := net.ParseIP(text)
		if ip == nil {
			return misused(c, "%q is no IP address", text)
		}
		leaf.IPs = append(leaf.IPs, ip)
	}
	caFile, keyFile := c.String("ca"), c.String("key")
	if caFile == "" {
		caFile = domain + "-agent-ca.pem"
	}
	if keyFile == "" {
		keyFile = domain + "-agent-ca-key.pem"
	}
	var ca certificate.Pair
	var err error
	if ca.Cert, err = os.ReadFile(caFile); err != nil {
		return fmt.Errorf("Error reading CA: %w: `rollcall tls ca create` makes one", err)
	}
	if ca.Key, err = os.ReadFile(keyFile); err != nil {
		return fmt.Errorf("Error reading CA key: %w", err)
	}
	if server {
		a.printf("==> WARNING: a server's certificate lets its bearer become a server and see all the state:\n    keep it, and the authority's key, on the servers only.\n")
	}
	a.printf("==> Using %s and %s\n", caFile, keyFile)
	pair, err := ca.Issue(leaf)
	if err != nil {
		return fmt.Errorf("Error creating certificate: %w", err)
	}
	for n := 0; ; n++ {
		base := fmt.Sprintf("%s-%s-%s-%d", dc, kind, domain, n)
		_, err1 := os.Lstat(base + ".pem")
		_, err2 := os.Lstat(base + "-key.pem")
		if errors.Is(err1, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist) {
			return a.keep(pair, base+".pem", base+"-key.pem")
		}
	}
}
