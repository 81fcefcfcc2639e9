package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/server/internal/watchplan"
)

func (a *app) watch() *cli.Command {
	return &cli.Command{
		Name: "watch", Usage: "print what is asked for, or run a command whenever it changes",
		ArgsUsage: "[COMMAND…]", UsageText: "rollcall watch -type=service -service=web\nrollcall watch -type=service -service=web ./reload.sh",
		Description: "Without a command it prints once. A command is run at each change, with the answer on its input and CONSUL_INDEX set.",
		Flags: catalogFlags(
			&cli.StringFlag{Name: "type", Usage: "key, keyprefix, services, nodes, service, checks or event (needed)"},
			&cli.StringFlag{Name: "key", Usage: "of type key"},
			&cli.StringFlag{Name: "prefix", Usage: "of type keyprefix"},
			&cli.StringFlag{Name: "service", Usage: "of types service and checks"},
			&cli.StringSliceFlag{Name: "tag", Usage: "of type service; may be repeated"},
			&cli.StringFlag{Name: "passingonly", Usage: "of type service: true for healthy instances only"},
			&cli.StringFlag{Name: "state", Usage: "of type checks"},
			&cli.StringFlag{Name: "name", Usage: "of type event"},
			&cli.StringFlag{Name: "filter", Usage: "an expression"},
			&cli.BoolFlag{Name: "shell", Usage: "give the command to a shell", Value: true},
		),
		Action: func(ctx context.Context, c *cli.Command) error {
			q := watchplan.Query{
				Type: c.String("type"), Datacenter: c.String("datacenter"), Filter: c.String("filter"), Stale: c.Bool("stale"),
				Key: c.String("key"), Prefix: c.String("prefix"), Service: c.String("service"), Tags: c.StringSlice("tag"),
				State: c.String("state"), Name: c.String("name"),
			}
			switch v := c.String("passingonly"); v {
			case "", "false":
			case "true":
				q.PassingOnly = true
			default:
				return misused(c, "-passingonly is true or false, not %q", v)
			}
			if err := q.Validate(); err != nil {
				return misused(c, "%v", err)
			}
			cfg := configured(c)
			q.Token = cfg.Token
			if cfg.TokenFile != "" { // as the API's client does
				b, err := os.ReadFile(cfg.TokenFile)
				if err != nil {
					return fmt.Errorf("read the token: %w", err)
				}
				q.Token = strings.TrimSpace(string(b))
			}
			do, err := newDoer(cfg)
			if err != nil {
				return err
			}
			ctx, stop := interruptible(ctx)
			defer stop()
			args := c.Args().Slice()
			if len(args) == 0 {
				answer, _, err := watchplan.Once(ctx, do, q, 0)
				if refusal := (*watchplan.Refusal)(nil); errors.As(err, &refusal) {
					err = consul.StatusError{Code: refusal.Code, Body: refusal.Text}
				}
				if err != nil {
					return explain("querying", err)
				}
				var out bytes.Buffer
				if err := json.Indent(&out, answer, "", "    "); err != nil {
					return err
				}
				a.printf("%s\n", strings.TrimSpace(out.String()))
				return nil
			}
			log := slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			run := func(index uint64, answer []byte) error {
				cmd := child(args, c.Bool("shell"))
				cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(answer), a.Stdout, a.Stderr
				cmd.Env = append(cmd.Environ(), fmt.Sprintf("CONSUL_INDEX=%d", index))
				if err := cmd.Start(); err != nil {
					return err
				}
				code, err := await(cmd, ctx.Done())
				if err == nil && code != 0 {
					err = fmt.Errorf("exit status %d", code)
				}
				return err
			}
			var failed error
			watchplan.Watch(ctx, do, q, func(_ context.Context, index uint64, answer []byte) error {
				if err := run(index, answer); err != nil && ctx.Err() == nil {
					failed = fmt.Errorf("Error executing handler: %w", err)
					stop()
				}
				return nil
			}, log)
			return failed
		},
	}
}

// doer sends the requests of a watch to the agent.
type doer struct {
	client               *http.Client
	scheme, host, prefix string
	auth                 *consul.HttpBasicAuth
}

func newDoer(cfg *consul.Config) (*doer, error) {
	d := &doer{scheme: cfg.Scheme, host: cfg.Address, auth: cfg.HttpAuth}
	transport := cfg.Transport
	if transport == nil {
		transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	if scheme, rest, ok := strings.Cut(cfg.Address, "://"); ok {
		d.scheme, d.host = scheme, rest
	}
	if d.scheme == "unix" {
		socket := d.host
		d.scheme, d.host = "http", "agent"
		transport = transport.Clone()
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	if host, prefix, ok := strings.Cut(d.host, "/"); ok {
		d.host, d.prefix = host, "/"+strings.TrimSuffix(prefix, "/")
	}
	client, err := consul.NewHttpClient(transport, cfg.TLSConfig)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	d.client = client
	return d, nil
}

// Do fills in where the agent is, and what a proxy before it wants.
func (d *doer) Do(r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host = d.scheme, d.host
	r.URL.Path = d.prefix + r.URL.Path
	if r.URL.RawPath != "" {
		r.URL.RawPath = d.prefix + r.URL.RawPath
	}
	r.Host = ""
	if d.auth != nil {
		r.SetBasicAuth(d.auth.Username, d.auth.Password)
	}
	return d.client.Do(r)
}
