package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
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
		Name: "agent", Usage: "run an agent: a server, or a client beside containers", SkipFlagParsing: true, Flags: agentFlagList(),
		Description: "Flags may be repeated; later ones win over earlier ones, and over files.",
		UsageText: "rollcall agent -dev\n" +
			"rollcall agent -server -bootstrap-expect=3 -data-dir=/var/lib/rollcall -retry-join=10.0.0.2\n" +
			"rollcall agent -data-dir=/var/lib/rollcall -retry-join=10.0.0.2 -client=\"127.0.0.1 172.17.0.1\"",
		Action: func(ctx context.Context, c *cli.Command) error {
			load, err := parseAgent(c.Args().Slice(), os.Getenv)
			if errors.Is(err, flag.ErrHelp) {
				help(a.out, c)
				return nil
			}
			if err != nil {
				return fmt.Errorf("rollcall agent: %w", err)
			}
			err = agent.Run(ctx, agent.Options{Load: load.config, Files: load.paths(), Stdout: a.Stdout, Stderr: a.Stderr})
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
	text string         // a fragment
	name string         // where the fragment came from
	pair *shared.Source // one flag
}

// read gives the parsed files of a source.
func (s source) read(format string) ([]*shared.Source, error) {
	switch {
	case s.pair != nil:
		return []*shared.Source{s.pair}, nil
	case s.path != "":
		return shared.ReadPath(s.path, format)
	}
	one, err := shared.Parse(s.name, []byte(s.text), "")
	return []*shared.Source{one}, err
}

// loader loads the configuration of one command line, now and at each reload.
type loader struct {
	dev     bool
	format  string
	sources []source // files, then the environment, then flags: the later one wins
}

// config reads all sources and gives the configuration with its warnings.
func (l *loader) config() (*config.Config, []string, error) {
	var all []*shared.Source
	var errs []error
	for _, s := range l.sources {
		list, err := s.read(l.format)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, list...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	return config.Load(l.dev, all...)
}

// paths are the files and directories that were named.
func (l *loader) paths() []string {
	var out []string
	for _, s := range l.sources {
		if s.path != "" {
			out = append(out, s.path)
		}
	}
	return out
}

// parseAgent reads the flags, and the environment that Consul's container image knows.
func parseAgent(args []string, getenv func(string) string) (*loader, error) {
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	var files, pairs []source
	l := &loader{}
	fs.BoolVar(&l.dev, "dev", false, "")
	fs.StringVar(&l.format, "config-format", "", "")
	for _, name := range []string{"config-file", "config-dir"} {
		fs.Func(name, "", func(v string) error { files = append(files, source{path: v}); return nil })
	}
	fs.Func("hcl", "", func(v string) error { files = append(files, source{text: v, name: "-hcl"}); return nil })
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
	if l.format != "" && l.format != "hcl" && l.format != "json" {
		return nil, fmt.Errorf("-config-format %q: use hcl or json", l.format)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	l.sources = slices.Concat(files, environment(getenv, given), pairs)
	return l, nil
}

// environment gives what the variables of Consul's container image say. Flags win.
func environment(getenv func(string) string, given map[string]bool) []source {
	var out []source
	if text := getenv("CONSUL_LOCAL_CONFIG"); text != "" {
		out = append(out, source{text: text, name: "CONSUL_LOCAL_CONFIG"})
	}
	if name := getenv("CONSUL_BIND_INTERFACE"); name != "" && !given["bind"] && !given["bind-interface"] {
		out = append(out, source{pair: shared.Pair("CONSUL_BIND_INTERFACE", "bind_interface", name)})
	}
	if name := getenv("CONSUL_CLIENT_INTERFACE"); name != "" {
		out = append(out, source{pair: shared.Pair("CONSUL_CLIENT_INTERFACE", "client_addr", fmt.Sprintf("{{ GetInterfaceIP %q }}", name))})
	}
	return out
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
	if s := likely(strings.TrimLeft(name, "-"), cli.SuggestFlag(flags, strings.TrimLeft(name, "-"), true)); s != "" {
		hint = " (did you mean -" + s + "?)"
	}
	return fmt.Errorf("unknown flag -%s%s: `rollcall agent -h` lists them", strings.TrimLeft(name, "-"), hint)
}

// agentFlagList are the flags of an agent as help shows them; parseAgent reads them.
func agentFlagList() []cli.Flag {
	out := []cli.Flag{
		&cli.BoolFlag{Name: "dev", Usage: "a server in memory on loopback, with the UI"},
		&cli.StringFlag{Name: "config-file", Usage: "configuration in HCL or JSON; may be repeated"},
		&cli.StringFlag{Name: "config-dir", Usage: "every *.hcl and *.json of a directory, by name; may be repeated"},
		&cli.StringFlag{Name: "config-format", Usage: "hcl or json, for files whose name does not tell"},
		&cli.StringFlag{Name: "hcl", Usage: "a piece of configuration"},
	}
	for _, f := range config.Flags {
		switch {
		case f.Usage == "":
		case f.Bool:
			out = append(out, &cli.BoolFlag{Name: f.Name, Usage: f.Usage})
		default:
			out = append(out, &cli.StringFlag{Name: f.Name, Usage: f.Usage})
		}
	}
	return out
}

func (a *app) validate() *cli.Command {
	check := func(_ context.Context, c *cli.Command) error {
		if c.Args().Len() == 0 {
			return misused(c, "name the files or directories to check")
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
		load, err := parseAgent(args, func(string) string { return "" })
		if err == nil {
			_, _, err = load.config()
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
		Name: "validate", Aliases: []string{"configtest"}, Usage: "check configuration files", ArgsUsage: "FILE…", UsageText: "rollcall validate server.hcl",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config-format", Usage: "hcl or json, for files whose name does not tell"},
			&cli.BoolFlag{Name: "quiet", Usage: "say nothing where all is well"},
		},
		Action: check,
	}
}
