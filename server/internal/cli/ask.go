package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"
)

// asking is a command that needs a client of the agent and nothing else.
func asking(name, usage, args, example string, flags []cli.Flag, do func(ctx context.Context, c *cli.Command, cl *consul.Client) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: args, UsageText: example, Flags: flags,
		Action: func(ctx context.Context, c *cli.Command) error {
			cl, err := client(c)
			if err != nil {
				return err
			}
			return do(ctx, c, cl)
		},
	}
}

// described adds what a user of a command has to know beside its flags.
func described(text string, c *cli.Command) *cli.Command {
	c.Description = text
	return c
}

// misused says what is wrong with a command line.
func misused(c *cli.Command, format string, args ...any) error {
	hint := ""
	for _, arg := range c.Args().Tail() {
		if name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); name != arg && name != "" && slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) {
			hint = " (flags stand before arguments)"
		}
	}
	return fmt.Errorf("%s: %s%s: `%s -h` shows how", c.FullName(), fmt.Sprintf(format, args...), hint, c.FullName())
}

// one is the only argument.
func one(c *cli.Command, what string) (string, error) {
	if c.Args().Len() != 1 || c.Args().First() == "" {
		return "", misused(c, "name one %s", what)
	}
	return c.Args().First(), nil
}

// replaceable refuses a path whose file must not be replaced by another: a directory, a
// device, a pipe.
func replaceable(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	return nil
}

// terminal reports whether f is one, so that progress and colours reach people only.
func terminal(f any) bool {
	_, ok := columns(f)
	return ok
}

// columns gives how wide a terminal is; one that does not say has 80.
func columns(f any) (int, bool) {
	file, ok := f.(*os.File)
	if !ok {
		return 0, false
	}
	if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err != nil {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80, true
	}
	return int(size.Col), true
}
