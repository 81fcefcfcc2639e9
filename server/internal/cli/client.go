package cli

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

// clientFlags are on every command that asks an agent.
func clientFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "http-addr", Category: agentFlags, Usage: "address of the agent: host:port, http(s)://… or unix://… (default 127.0.0.1:8500)", Sources: cli.EnvVars("CONSUL_HTTP_ADDR")},
		&cli.StringFlag{Name: "token", Category: agentFlags, Usage: "ACL token", Sources: cli.EnvVars("CONSUL_HTTP_TOKEN")},
		&cli.StringFlag{Name: "token-file", Category: agentFlags, Usage: "file with the ACL token", Sources: cli.EnvVars("CONSUL_HTTP_TOKEN_FILE")},
		&cli.StringFlag{Name: "ca-file", Category: agentFlags, Usage: "CA certificate for HTTPS", Sources: cli.EnvVars("CONSUL_CACERT")},
		&cli.StringFlag{Name: "ca-path", Category: agentFlags, Usage: "directory of CA certificates for HTTPS", Sources: cli.EnvVars("CONSUL_CAPATH")},
		&cli.StringFlag{Name: "client-cert", Category: agentFlags, Usage: "client certificate for HTTPS", Sources: cli.EnvVars("CONSUL_CLIENT_CERT")},
		&cli.StringFlag{Name: "client-key", Category: agentFlags, Usage: "key of the client certificate", Sources: cli.EnvVars("CONSUL_CLIENT_KEY")},
		&cli.StringFlag{Name: "tls-server-name", Category: agentFlags, Usage: "name that the certificate must bear", Sources: cli.EnvVars("CONSUL_TLS_SERVER_NAME")},
	)
}

// catalogFlags are on commands that the servers answer.
func catalogFlags(more ...cli.Flag) []cli.Flag {
	return clientFlags(append(more,
		&cli.StringFlag{Name: "datacenter", Category: agentFlags, Usage: "datacenter to ask (default: the agent's)"},
		&cli.BoolFlag{Name: "stale", Category: agentFlags, Usage: "let any server answer, also one that lags"},
	)...)
}

// localFlags are on commands about the agent alone that Consul gives catalogFlags.
func localFlags(more ...cli.Flag) []cli.Flag {
	return clientFlags(append(more, &cli.StringFlag{Name: "datacenter", Hidden: true}, &cli.BoolFlag{Name: "stale", Hidden: true})...)
}

func format() cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "pretty or json", Value: "pretty"}
}

// client makes the API client that the flags describe.
func client(c *cli.Command) (*consul.Client, error) {
	return clientVia(c, func(t http.RoundTripper) http.RoundTripper { return patient{t, c.Root().ErrWriter} })
}

// clientVia is client with something around its transport; over a unix socket it has none.
func clientVia(c *cli.Command, around func(http.RoundTripper) http.RoundTripper) (*consul.Client, error) {
	cfg := configured(c)
	h, err := consul.NewHttpClient(cfg.Transport, cfg.TLSConfig)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	h.Transport = around(h.Transport)
	cfg.HttpClient = h
	cl, err := consul.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return cl, nil
}

// patient is a transport that tells a person when an answer is long in coming, as from a
// program that takes connections and is no agent. Questions that are meant to wait are not
// told of.
type patient struct {
	http.RoundTripper
	to io.Writer
}

const silence = 5 * time.Second

// RoundTrip implements http.RoundTripper.
func (t patient) RoundTrip(r *http.Request) (*http.Response, error) {
	if q := r.URL.Query(); !q.Has("index") && !q.Has("wait") {
		late := time.AfterFunc(silence, func() {
			fmt.Fprintf(t.to, "no answer from %s yet, still waiting; if that is no agent's HTTP port, Ctrl-C gives up\n", r.URL.Host)
		})
		defer late.Stop()
	}
	return t.RoundTripper.RoundTrip(r)
}

