package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

// clientFlags are on every command that asks an agent.
func clientFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "http-addr", Usage: "address of the agent: host:port, http(s)://… or unix://… (default 127.0.0.1:8500)", Sources: cli.EnvVars("CONSUL_HTTP_ADDR")},
		&cli.StringFlag{Name: "token", Usage: "ACL token", Sources: cli.EnvVars("CONSUL_HTTP_TOKEN")},
		&cli.StringFlag{Name: "token-file", Usage: "file with the ACL token", Sources: cli.EnvVars("CONSUL_HTTP_TOKEN_FILE")},
		&cli.StringFlag{Name: "ca-file", Usage: "CA certificate for HTTPS", Sources: cli.EnvVars("CONSUL_CACERT")},
		&cli.StringFlag{Name: "ca-path", Usage: "directory of CA certificates for HTTPS", Sources: cli.EnvVars("CONSUL_CAPATH")},
		&cli.StringFlag{Name: "client-cert", Usage: "client certificate for HTTPS", Sources: cli.EnvVars("CONSUL_CLIENT_CERT")},
		&cli.StringFlag{Name: "client-key", Usage: "key of the client certificate", Sources: cli.EnvVars("CONSUL_CLIENT_KEY")},
		&cli.StringFlag{Name: "tls-server-name", Usage: "name that the certificate must bear", Sources: cli.EnvVars("CONSUL_TLS_SERVER_NAME")},
	)
}

// catalogFlags are on commands that the servers answer.
func catalogFlags(more ...cli.Flag) []cli.Flag {
	return clientFlags(append(more,
		&cli.StringFlag{Name: "datacenter", Usage: "datacenter to ask (default: the agent's)"},
		&cli.BoolFlag{Name: "stale", Usage: "let any server answer, also one that lags"},
	)...)
}

func format() cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "pretty or json", Value: "pretty"}
}

// client makes the API client that the flags describe.
func client(c *cli.Command) (*consul.Client, error) {
	cfg := consul.DefaultConfig() // reads CONSUL_* of what has no flag
	set := func(to *string, flag string) {
		if v := c.String(flag); v != "" {
			*to = v
		}
	}
	set(&cfg.Address, "http-addr")
	set(&cfg.Token, "token")
	set(&cfg.TokenFile, "token-file")
	set(&cfg.TLSConfig.CAFile, "ca-file")
	set(&cfg.TLSConfig.CAPath, "ca-path")
	set(&cfg.TLSConfig.CertFile, "client-cert")
	set(&cfg.TLSConfig.KeyFile, "client-key")
	set(&cfg.TLSConfig.Address, "tls-server-name")
	set(&cfg.Datacenter, "datacenter")
	cl, err := consul.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return cl, nil
}

func options(c *cli.Command) *consul.QueryOptions {
	return &consul.QueryOptions{AllowStale: c.Bool("stale")}
}

func writeOptions(*cli.Command) *consul.WriteOptions { return nil }

// explain adds the way out to an error of a request.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	var u *url.Error
	switch {
	case errors.As(err, &u) && errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &u) && errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("Error %s: no agent answers at %s: is one running there? -http-addr or CONSUL_HTTP_ADDR names another", what, host(u.URL))
	case errors.As(err, &u) && strings.Contains(err.Error(), "malformed HTTP response"):
		return fmt.Errorf("Error %s: %s does not speak HTTP: is that the HTTP port (8500)?", what, host(u.URL))
	}
	var s consul.StatusError
	if errors.As(err, &s) {
		hint := ""
		switch {
		case strings.Contains(s.Body, "No cluster leader"):
			hint = ": the servers have no leader now; `rollcall operator raft list-peers -stale` and `rollcall members` show who is there"
		case s.Code == 403:
			hint = ": the token (-token, CONSUL_HTTP_TOKEN) lacks the right"
		}
		return fmt.Errorf("Error %s: %s (status %d)%s", what, strings.TrimSpace(s.Body), s.Code, hint)
	}
	return fmt.Errorf("Error %s: %w", what, err)
}

func host(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Host != "" {
		return u.Host
	}
	return raw
}

// json prints a value, indented.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	return e.Encode(v)
}

// table prints rows with two spaces between columns, as wide as the widest cell; an
// empty cell is blank.
func (a *app) table(rows ...[]string) {
	var width []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(cell)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-len([]rune(cell))))
			}
		}
		a.printf("%s\n", strings.TrimRight(b.String(), " "))
	}
}
