package dnsserver

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/server/internal/config"
)

// docs/dns.md lists every kind of name and every key of dns_config, and no other.
func TestPage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	_, names, _ := strings.Cut(page, "\n## Names")
	names, _, _ = strings.Cut(names, "\nWith this in the catalog")
	var told []string
	for _, m := range regexp.MustCompile("(?m)^\\| `[A-Z\\[*][^`|]*?\\.([a-z]+)(\\[.DC\\])?\\.consul`").FindAllStringSubmatch(names, -1) {
		if !slices.Contains(told, m[1]) {
			told = append(told, m[1])
		}
	}
	want := slices.Sorted(slices.Values(kinds))
	if slices.Sort(told); !slices.Equal(told, want) {
		t.Errorf("docs/dns.md has names of the kinds %v, the code %v", told, want)
	}

	told = nil
	for _, m := range regexp.MustCompile("(?m)^\\| `dns_config\\.([a-z_]+)`").FindAllStringSubmatch(page, -1) {
		told = append(told, m[1])
	}
	var keys []string
	for i := range reflect.TypeFor[config.DNS]().NumField() {
		keys = append(keys, reflect.TypeFor[config.DNS]().Field(i).Tag.Get("config"))
	}
	if slices.Sort(told); !slices.Equal(told, slices.Sorted(slices.Values(keys))) {
		t.Errorf("docs/dns.md lists dns_config's %v, there are %v", told, slices.Sorted(slices.Values(keys)))
	}
}
