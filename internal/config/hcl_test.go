package config

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What HCL 1 accepts, as JSON says the same.
func TestHCL(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`ports { http = 1, dns = 2 }`:                       `{"ports":{"dns":2,"http":1}}`,
		`ports { http = 1 dns = 2 }`:                        `{"ports":{"dns":2,"http":1}}`,
		"a = 1, b = 2,\nc = 3":                              `{"a":1,"b":2,"c":3}`,
		`checks = [ { id = "x" ttl = "1s" }, { id = "y" }]`: `{"checks":[{"id":"x","ttl":"1s"},{"id":"y"}]}`,
		"l = [\n1,\n2,\n]":                                  `{"l":[1,2]}`,
		"s = [{ check { ttl = \"1s\" } }]":                  `{"s":[{"check":{"ttl":"1s"}}]}`,
		`"quoted key" = true`:                               `{"quoted key":true}`,
		`c { a = 1 } c { a = 2 }`:                           `{"c":[{"a":1},{"a":2}]}`,
		`n = [0x10, 017, -1, 1.50, 1e3]`:                    `{"n":[16,15,-1,1.5,1000]}`,
		`disable_compat_1.9 = false`:                        `{"disable_compat_1.9":false}`,
		`s = "a\tb\"\\\u00e9\x41"`:                          `{"s":"a\tb\"\\éA"}`,
		`s = "${env "A"} {{ GetPrivateIP }}"`:               `{"s":"${env \"A\"} {{ GetPrivateIP }}"}`,
		`s = "${ {"a"} }"`:                                  `{"s":"${ {\"a\"} }"}`,
		"s = <<EOF\nline \"1\"\n  2\nEOF\nb = 1":            `{"b":1,"s":"line \"1\"\n  2\n"}`,
		"s = <<-EOF\n  one\n\n    two\n  EOF\n":             `{"s":"one\n\n  two\n"}`,
		"s = <<-EOF\none\n  two\n  EOF\n":                   `{"s":"one\n  two\n"}`,
		"# a\n// b\na = 1 /* c\n */ b = null":               `{"a":1,"b":null}`,
		"\ufeffa: 1\r\nb = {}\r\n":                          `{"a":1,"b":{}}`,
		"":                                                  `{}`,
	} {
		o, err := parseHCL("x.hcl", []byte(src))
		if err != nil {
			t.Errorf("%q: %v", src, err)
			continue
		}
		got, err := json.Marshal(plain(value{v: o}))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(got), want); d != "" {
			t.Errorf("%q: got (-) want (+):\n%s", src, d)
		}
	}
}

func TestHCLFaults(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"a = b":                              `x.hcl:1: want a value, have "b": quote text`,
		"\n\na 1":                            `x.hcl:3: want = or { behind the key a, have "1"`,
		"a \"b\" = 1":                        "want = or {",
		"a":                                  "have the end of the file",
		"= 1":                                "want a key",
		"a {\nb = 1\n":                       "x.hcl:3: a block begins with {",
		"a = [1 2]":                          "want , or ]",
		"a = [1,":                            "a list begins with [",
		"a = \"x\n\"":                        "does not end on its line",
		`a = "\q"`:                           "is no escape",
		"/* a":                               "comment",
		"a = 1.2.3":                          `"1.2.3" is no number`,
		"a = 99999999999999999999999x":       "is no number",
		"a = 1e999":                          "is no number",
		"a = <<EOF\nx\n":                     "no line has EOF alone",
		"a = <<":                             "want a word",
		"}":                                  "want a key",
		"a = " + strings.Repeat("[", 100000): "more than 200",
		strings.Repeat("a {", 100000):        "more than 200",
	} {
		if _, err := parseHCL("x.hcl", []byte(src)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want %q", src, err, want)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	want := []string{"anything", "bootstrap_expect", "group", "group.command", "node", "node_meta", "node_name", "ports", "ports.dns", "ports.http",
		"retry_join", "server", "service", "services", "wait"}
	if d := cmp.Diff(Keys(&target{}), want); d != "" {
		t.Errorf("got (-) want (+):\n%s", d)
	}
}

// Keys are found in any case, and a block that takes no name refuses one.
func TestKeySpelling(t *testing.T) {
	t.Parallel()
	var got target
	if _, err := decode(t, "x.json", `{"Node_Name":"a","PORTS":{"Http":1}}`, &got); err != nil || got.Name != "a" || got.Ports.HTTP != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := decode(t, "x.hcl", `ports "x" { http = 1 }`, &got); err == nil || !strings.Contains(err.Error(), "takes no name") {
		t.Errorf("a named block: %v", err)
	}
}
