package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
)

var update = flag.Bool("update", false, "write the reference in docs/cli.md anew")

// The reference in docs/cli.md is what the code says: every command, argument, flag and
// example, by -update.
func TestPage(t *testing.T) {
	t.Parallel()
	const path, mark = "../../../docs/cli.md", "<!-- from here on: go test ./server/internal/cli -run TestPage -update -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, got, ok := strings.Cut(string(page), mark)
	if !ok {
		t.Fatalf("docs/cli.md lacks the line %q", mark)
	}
	a := &app{out: &output{Writer: &bytes.Buffer{}}}
	var want strings.Builder
	reference(t, &want, a.root(), "rollcall")
	if *update {
		if err := os.WriteFile(path, []byte(head+mark+want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want.String() {
		t.Error("docs/cli.md is not what the commands say: run this with -update, and read what changes")
	}
}

// reference writes the commands below c, called by path.
func reference(t *testing.T, w *strings.Builder, c *cli.Command, path string) {
	for _, sub := range c.Commands {
		path := path + " " + sub.Name
		if len(sub.Commands) > 0 {
			reference(t, w, sub, path)
			continue
		}
		name := strings.TrimPrefix(path, "rollcall ")
		if sub.UsageText == "" {
			t.Errorf("%s has no example", path)
		}
		for line := range strings.Lines(sub.UsageText) {
			if !strings.Contains(line, path) {
				t.Errorf("the example %q does not show %s", line, path)
			}
		}
		fmt.Fprintf(w, "\n### %s\n\n%s", name, capital(sub.Usage))
		if also := sub.Aliases; len(also) > 0 {
			fmt.Fprintf(w, " (also `%s`)", strings.Join(also, "`, `"))
		}
		fmt.Fprintf(w, ": `%s%s`\n", path, synopsis(sub))
		own, agent := flagsOf(sub)
		for _, f := range agent {
			if f.name == "datacenter" {
				fmt.Fprint(w, "With `-datacenter`, `-stale`.\n")
			}
		}
		if sub.Description != "" {
			fmt.Fprintf(w, "%s\n", strings.ReplaceAll(sub.Description, "\n", " "))
		}
		fmt.Fprintf(w, "\n```sh\n%s\n```\n", sub.UsageText)
		if len(own) > 0 {
			fmt.Fprintln(w)
		}
		for _, f := range own {
			if f.usage == "" {
				t.Errorf("%s: -%s is not explained", path, f.name)
			}
			fmt.Fprintf(w, "- `%s` %s\n", f.form, strings.NewReplacer("<", "&lt;", "*", "\\*").Replace(f.usage))
		}
	}
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
