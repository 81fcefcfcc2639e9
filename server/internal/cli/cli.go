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
	"slices"
	"strings"
	"syscall"

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
	out *output // Stdout, for what this program prints itself
}

// output notes when what is printed cannot be written: a full disk must not look like
// success.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
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
	a := &app{deps, &output{Writer: deps.Stdout}}
	if line, ok := os.LookupEnv(lineVariable); ok { // a shell asks what could follow
		a.complete(line)
		return 0
	}
	err := a.root().Run(ctx, args)
	switch {
	case errors.Is(a.out.err, syscall.EPIPE):
		return 1 // nobody reads any more
	case a.out.err != nil:
		err = fmt.Errorf("Error writing the output: %w", a.out.err)
	case err == nil:
		return 0
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

// left are the commands of Consul that belong to what Rollcall leaves out.
var left = []string{"connect", "intention", "config", "peering", "namespace", "partition", "license", "resource", "troubleshoot"}

func (a *app) root() *cli.Command {
	root := &cli.Command{
		Name:  "rollcall",
		Usage: "who is here, and is it well: service discovery that speaks Consul's interfaces",
		Description: "Start an agent with `rollcall agent`; every other command asks a running one.\n" +
			"The agent is found at -http-addr or CONSUL_HTTP_ADDR, by default 127.0.0.1:8500.",
		Reader:         a.Stdin,
		Writer:         a.out,
		ErrWriter:      a.Stderr,
		HideVersion:    true,
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version", Local: true},
			&cli.BoolFlag{Name: "autocomplete-install", Usage: "let the shells of this user complete command lines", Local: true},
			&cli.BoolFlag{Name: "autocomplete-uninstall", Usage: "take that back", Local: true},
		},
		Commands: []*cli.Command{
			a.agentCommand(), a.members(), a.info(), a.join(), a.leave(), a.forceLeave(), a.reload(), a.kv(), a.catalog(),
			a.services(), a.operator(), a.acl(), a.login(), a.logout(), a.maint(), a.keygen(), a.validate(), a.version(),
			a.snapshot(), a.event(), a.monitor(), a.rtt(), a.keyring(), a.lock(), a.watch(), a.purge(), a.doctor(), a.top(), a.debug(), a.tls(), a.exec(),
			a.completion(), a.helpCommand(),
		},
		Action: func(_ context.Context, c *cli.Command) error {
			name := c.Args().First()
			switch {
			case c.Bool("version"):
				return a.printVersion("pretty")
			case c.Bool("autocomplete-install"):
				return a.install()
			case c.Bool("autocomplete-uninstall"):
				return a.uninstall()
			case slices.Contains(left, name):
				return &exit{exitUnknown, fmt.Sprintf("%q is about the service mesh or Consul Enterprise, which Rollcall leaves out. `rollcall -h` lists what there is.", name)}
			case name != "":
				hint := ""
				if s := likely(name, cli.SuggestCommand(c.Commands, name)); s != "" {
					hint = fmt.Sprintf(" Did you mean %q?", s)
				}
				return &exit{exitUnknown, fmt.Sprintf("Unknown command %q.%s `rollcall -h` lists them.", name, hint)}
			}
			help(a.Stderr, c)
			return &exit{code: exitUnknown}
		},
	}
	a.prepare(root)
	return root
}

// likely gives what a misspelt name may mean, or nothing: the library always finds some.
func likely(name, found string) string {
	if found = strings.TrimLeft(found, "-"); len(name) < 4 || found == "" || name[0] != found[0] {
		return ""
	}
	return found
}

// prepare gives every command what all have: help with an example, usage errors as one
// line, flags that end at the first argument, groups that refuse a subcommand they do not
// have, and commands that refuse arguments they do not take (an empty ArgsUsage).
func (a *app) prepare(c *cli.Command) {
	first := 1
	c.HideHelpCommand, c.DisableSliceFlagSeparator, c.StopOnNthArg = true, true, &first
	c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error { return usage(c, err) }
	do := c.Action
	c.Action = func(ctx context.Context, c *cli.Command) error {
		switch {
		case do == nil && c.Args().Present():
			return &exit{1, fmt.Sprintf("Unknown command %q. `%s -h` lists them.", c.FullName()+" "+c.Args().First(), c.FullName())}
		case do == nil:
			help(a.Stderr, c)
			return &exit{code: 1}
		case c.ArgsUsage == "" && len(c.Commands) == 0 && !c.SkipFlagParsing && c.Args().Present():
			return misused(c, "%q is too much: it takes no arguments", c.Args().First())
		case !slices.Contains([]string{"", "pretty", "json"}, c.String("format")):
			return misused(c, "-format=%s: give pretty or json", c.String("format"))
		}
		err := do(ctx, c)
		var d denied
		if errors.As(err, &d) {
			err = fmt.Errorf("%w: %s", err, whose(c))
		}
		return err
	}
	for _, sub := range c.Commands {
		a.prepare(sub)
	}
}

// usage makes one line of what is wrong with the flags.
func usage(c *cli.Command, err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		name = strings.TrimLeft(name, "-")
		text = "unknown flag -" + name
		if s := likely(name, cli.SuggestFlag(c.Flags, name, true)); s != "" {
			text += " (did you mean -" + s + "?)"
		}
	}
	return fmt.Errorf("%s: %s: `%s -h` lists the flags", c.FullName(), text, c.FullName())
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

func (a *app) version() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version", UsageText: "rollcall version -format=json",
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
	a.printf("Consul v%s\nThese interfaces are spoken by %s\n", buildinfo.Compat, buildinfo.String("Rollcall"))
	return nil
}
