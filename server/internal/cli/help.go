package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// agentFlags is the category of the flags that say where the agent is.
const agentFlags = "agent"

func init() {
	// the library has no other way to give help a form
	cli.HelpPrinter = func(w io.Writer, _ string, data any) { help(w, data.(*cli.Command)) }
}

// help teaches a command: what it is for, how it is called, an example, its flags.
func help(w io.Writer, c *cli.Command) {
	fmt.Fprintf(w, "%s: %s\n\nUsage: %s%s\n", c.FullName(), c.Usage, c.FullName(), synopsis(c))
	if c.Description != "" {
		fmt.Fprintf(w, "\n%s\n", c.Description)
	}
	if c.UsageText != "" {
		fmt.Fprint(w, "\nExample:\n")
		for line := range strings.Lines(c.UsageText) {
			fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
		}
	}
	if len(c.Commands) > 0 {
		fmt.Fprint(w, "\nCommands:\n")
		width := 0
		for _, sub := range c.Commands {
			width = max(width, len(strings.Join(sub.Names(), ", ")))
		}
		for _, sub := range c.Commands {
			fmt.Fprintf(w, "  %-*s  %s\n", width, strings.Join(sub.Names(), ", "), sub.Usage)
		}
	}
	own, agent := flagsOf(c)
	showFlags(w, "Flags", own)
	showFlags(w, "The agent to ask", agent)
}

func showFlags(w io.Writer, title string, list []flagHelp) {
	if len(list) == 0 {
		return
	}
	width := 0
	for _, f := range list {
		width = max(width, len(f.form))
	}
	fmt.Fprintf(w, "\n%s:\n", title)
	for _, f := range list {
		fmt.Fprintf(w, "  %-*s  %s\n", min(width, 34), f.form, f.usage)
	}
}

// synopsis is what follows a command's name.
func synopsis(c *cli.Command) string {
	out := ""
	if own, agent := flagsOf(c); len(own)+len(agent) > 0 {
		out += " [flags]"
	}
	if len(c.Commands) > 0 {
		out += " COMMAND"
	}
	if c.ArgsUsage != "" {
		out += " " + c.ArgsUsage
	}
	return out
}

// flagHelp is a flag as help and docs/cli.md show it.
type flagHelp struct {
	name  string
	value string // what follows =, empty for switches
	form  string // -name=VALUE
	usage string // with its default and environment
}

// flagsOf gives a command's own visible flags, and those that say which agent is asked.
func flagsOf(c *cli.Command) (own, agent []flagHelp) {
	for _, f := range c.Flags {
		d, ok := f.(cli.DocGenerationFlag)
		if v, visible := f.(cli.VisibleFlag); !ok || visible && !v.IsVisible() || f.Names()[0] == "help" {
			continue
		}
		h := flagHelp{name: f.Names()[0], usage: d.GetUsage()}
		h.form = "-" + h.name
		if d.TakesValue() {
			h.value = map[string]string{"int": "N", "uint": "N", "duration": "DURATION"}[d.TypeName()]
			if h.value == "" {
				h.value = "VALUE"
			}
			h.form += "=" + h.value
		}
		if text := strings.Trim(d.GetValue(), `"`); text != "" && text != "false" && text != "0" && text != "0s" && text != "[]" {
			h.usage += " (default " + text + ")"
		}
		if env := d.GetEnvVars(); len(env) > 0 {
			h.usage += " [" + env[0] + "]"
		}
		if k, ok := f.(cli.CategorizableFlag); ok && k.GetCategory() == agentFlags {
			agent = append(agent, h)
		} else {
			own = append(own, h)
		}
	}
	byName := func(x, y flagHelp) int { return strings.Compare(x.name, y.name) }
	slices.SortFunc(own, byName)
	slices.SortFunc(agent, byName)
	return own, agent
}

func (a *app) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show what a command does, like -h", ArgsUsage: "[COMMAND…]", UsageText: "rollcall help kv put",
		Action: func(_ context.Context, c *cli.Command) error {
			// its own run: the context of this one names this command as the parent
			return a.root().Run(context.Background(), slices.Concat([]string{"rollcall"}, c.Args().Slice(), []string{"-h"}))
		},
	}
}
