package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"
)

// Bash's `complete -C` sets these to the line so far and to where the cursor stands in
// it; the other shells are told to do the same.
const (
	lineVariable  = "COMP_LINE"
	pointVariable = "COMP_POINT"
)

// complete prints what could stand at the cursor, a word a line. Nothing stands for the
// shell's own completion, of file names.
func (a *app) complete(line string) {
	if at, err := strconv.Atoi(os.Getenv(pointVariable)); err == nil && at >= 0 && at < len(line) {
		line = line[:at]
	}
	for _, word := range candidates(a.root(), line) {
		a.printf("%s\n", word)
	}
}

// candidates are the commands or flags that can stand last in a line.
func candidates(c *cli.Command, line string) (out []string) {
	words := strings.Fields(line)
	if len(words) < 2 || strings.HasSuffix(line, " ") {
		words = append(words, "")
	}
	last := words[len(words)-1]
	for i := 1; i < len(words)-1; i++ {
		word := words[i]
		switch sub := c.Command(word); {
		case sub != nil:
			c = sub
		case !strings.HasPrefix(word, "-"):
			return nil // an argument: no flags follow
		case !strings.Contains(word, "=") && takesValue(c, strings.TrimLeft(word, "-")):
			if i++; i == len(words)-1 {
				return nil // the value is what is written now
			}
		}
	}
	if dashes := last[:len(last)-len(strings.TrimLeft(last, "-"))]; dashes != "" {
		own, agent := flagsOf(c)
		for _, f := range append(own, agent...) {
			if word := dashes + f.name; strings.HasPrefix(word, last) {
				out = append(out, word)
			}
		}
		return out
	}
	for _, sub := range c.Commands {
		if strings.HasPrefix(sub.Name, last) && !sub.Hidden {
			out = append(out, sub.Name)
		}
	}
	return out
}

func takesValue(c *cli.Command, name string) bool {
	for _, f := range c.Flags {
		for _, n := range f.Names() {
			if d, ok := f.(cli.DocGenerationFlag); ok && n == name {
				return d.TakesValue()
			}
		}
	}
	return false
}

// shells are how each shell is told to ask this program, by the program's path and name.
var shells = map[string]func(path, name string) string{
	"bash": func(path, name string) string { return fmt.Sprintf("complete -o default -C %s %s\n", path, name) },
	"zsh": func(path, name string) string {
		return fmt.Sprintf("autoload -U +X compinit && compinit -i\nautoload -U +X bashcompinit && bashcompinit\ncomplete -o default -C %s %s\n", path, name)
	},
	"fish": func(path, name string) string {
		return fmt.Sprintf("complete -c %s -f -a '(env COMP_LINE=(commandline -cp) %s; or true)'\ncomplete -c %s -n 'test -z (env COMP_LINE=(commandline -cp) %s)[1]' -F\n", name, path, name, path)
	},
}

func (a *app) completion() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print what lets a shell complete command lines", ArgsUsage: "bash | zsh | fish",
		UsageText:   "source <(rollcall completion bash)",
		Description: "`rollcall -autocomplete-install` puts it where this user's shells look for it.",
		Action: func(_ context.Context, c *cli.Command) error {
			script := shells[c.Args().First()]
			if script == nil || c.Args().Len() != 1 {
				return misused(c, "name the shell: bash, zsh or fish")
			}
			path, name, err := itself()
			if err != nil {
				return err
			}
			a.printf("%s", script(path, name))
			return nil
		},
	}
}

// itself gives this program's path and the name it was called by.
func itself() (path, name string, err error) {
	name = filepath.Base(os.Args[0])
	if path, err = filepath.Abs(os.Args[0]); strings.ContainsRune(os.Args[0], '/') && err == nil {
		return path, name, nil
	}
	if path, err = os.Executable(); err != nil {
		return "", "", fmt.Errorf("find this program: %w", err)
	}
	return path, name, nil
}

// homes are the files of a user that shells read, below the home directory.
var homes = map[string]string{"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/completions/NAME.fish"}

// mark stands before what is installed, so that it can be found again.
const mark = "# completion of "

// install writes completion into the files of the shells that this user has files of;
// bash's is made where there is none.
func (a *app) install() error {
	return a.edit(func(shell, file, text, lines string) string {
		switch {
		case shell == "fish" && !isDir(filepath.Dir(filepath.Dir(file))), shell == "zsh" && !exists(file), strings.Contains(text, lines):
			return text
		case text != "" && !strings.HasSuffix(text, "\n"):
			text += "\n"
		}
		return text + lines
	})
}

// uninstall takes out what install wrote.
func (a *app) uninstall() error {
	return a.edit(func(_, _, text, lines string) string { return strings.ReplaceAll(text, lines, "") })
}

// edit changes the files of shells: change gives a file's text anew, lines being what this
// program puts there. A file that becomes empty is removed.
func (a *app) edit(change func(shell, file, text, lines string) string) error {
	path, name, err := itself()
	if err != nil {
		return err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("find the home directory: %w", err)
	}
	for _, shell := range slices.Sorted(maps.Keys(homes)) {
		file := filepath.Join(home, strings.ReplaceAll(homes[shell], "NAME", name))
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		text := change(shell, file, string(b), mark+name+"\n"+shells[shell](path, name))
		switch {
		case text == string(b):
			continue
		case text == "":
			err = os.Remove(file)
		default:
			err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
		}
		if err != nil {
			return err
		}
		a.printf("%s: changed; new shells see it\n", file)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
