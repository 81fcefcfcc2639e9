package ui

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// viewer is one of a page that is reached at a host.
func viewer(host, dc string) *request {
	r := httptest.NewRequest("GET", "/ui/", nil)
	r.Host = host
	return &request{Request: r, ui: &UI{cfg: Config{Path: "/ui/", Datacenter: "dc1", Domain: "consul"}}, dc: dc}
}

// TestShellRunsNothing: a shell takes a word as it is, whatever is in it.
func TestShellRunsNothing(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ran")
	for _, word := range []string{"web", "", "a b", "$(touch " + mark + ")", "`touch " + mark + "`", "'; touch " + mark + "; '", `"; touch ` + mark + `; "`, "a\ntouch " + mark, "~", "*", "a&b", "#a", "\\", "ä"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shell(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q came out as %q, %v", word, out, err)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a word was run")
	}
}

func TestLinesToAskDNS(t *testing.T) {
	for name, want := range map[string]string{
		"web":                 "dig web.service.consul",
		"my web":              "dig 'my web.service.consul'",
		"$(touch /tmp/mark)":  "dig '$(touch /tmp/mark).service.consul'",
		"it's":                `dig 'it'\''s.service.consul'`,
		"-f/etc/passwd":       "dig -q -f/etc/passwd.service.consul",
		"@10.0.0.1":           "dig -q @10.0.0.1.service.consul",
		"+trace":              "dig -q +trace.service.consul",
		"a\x03\ntouch x\x1b[": `dig 'a\003\010touch x\027[.service.consul'`,
		`a\b`:                 `dig 'a\\b.service.consul'`,
	} {
		if got := viewer("127.0.0.1:8500", "").dig(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
		if got, want := viewer("127.0.0.1:8500", "dc2").dig(name), strings.Replace(want, ".service.", ".service.dc2.", 1); got != want {
			t.Errorf("%q of dc2: %s, want %s", name, got, want)
		}
	}
}

// TestLinesAreAboutTheDatacenter: what is copied in another datacenter's view is about that
// one, a restore above all.
func TestLinesAreAboutTheDatacenter(t *testing.T) {
	here, there := viewer("10.0.0.1:8500", ""), viewer("10.0.0.1:8500", "dc 2")
	for got, want := range map[string]string{
		here.curl("/v1/snapshot"):      "curl http://10.0.0.1:8500/v1/snapshot",
		there.curl("/v1/snapshot"):     "curl 'http://10.0.0.1:8500/v1/snapshot?dc=dc+2'",
		here.curl("/v1/kv/a?raw"):      "curl 'http://10.0.0.1:8500/v1/kv/a?raw'",
		there.curl("/v1/kv/a?raw"):     "curl 'http://10.0.0.1:8500/v1/kv/a?raw&dc=dc+2'",
		here.restoreLine():             "rollcall snapshot restore rollcall.snap",
		there.restoreLine():            "rollcall snapshot restore -datacenter='dc 2' rollcall.snap",
		viewer("h", "").dig("web"):     "dig web.service.consul",
		viewer("h", "b").dig("web"):    "dig web.service.b.consul",
		viewer("h", "b").restoreLine(): "rollcall snapshot restore -datacenter=b rollcall.snap",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
