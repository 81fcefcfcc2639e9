// Package cli is the command line: `rollcall agent` runs an agent in this process; every
// other command is a client of the HTTP API, with Consul's names, flags, columns and
// exit codes. Errors are one line that says what to do.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/internal/buildinfo"
)

// Exit codes beside 0 and 1.
const (
	exitUnknown = 127 // no such command
	exitNoMatch = 2   // members: nobody matches
)

// Deps are what the commands work with.
type Deps struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// app is one run of the command line.
type app struct {
	Deps
	code int
}

// exit ends the command with a code; an empty text says nothing.
type exit struct {
	code int
	text string
}

func (e *exit) Error() string { return e.text }

// Run carries out a command line, args[0] being the program's name, and gives the exit
// code.
func Run(ctx context.Context, deps Deps, args []string) int {
	a := &app{Deps: deps}
	err := a.root().Run(ctx, args)
	if err == nil {
		return a.code
	}
	var e *exit
	if errors.As(err, &e) {
		if e.text != "" {
			fmt.Fprintln(deps.Stderr, e.text)
		}
		return e.code
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(deps.Stderr, strings.TrimRight(line, "\n"))
	}
	return 1
}

// Main runs the process's own command line and exits.
func Main() {
	os.Exit(Run(context.Background(), Deps{os.Stdin, os.Stdout, os.Stderr}, os.Args))
}

func (a *app) root() *cli.Command {
	root := &cli.Command{
		Name:                      "rollcall",
		Usage:                     "who is here, and is it well: service discovery that speaks Consul's interfaces",
		Description:               "Start an agent with `rollcall agent`; every other command asks a running one.\nThe agent is found at -http-addr or CONSUL_HTTP_ADDR, by default 127.0.0.1:8500.",
		Reader:                    a.Stdin,
		Writer:                    a.Stdout,
		ErrWriter:                 a.Stderr,
		HideVersion:               true,
		EnableShellCompletion:     true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(context.Context, *cli.Command, error) {},
		Flags:                     []cli.Flag{&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version", Local: true}},
		Commands: []*cli.Command{
			a.agentCommand(), a.members(), a.info(), a.join(), a.leave(), a.forceLeave(), a.reload(), a.kv(), a.catalog(),
			a.services(), a.operator(), a.maint(), a.keygen(), a.validate(), a.version(),
		},
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Bool("version") {
				return a.printVersion("pretty")
			}
			if name := c.Args().First(); name != "" {
				hint := ""
				if s := cli.SuggestCommand(c.Commands, name); s != "" {
					hint = fmt.Sprintf(" Did you mean %q?", s)
				}
				return &exit{exitUnknown, fmt.Sprintf("Unknown command %q.%s `rollcall -h` lists them.", name, hint)}
			}
			cli.ShowRootCommandHelp(c)
			return &exit{code: exitUnknown}
		},
	}
	prepare(root)
	return root
}

// prepare gives every command what all have: usage errors as one line, and groups that
// refuse a subcommand they do not have.
func prepare(c *cli.Command) {
	c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error { return usage(c, err) }
	if c.Action == nil && len(c.Commands) > 0 {
		c.Action = func(_ context.Context, c *cli.Command) error {
			if name := c.Args().First(); name != "" {
				return &exit{exitUnknown, fmt.Sprintf("Unknown command %q. `rollcall %s -h` lists them.", c.FullName()+" "+name, c.Name)}
			}
			cli.ShowSubcommandHelp(c)
			return &exit{code: 1}
		}
	}
	for _, sub := range c.Commands {
		prepare(sub)
	}
}

// usage makes one line of what is wrong with the flags.
func usage(c *cli.Command, err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		name = strings.TrimLeft(name, "-")
		text = "unknown flag -" + name
		if s := strings.TrimLeft(cli.SuggestFlag(c.Flags, name, false), "-"); s != "" {
			text += " (did you mean -" + s + "?)"
		}
	}
	return fmt.Errorf("%s: %s: `%s -h` lists the flags", c.FullName(), text, c.FullName())
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.Stdout, format, args...) }

func (a *app) version() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version", UsageText: "rollcall version [-format=json]",
		Flags:  []cli.Flag{format()},
		Action: func(_ context.Context, c *cli.Command) error { return a.printVersion(c.String("format")) },
	}
}

func (a *app) printVersion(format string) error {
	if format == "json" {
		return a.json(map[string]string{
			"Version": buildinfo.Compat, "Revision": buildinfo.Revision, "Prerelease": "", "BuildDate": buildinfo.Date, "Rollcall": buildinfo.Version,
		})
	}
	a.printf("Consul v%s (the interfaces that are spoken)\n%s\n", buildinfo.Compat, buildinfo.String("Rollcall"))
	return nil
}
