package acl

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	key := func(name string, prefix bool, a Access) Rule { return Rule{Key, name, prefix, a} }
	for text, want := range map[string]Policy{
		"":                                  nil,
		"# only\n// comments\n/* here\n */": nil,
		`key "a" { policy = "read" }`:       {key("a", false, Read)},
		`key_prefix "a/" { policy = "list" } key "b" { policy = "deny" }`: {key("a/", true, List), key("b", false, Deny)},
		`key "a" { policy = "read", } acl = "read"`:                       {key("a", false, Read), {ACL, "", false, Read}},
		"operator = \"write\"\nkeyring=\"deny\"":                          {{Operator, "", false, Write}, {Keyring, "", false, Deny}},
		`key = { "a" = { policy = "read" } }`:                             {key("a", false, Read)},
		`key { a { policy = "read" } b { policy = "write" } }`:            {key("a", false, Read), key("b", false, Write)},
		`"key" "a\tb" { "policy" = "read" }`:                              {key("a\tb", false, Read)},
		`service "web" { policy = "write" intentions = "read" }`:          {{Service, "web", false, Write}},
		`service_prefix "" { intentions = "read" }`:                       nil,
		`mesh = "read" peering = "write" acl = "read"`:                    {{ACL, "", false, Read}},
		`{"key_prefix": {"a": {"policy": "read"}}, "acl": "read"}`:        {key("a", true, Read), {ACL, "", false, Read}},
		` {"key": [{"b": {"policy": "read"}}, {"a": [{"policy": "write"}]}]}`: {
			key("b", false, Read), key("a", false, Write)},
	} {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
			continue
		}
		if d := cmp.Diff(got, want); d != "" {
			t.Errorf("Parse(%q): got (-) want (+):\n%s", text, d)
		}
	}
}

// A policy that cannot be what was meant is refused with its place and what to write.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`key {`:                             "at 1:6: a block is not closed",
		`key "a" { policy = "wrong" }`:      "Invalid key policy",
		`service "a" { policy = "list" }`:   "is none of read, write or deny",
		"\n\n  acl = \"list\"":              "at 3:3: Invalid acl policy",
		`acl "a" { policy = "read" }`:       `write acl = "read"`,
		`key = "read"`:                      `write key "name" { policy = "read" }`,
		`keyz "a" { policy = "read" }`:      `"keyz" is nothing that rights are about: there are acl, agent, agent_prefix,`,
		`key_prefix "a" { }`:                `Invalid key policy: key_prefix "a" says none`,
		`key "a" { polizy = "read" }`:       `"polizy" has no meaning here`,
		`key "a" { sentinel { code = "" }}`: "sentinel code is left out",
		`namespace "x" { acl = "read" }`:    "namespaces are left out of Rollcall",
		`partition_prefix "x" { }`:          "admin partitions are left out of Rollcall",
		`key "a { policy = "read" }`:        "at 1:",
		`key "a`:                            "a string is not closed",
		`key "\q" {}`:                       "escape that is none",
		`acl = read`:                        "must stand in quotes",
		`acl =`:                             "a value is missing",
		`acl`:                               "the text ends behind acl",
		`} acl = "read"`:                    "'}' is not expected here",
		`/* acl`:                            "a comment is not closed",
		`{"acl": "read"`:                    "at 1:",
		`{"acl": "read"} x`:                 "there is more behind the object",
		`{"acl": 1}`:                        `acl has no names: write acl = "read"`,
		strings.Repeat("a{", 99):            "deeper than 32",
		`{"a":` + strings.Repeat("[", 99):   "deeper than 64",
	} {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.40q) = %v, want it to say %q", text, err, want)
		}
	}
	if _, err := ParseLegacy(`key_prefix "a" { policy = "read" }`); err == nil {
		t.Error("ParseLegacy takes today's syntax")
	}
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	const old = `# all may read
key "" { policy = "read" }
service "a" { policy = "write" intentions = "read" }
operator = "read"
agent "x" { policy = "deny" }`
	const want = `# all may read
key_prefix "" {
  policy = "read"
}

service_prefix "a" {
  policy = "write"
  intentions = "read"
}

operator = "read"

agent_prefix "x" {
  policy = "deny"
}`
	got, err := Translate(old)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("Translate: got (-) want (+):\n%s", d)
	}
	before, err := ParseLegacy(old)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("meaning of the translation: old (-) new (+):\n%s", d)
	}
}

// As the real Consul 1.8.7 puts it.
func TestTranslateKeepsComments(t *testing.T) {
	t.Parallel()
	got, err := Translate(`#start of policy
agent "" { policy = "read" } // tail
# between
node "a" {
   # inner
   policy = "write" // end
}
key "x/" { policy = "deny" }
/* block */
operator = "read"
# last
`)
	if err != nil {
		t.Fatal(err)
	}
	const want = `#start of policy
agent_prefix "" {
  policy = "read"
} // tail

# between
node_prefix "a" {
  # inner
  policy = "write" // end
}

key_prefix "x/" {
  policy = "deny"
}

/* block */
operator = "read"

# last
`
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("Translate: got (-) want (+):\n%s", d)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		ManagementRules, ReadOnlyRules, `key "a" { policy = "read" }`, `{"key_prefix": {"a": {"policy": "read"}}, "acl": "read"}`,
		`key = [{ "a" = { policy = "list" } }] # x`, `/* */ "service" "b" { policy = "deny" intentions = "read" }`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := Parse(text); err == nil {
			New(false, p).Allowed(Key, text, Read)
		}
		p, err := ParseLegacy(text)
		again, terr := Translate(text)
		if (err == nil) != (terr == nil) {
			t.Fatalf("ParseLegacy: %v, Translate: %v", err, terr)
		}
		if err != nil {
			return
		}
		q, err := Parse(again)
		if err != nil {
			t.Fatalf("the translation %q does not parse: %v", again, err)
		}
		if d := cmp.Diff(p, q); d != "" {
			t.Fatalf("the translation means something else: old (-) new (+):\n%s", d)
		}
	})
}