// configured is what the flags and the environment say about the agent.
func configured(c *cli.Command) *consul.Config {
	cfg := consul.DefaultConfig() // reads CONSUL_* of what has no flag
	set := func(to *string, flag string) {
		if v := c.String(flag); v != "" {
			*to = v
		}
	}
	set(&cfg.Address, "http-addr")
	cfg.Address = strings.TrimRight(cfg.Address, "/") // as browsers show it; no path before /v1
	set(&cfg.Token, "token")
	set(&cfg.TokenFile, "token-file")
	set(&cfg.TLSConfig.CAFile, "ca-file")
	set(&cfg.TLSConfig.CAPath, "ca-path")
	set(&cfg.TLSConfig.CertFile, "client-cert")
	set(&cfg.TLSConfig.KeyFile, "client-key")
	set(&cfg.TLSConfig.Address, "tls-server-name")
	set(&cfg.Datacenter, "datacenter")
	return cfg
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
	if errors.As(err, &u) {
		return fmt.Errorf("Error %s: %s", what, unreached(host(u.URL), u.Err))
	}
	var s consul.StatusError
	if !errors.As(err, &s) {
		return fmt.Errorf("Error %s: %w", what, err)
	}
	hint := ""
	refused := s.Code == http.StatusForbidden
	switch {
	case strings.Contains(s.Body, "No cluster leader"):
		hint = ": the servers have no leader now; `rollcall operator raft list-peers -stale` and `rollcall members` show who is there"
	case strings.Contains(s.Body, "No path to datacenter"):
		hint = ": `rollcall catalog datacenters` lists those that its servers know"
	case strings.Contains(s.Body, "HTTP request to an HTTPS server"):
		hint = ": write https:// before the address, or CONSUL_HTTP_SSL=true"
	case refused && strings.Contains(s.Body, "reset index"):
		hint, refused = ": for another first token write the reset index into acl-bootstrap-reset in the leader's data_dir, then try again", false
	case refused && strings.Contains(s.Body, "ACL not found"):
		hint = ": there is no such token, or its time is over"
	}
	out := fmt.Errorf("Error %s: %s (status %d)%s", what, strings.TrimSpace(s.Body), s.Code, hint)
	if refused {
		return denied{out}
	}
	return out
}

// denied is an error that the request's token is the reason of.
type denied struct{ error }

// whose says where the token of a refused request came from.
func whose(c *cli.Command) string {
	switch token := c.String("token"); {
	case c.String("token-file") != "": // it wins
		return "the token is that of " + c.String("token-file")
	case token != "" && token == os.Getenv("CONSUL_HTTP_TOKEN"):
		return "the token is CONSUL_HTTP_TOKEN's"
	case token != "":
		return "the token is -token's"
	}
	return "no token was given (-token, CONSUL_HTTP_TOKEN)"
}

// unreached says why nobody answers at an address, and what to do.
func unreached(addr string, err error) string {
	text := err.Error()
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("no agent answers at %s: is one running there? -http-addr or CONSUL_HTTP_ADDR names another", addr)
	case strings.Contains(text, "HTTP response to HTTPS client"):
		return fmt.Sprintf("%s speaks HTTP, not HTTPS: write http:// before the address, and leave CONSUL_HTTP_SSL unset", addr)
	case errors.As(err, &unknown):
		return fmt.Sprintf("%s has a certificate of an authority that is not known here: name it with -ca-file or CONSUL_CACERT", addr)
	case errors.As(err, &name):
		return fmt.Sprintf("the certificate of %s is for other names (%v): -tls-server-name says which one to expect", addr, name)
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"):
		return fmt.Sprintf("%s wants a certificate of its clients: give -client-cert and -client-key", addr)
	case strings.Contains(text, "readLoopPeekFailLocked"): // net/http's word for an answer before the question
		return fmt.Sprintf("%s does not speak HTTP (it speaks first): is that the HTTP port (8500)?", addr)
	case strings.Contains(text, "malformed HTTP"), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("%s does not speak HTTP (%v): is that the HTTP port (8500)?", addr, err)
	}
	return fmt.Sprintf("no answer from %s (%v): -http-addr or CONSUL_HTTP_ADDR names another agent", addr, err)
}

func host(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Host != "" {
		return u.Host
	}
	return raw
}

// json prints a value, indented.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.out)
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
