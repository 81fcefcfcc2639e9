package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	shared "github.com/rollcall/rollcall/internal/config"
	"github.com/rollcall/rollcall/server/internal/agent"
	"github.com/rollcall/rollcall/server/internal/config"
)

// agentCommand runs an agent. Its flags are parsed by the standard library, in the order
// they stand in, since later ones win.
func (a *app) agentCommand() *cli.Command {
	return &cli.Command{
		Name: "agent", Usage: "run an agent: a server, or a client beside containers", SkipFlagParsing: true, HideHelp: true,
		Action: func(ctx context.Context, c *cli.Command) error {
			load, err := parseAgent(c.Args().Slice())
			if errors.Is(err, flag.ErrHelp) {
				a.agentHelp()
				return nil
			}
			if err != nil {
				return fmt.Errorf("rollcall agent: %w", err)
			}
			err = agent.Run(ctx, agent.Options{Load: load, Stdout: a.Stdout, Stderr: a.Stderr})
			if errors.Is(err, agent.ErrStopped) {
				return &exit{code: 1}
			}
			if err != nil {
				return fmt.Errorf("rollcall agent: %w", oneLine(err))
			}
			return nil
		},
	}
}

// oneLine joins the faults of a configuration, for they come a line each.
func oneLine(err error) error {
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// source is where a part of the configuration comes from, in the order given.
type source struct {
	path string         // a file or directory, read at each load
	text string         // an -hcl fragment
	pair *shared.Source // one flag
}

// parseAgent reads the flags and gives what loads the configuration, now and at each
// reload. Flags win over files.
func parseAgent(args []string) (func() (*config.Config, []string, error), error) {
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	var files, pairs []source
	dev, format := false, ""
	fs.BoolVar(&dev, "dev", false, "")
	fs.StringVar(&format, "config-format", "", "")
	for _, name := range []string{"config-file", "config-dir"} {
		fs.Func(name, "", func(v string) error { files = append(files, source{path: v}); return nil })
	}
	fs.Func("hcl", "", func(v string) error { files = append(files, source{text: v}); return nil })
	for _, f := range config.Flags {
		set := func(v string) error { pairs = append(pairs, source{pair: f.Source(v)}); return nil }
		if f.Bool {
			fs.BoolFunc(f.Name, "", set)
		} else {
			fs.Func(f.Name, "", set)
		}
	}
	if err := fs.Parse(args); err != nil {
		return nil, flagError(fs, err)
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag; flags begin with a dash, values follow =", fs.Arg(0))
	}
	if format != "" && format != "hcl" && format != "json" {
		return nil, fmt.Errorf("-config-format %q: use hcl or json", format)
	}
	return func() (*config.Config, []string, error) {
		var sources []*shared.Source
		var errs []error
		for _, s := range files {
			var list []*shared.Source
			var err error
			if s.path != "" {
				list, err = shared.ReadPath(s.path, format)
			} else {
				var one *shared.Source
				one, err = shared.Parse("-hcl", []byte(s.text), "hcl")
				list = []*shared.Source{one}
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			sources = append(sources, list...)
		}
		if err := errors.Join(errs...); err != nil {
			return nil, nil, err
		}
		for _, s := range pairs {
			sources = append(sources, s.pair)
		}
		return config.Load(dev, sources...)
	}, nil
}

// flagError says what is wrong with a flag, and which one may have been meant.
func flagError(fs *flag.FlagSet, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err
	}
	var flags []cli.Flag
	fs.VisitAll(func(f *flag.Flag) { flags = append(flags, &cli.StringFlag{Name: f.Name}) })
	hint := ""
	if s := strings.TrimLeft(cli.SuggestFlag(flags, strings.TrimLeft(name, "-"), true), "-"); s != "" {
		hint = " (did you mean -" + s + "?)"
	}
	return fmt.Errorf("unknown flag -%s%s: `rollcall agent -h` lists them", strings.TrimLeft(name, "-"), hint)
}

func (a *app) agentHelp() {
	a.printf(`rollcall agent - run an agent: a server (-server), or a client beside containers

  rollcall agent -dev
        a server in memory on loopback, to try things
  rollcall agent -server -bootstrap-expect=3 -data-dir=/var/lib/rollcall -retry-join=10.0.0.2
        one of three servers
  rollcall agent -data-dir=/var/lib/rollcall -retry-join=10.0.0.2 -client="127.0.0.1 172.17.0.1"
        a client on a Docker host

Flags (one dash or two; later ones win over earlier ones, and over files):
  -dev                             a server in memory on loopback, with the UI
  -config-file FILE                configuration in HCL or JSON; repeat for more
  -config-dir DIR                  every *.hcl and *.json of a directory, by name
  -config-format FORMAT            hcl or json, for files whose name does not tell
  -hcl TEXT                        a piece of configuration
`)
	for _, f := range config.Flags {
		name := "-" + f.Name
		if !f.Bool {
			name += " VALUE"
		}
		a.printf("  %-32s %s\n", name, f.Usage)
	}
}

func (a *app) validate() *cli.Command {
	check := func(_ context.Context, c *cli.Command) error {
		if c.Args().Len() == 0 {
			return errors.New("rollcall validate: name the files or directories to check")
		}
		var args []string
		for _, p := range c.Args().Slice() {
			args = append(args, "-config-file="+p)
		}
		if f := c.String("config-format"); f != "" {
			args = append(args, "-config-format="+f)
		}
		// what a complete configuration needs and files often leave to flags
		args = append(args, "-hcl", `data_dir = "unset"`)
		load, err := parseAgent(args)
		if err == nil {
			_, _, err = load()
		}
		if err != nil {
			return &exit{1, "Config validation failed: " + oneLine(err).Error()}
		}
		if !c.Bool("quiet") {
			a.printf("Configuration is valid!\n")
		}
		return nil
	}
	return &cli.Command{
		Name: "validate", Aliases: []string{"configtest"}, Usage: "check configuration files", UsageText: "rollcall validate /etc/rollcall.d",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config-format", Usage: "hcl or json, for files whose name does not tell"},
			&cli.BoolFlag{Name: "quiet", Usage: "say nothing where all is well"},
		},
		Action: check,
	}
}
