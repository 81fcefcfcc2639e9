package acl

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

func must(t *testing.T, text string) Policy {
	t.Helper()
	p, err := Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return p
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules []string // one policy each
		allow bool
		name  string
		want  Access // the most that is allowed of key
	}{
		{nil, false, "a", Deny},
		{nil, true, "a", Write},
		{[]string{`key "a" { policy = "read" }`}, false, "a", Read},
		{[]string{`key "a" { policy = "read" }`}, false, "ab", Deny},
		{[]string{`key "a" { policy = "read" }`}, true, "ab", Write},
		{[]string{`key "a" { policy = "deny" }`}, true, "a", Deny},
		{[]string{`key_prefix "a" { policy = "list" }`}, false, "ab", List},
		// exact beats prefix, whatever they say
		{[]string{`key_prefix "" { policy = "deny" }`, `key "a" { policy = "write" }`}, false, "a", Write},
		{[]string{`key_prefix "a" { policy = "write" }`, `key "a" { policy = "deny" }`}, false, "a", Deny},
		// the longest prefix
		{[]string{`key_prefix "a" { policy = "write" } key_prefix "a/b" { policy = "read" }`}, false, "a/b/c", Read},
		{[]string{`key_prefix "a" { policy = "deny" } key_prefix "a/b" { policy = "read" }`}, false, "a/b", Read},
		// of the same: deny, write, list, read
		{[]string{`key "a" { policy = "read" }`, `key "a" { policy = "write" }`}, false, "a", Write},
		{[]string{`key "a" { policy = "write" }`, `key "a" { policy = "deny" }`}, false, "a", Deny},
		{[]string{`key "a" { policy = "read" }`, `key "a" { policy = "list" }`}, false, "a", List},
		{[]string{`key "a" { policy = "deny" }`, `key "a" { policy = "write" }`}, true, "a", Deny},
	} {
		var ps []Policy
		for _, r := range c.rules {
			ps = append(ps, must(t, r))
		}
		a := New(c.allow, ps...)
		for want := Read; want <= Write; want++ {
			if got := a.Allowed(Key, c.name, want); got != (want <= c.want && c.want != Deny) {
				t.Errorf("%v, default allow %t: key %q %s = %t, want at most %s", c.rules, c.allow, c.name, want, got, c.want)
			}
		}
	}
}

// ACLs themselves are never given away by the default policy.
func TestDefaultsDoNotReachACLs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a                   *Authorizer
		acl, operator, node bool
	}{
		"default allow": {New(true), false, true, true},
		"default deny":  {New(false), false, false, false},
		"management":    {New(false, must(t, ManagementRules)), true, true, true},
		"off":           {Everything(), true, true, true},
	} {
		if got := c.a.Allowed(ACL, "", Write); got != c.acl {
			t.Errorf("%s: acl:write = %t", name, got)
		}
		if got := c.a.Allowed(Operator, "", Write); got != c.operator {
			t.Errorf("%s: operator:write = %t", name, got)
		}
		if got := c.a.Allowed(Node, "n", Write); got != c.node {
			t.Errorf("%s: node:write = %t", name, got)
		}
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules  string
		allow  bool
		prefix string
		want   bool
	}{
		{``, true, "a", true},
		{``, false, "a", false},
		{`key_prefix "a" { policy = "write" }`, false, "a/b", true},
		{`key_prefix "a" { policy = "read" }`, false, "a/b", false},
		{`key_prefix "a" { policy = "write" } key "a/b/c" { policy = "read" }`, false, "a/b", false},
		{`key_prefix "a" { policy = "write" } key "a/x" { policy = "deny" }`, false, "a/b", true},
		{`key_prefix "a" { policy = "write" } key_prefix "a/b/c" { policy = "list" }`, false, "a/b", false},
		{`key "a/b" { policy = "write" }`, false, "a/b", false}, // one key gives no tree
		{`key "a/b" { policy = "deny" }`, true, "a", false},
		{`key "a/b" { policy = "write" }`, true, "a", true},
	} {
		if got := New(c.allow, must(t, c.rules)).AllowedTree(Key, c.prefix, Write); got != c.want {
			t.Errorf("%q, default allow %t: writing the tree %q = %t, want %t", c.rules, c.allow, c.prefix, got, c.want)
		}
	}
	if !New(false, must(t, `key_prefix "a" { policy = "list" }`)).AllowedList("a/b") {
		t.Error("list does not allow listing")
	}
	if New(false, must(t, `key_prefix "a" { policy = "read" }`)).AllowedList("a/b") {
		t.Error("read allows listing")
	}
}

func TestAny(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules string
		allow bool
		want  bool
	}{
		{``, true, true},
		{``, false, false},
		{`service "a" { policy = "write" }`, false, true},
		{`service "a" { policy = "read" }`, false, false},
		{`service "a" { policy = "deny" }`, true, true},
		{`service_prefix "" { policy = "read" }`, true, false},
	} {
		if got := New(c.allow, must(t, c.rules)).AllowedAny(Service, Write); got != c.want {
			t.Errorf("%q, default allow %t: writing any service = %t, want %t", c.rules, c.allow, got, c.want)
		}
	}
}

