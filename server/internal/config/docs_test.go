package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/config"
)

// docs/configuration.md lists every key, once, and no other; and every flag.
func TestDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	text, left, _ := strings.Cut(string(page), "## Accepted and ignored")
	listed := map[string]int{}
	word := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		first, _, _ := strings.Cut(line[2:], " | ")
		for _, m := range word.FindAllStringSubmatch(first, -1) {
			listed[m[1]]++
		}
	}
	keys := config.Keys(&Config{})
	for _, key := range keys {
		block := slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, key+".") })
		if n := listed[key]; n != 1 && (!block || key == "watches") {
			t.Errorf("%s is listed %d times, want once", key, n)
		}
		delete(listed, key)
	}
	for key := range listed {
		t.Errorf("%s is listed, but is no key", key)
	}
	for _, key := range ignored {
		if !strings.Contains(left, "`"+key+"`") {
			t.Errorf("%s is ignored and not listed as such", key)
		}
	}
	for _, m := range word.FindAllStringSubmatch(left, -1) {
		key := m[1]
		if strings.HasPrefix(key, "-") || slices.Contains(ignored, key) || strings.Contains("kind connect proxy namespace partition locality socket_path", key) {
			continue
		}
		t.Errorf("%s is listed as ignored and is not", key)
	}
	for _, f := range Flags {
		if f.Usage != "" && !strings.Contains(text, "`-"+f.Name+"`") {
			t.Errorf("flag -%s is not named", f.Name)
		}
	}
}

// The page's example is a valid configuration.
func TestDocsExample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```hcl\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no example")
	}
	c, warnings, err := load(t, false, example)
	if err != nil || len(warnings) != 0 {
		t.Fatalf("%v, warnings %q", err, warnings)
	}
	if c.BootstrapExpect != 3 || c.Ports.HTTPS != 8501 || c.TLS.HTTPS.CertFile != "/etc/rollcall/agent.pem" || len(c.Services) != 1 || c.Services[0].Check == nil {
		t.Errorf("got %+v", c)
	}
}
