package render

import (
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the outputs of docs/templates.md anew")

const page = "../../../docs/templates.md"

// Every example of docs/templates.md gives what stands behind it, and every function has
// one.
func TestDocumentedExamples(t *testing.T) {
	t.Setenv("DOC_EXAMPLE", "yes")
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	ran, lines := 0, strings.Split(string(b), "\n")
	for i, line := range lines {
		text, want, ok := strings.Cut(line, "   → ")
		if !ok || !strings.HasPrefix(text, "{{") {
			continue
		}
		ran++
		text = strings.TrimRight(text, " ")
		got := rendered(t, text)
		if *update {
			lines[i] = text + "   → " + got
		} else if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if ran < 80 {
		t.Errorf("only %d examples were found", ran)
	}
	functions := (&execution{cfg: &Config{}}).functions(nil)
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		if strings.HasPrefix(name, "sprig_") || !strings.HasPrefix(name, "spew") && isRefused(functions[name]) {
			continue
		}
		if !regexp.MustCompile(`\b` + name + `\b`).Match(b) {
			t.Errorf("%s is not on the page", name)
		}
	}
}

// isRefused tells the functions that only say why they are not there.
func isRefused(f any) bool {
	refuse, ok := f.(func(...any) (any, error))
	if !ok {
		return false
	}
	_, err := refuse()
	return err != nil
}

func rendered(t *testing.T, text string) string {
	t.Helper()
	tmpl, err := Parse(Config{Name: "example", Text: text})
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return ""
	}
	r, err := tmpl.Execute(world)
	if err != nil || len(r.Missing) > 0 {
		t.Errorf("%s: missing %v, %v", text, r.Missing, err)
	}
	return strings.TrimSpace(strings.ReplaceAll(string(r.Output), "\n", `\n`))
}