// The fast lookup agrees with the words of the package comment taken literally.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	names := []string{"", "a", "aa", "ab", "aab", "b", "ba"}
	for range 2000 {
		var p Policy
		for range rnd.IntN(6) {
			p = append(p, Rule{Key, names[rnd.IntN(len(names))], rnd.IntN(2) == 0, Deny + Access(rnd.IntN(4))})
		}
		allow := rnd.IntN(2) == 0
		a := New(allow, p)
		for _, name := range names {
			for want := Read; want <= Write; want++ {
				if got, model := a.Allowed(Key, name, want), model(p, allow, name, want); got != model {
					t.Fatalf("%v allow %t: %q %s = %t, want %t", p, allow, name, want, got, model)
				}
			}
		}
	}
}

func model(p Policy, allow bool, name string, want Access) bool {
	best, bestLen := Unset, -1
	for _, r := range p {
		n := len(r.Name)
		switch {
		case !r.Prefix && r.Name == name:
			n = len(name) + 1
		case !r.Prefix || !strings.HasPrefix(name, r.Name):
			continue
		}
		if n > bestLen || n == bestLen && stronger(r.Access, best) {
			best, bestLen = r.Access, n
		}
	}
	if best == Unset {
		return allow
	}
	return best != Deny && best >= want
}

func TestView(t *testing.T) {
	t.Parallel()
	reader := must(t, ReadOnlyRules)
	if v := New(false, reader).View(); v != "" {
		t.Errorf("the view of one who reads all = %q, want none", v)
	}
	if v := New(true).View(); v != "" {
		t.Errorf("the view under default allow = %q, want none", v)
	}
	one := New(false, must(t, `key "a" { policy = "read" } key "b" { policy = "read" }`)).View()
	same := New(false, must(t, `key "b" { policy = "read" }`), must(t, `key "a" { policy = "read" }`)).View()
	other := New(false, must(t, `key "b" { policy = "read" }`)).View()
	blind := New(false, reader, must(t, `key "b" { policy = "deny" }`)).View()
	if one == "" || one != same || one == other || blind == "" || blind == one {
		t.Errorf("views %q %q %q %q: the first two alone shall be equal, none empty", one, same, other, blind)
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	h := &Holder{Authorizer: New(false), Accessor: "a1"}
	for err, want := range map[error]string{
		h.Require(Node, "n1", Write):    `Permission denied: token with AccessorID 'a1' lacks permission 'node:write' on "n1"`,
		h.Require(ACL, "", Read):        `Permission denied: token with AccessorID 'a1' lacks permission 'acl:read'`,
		h.RequireTree(Key, "a/", Write): `Permission denied: token with AccessorID 'a1' lacks permission 'key:write' on everything that begins with "a/"`,
		(&Holder{Authorizer: New(false), Accessor: AnonymousID}).Require(ACL, "", Read): `Permission denied: anonymous token lacks permission 'acl:read'. ` +
			`The anonymous token is used implicitly when a request does not specify a token.`,
	} {
		var e *api.Error
		if !errors.As(err, &e) || e.Kind != api.Forbidden || e.Text != want {
			t.Errorf("got %v, want 403 %q", err, want)
		}
	}
	if err := Unbound().Require(ACL, "", Write); err != nil {
		t.Errorf("with ACLs off: %v", err)
	}
}

func TestSeal(t *testing.T) {
	t.Parallel()
	key := []byte(strings.Repeat("k", KeySize))
	s, err := NewSeal(key)
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.Close("secret")
	if got, err := s.Open(sealed); err != nil || got != "secret" {
		t.Errorf("Open = %q, %v", got, err)
	}
	again, _ := NewSeal(key)
	other, _ := NewSeal([]byte(strings.Repeat("o", KeySize)))
	if s.Hash("secret") != again.Hash("secret") || s.Hash("secret") == other.Hash("secret") || strings.Contains(s.Hash("secret"), "secret") {
		t.Error("a hash shall depend on key and secret alone, and not show the secret")
	}
	if _, err := other.Open(sealed); !errors.Is(err, ErrSeal) {
		t.Errorf("another key opens: %v", err)
	}
	if _, err := s.Open(nil); !errors.Is(err, ErrSeal) {
		t.Errorf("nothing opens: %v", err)
	}
	if _, err := NewSeal(nil); err == nil {
		t.Error("a seal without a key")
	}
}

// The catalog knows nodes and services in any case, keys as they are written.
func TestCase(t *testing.T) {
	t.Parallel()
	a := New(true, must(t, `service "Web" { policy = "deny" } node_prefix "DB" { policy = "deny" } key "Web" { policy = "deny" }`))
	for _, c := range []struct {
		res  Resource
		name string
		want bool
	}{{Service, "web", false}, {Service, "WEB", false}, {Service, "webs", true}, {Node, "db7", false}, {Key, "Web", false}, {Key, "web", true}} {
		if got := a.Allowed(c.res, c.name, Read); got != c.want {
			t.Errorf("%s %q = %t, want %t", c.res, c.name, got, c.want)
		}
	}
}
