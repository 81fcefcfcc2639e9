package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
)

// write runs one transaction at an index.
func write(t *testing.T, s *Store, index uint64, do func(*Tx) error) error {
	t.Helper()
	tx := s.Begin(index)
	err := do(tx)
	tx.Commit()
	return err
}

func ok(t *testing.T, s *Store, index uint64, do func(*Tx) error) {
	t.Helper()
	if err := write(t, s, index, do); err != nil {
		t.Fatalf("at %d: %v", index, err)
	}
}

func refused(t *testing.T, s *Store, index uint64, want string, do func(*Tx) error) {
	t.Helper()
	before := s.State().ACL()
	err := write(t, s, index, do)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("at %d: %v, want %q", index, err, want)
	}
	if d := cmp.Diff(before, s.State().ACL()); d != "" {
		t.Errorf("at %d: what was refused changed (-) into (+):\n%s", index, d)
	}
}

func token(accessor, hash string, policies ...api.Link) *api.SealedToken {
	return &api.SealedToken{Token: api.Token{AccessorID: accessor, Policies: policies}, SecretHash: hash}
}

// aclStore has one of everything.
func aclStore(t *testing.T) *Store {
	t.Helper()
	s := New()
	ok(t, s, 1, func(tx *Tx) error {
		return tx.SetUpACL([]byte("key"), []api.Policy{{ID: "p1", Name: "One", Rules: `acl = "read"`}}, []api.SealedToken{*token("anon", "h0")})
	})
	ok(t, s, 2, func(tx *Tx) error {
		return tx.SetRole(&api.Role{ID: "r1", Name: "role", Policies: []api.Link{{Name: "ONE"}}}, Create)
	})
	ok(t, s, 3, func(tx *Tx) error {
		tok := token("t1", "h1", api.Link{ID: "p1"}, api.Link{Name: "one"})
		tok.Roles = []api.Link{{Name: "Role"}}
		return tx.SetToken(tok, Create)
	})
	ok(t, s, 4, func(tx *Tx) error { return tx.SetAuthMethod(&api.AuthMethod{Name: "M", Type: "jwt"}, Create) })
	ok(t, s, 5, func(tx *Tx) error {
		return tx.SetBindingRule(&api.BindingRule{ID: "b1", AuthMethod: "m", BindType: api.BindRole, BindName: "role"}, Create)
	})
	ok(t, s, 6, func(tx *Tx) error {
		tok := token("t2", "h2")
		at := time.Unix(100, 0).UTC()
		tok.AuthMethod, tok.ExpirationTime = "M", &at
		return tx.SetToken(tok, Create)
	})
	return s
}

func TestACLLinks(t *testing.T) {
	t.Parallel()
	s := aclStore(t)
	st := s.State()
	tok := st.TokenByHash("h1")
	if tok == nil || tok != st.TokenByAccessor("t1") || tok.SecretID != "" {
		t.Fatalf("token by hash = %+v", tok)
	}
	if d := cmp.Diff(st.PolicyLinks(tok.Policies), []api.Link{{ID: "p1", Name: "One"}}); d != "" {
		t.Errorf("links by id and name are one: got (-) want (+):\n%s", d)
	}
	if d := cmp.Diff(st.RoleLinks(tok.Roles), []api.Link{{ID: "r1", Name: "role"}}); d != "" {
		t.Errorf("roles: got (-) want (+):\n%s", d)
	}
	ok(t, s, 10, func(tx *Tx) error {
		return tx.SetPolicy(&api.Policy{ID: "p1", Name: "renamed", Rules: `acl = "read"`}, Update)
	})
	if got := s.State().PolicyLinks(tok.Policies); len(got) != 1 || got[0].Name != "renamed" {
		t.Errorf("links show the name of the day: %v", got)
	}
	ok(t, s, 11, func(tx *Tx) error { tx.DeletePolicy("p1"); tx.DeleteRole("r1"); return nil })
	if p, r := s.State().PolicyLinks(tok.Policies), s.State().RoleLinks(tok.Roles); p != nil || r != nil {
		t.Errorf("links to what is gone: %v %v", p, r)
	}
	if len(st.ACLPolicies()) != 1 || st.ACLPolicyByName("one") == nil {
		t.Error("S1: what was read before changed")
	}
}

// S8: what is refused changes nothing.
func TestACLRefusalsS8(t *testing.T) {
	t.Parallel()
	s := aclStore(t)
	refused(t, s, 20, "AccessorID is already in use", func(tx *Tx) error { return tx.SetToken(token("t1", "h9"), Create) })
	refused(t, s, 20, "SecretID is already in use", func(tx *Tx) error { return tx.SetToken(token("t9", "h1"), Create) })
	refused(t, s, 20, `Cannot find token "t9"`, func(tx *Tx) error { return tx.SetToken(token("t9", "h9"), Update) })
	refused(t, s, 20, `No such ACL policy with name "zz"`, func(tx *Tx) error { return tx.SetToken(token("t9", "h9", api.Link{Name: "zz"}), Create) })
	refused(t, s, 20, `No such ACL policy with ID "zz"`, func(tx *Tx) error { return tx.SetToken(token("t9", "h9", api.Link{ID: "zz"}), Create) })
	refused(t, s, 20, `A Policy with Name "oNe" already exists`, func(tx *Tx) error { return tx.SetPolicy(&api.Policy{ID: "p2", Name: "oNe"}, Create) })
	refused(t, s, 20, "cannot find policy p2", func(tx *Tx) error { return tx.SetPolicy(&api.Policy{ID: "p2", Name: "two"}, Update) })
	refused(t, s, 20, `A Role with Name "ROLE" already exists`, func(tx *Tx) error { return tx.SetRole(&api.Role{ID: "r2", Name: "ROLE"}, Create) })
	refused(t, s, 20, "cannot find role r2", func(tx *Tx) error { return tx.SetRole(&api.Role{ID: "r2", Name: "two"}, Update) })
	refused(t, s, 20, "already exists", func(tx *Tx) error { return tx.SetAuthMethod(&api.AuthMethod{Name: "m", Type: "jwt"}, Create) })
	refused(t, s, 20, "Changing an auth method's type", func(tx *Tx) error {
		return tx.SetAuthMethod(&api.AuthMethod{Name: "m", Type: "kubernetes"}, Update)
	})
	refused(t, s, 20, `cannot find auth method with name "zz"`, func(tx *Tx) error {
		return tx.SetBindingRule(&api.BindingRule{ID: "b2", AuthMethod: "zz"}, Create)
	})
}

func TestACLBootstrapOnce(t *testing.T) {
	t.Parallel()
	s := aclStore(t)
	ok(t, s, 30, func(tx *Tx) error { return tx.BootstrapACL(token("boot", "hb"), 0) })
	refused(t, s, 31, "ACL bootstrap no longer allowed (reset index: 30)", func(tx *Tx) error { return tx.BootstrapACL(token("b2", "hc"), 0) })
	refused(t, s, 31, "reset index: 30", func(tx *Tx) error { return tx.BootstrapACL(token("b2", "hc"), 29) })
	ok(t, s, 32, func(tx *Tx) error { return tx.BootstrapACL(token("b2", "hc"), 30) })
	if got := s.State().ACL().Bootstrapped; got != 32 {
		t.Errorf("bootstrapped at %d, want 32", got)
	}
}

func TestACLKeyStaysS17(t *testing.T) {
	t.Parallel()
	s := aclStore(t)
	refused(t, s, 40, "another key", func(tx *Tx) error { return tx.SetUpACL([]byte("other"), nil, []api.SealedToken{*token("t8", "h8")}) })
	ok(t, s, 41, func(tx *Tx) error { return tx.SetUpACL([]byte("key"), nil, []api.SealedToken{*token("t8", "h1")}) })
	if s.State().TokenByAccessor("t8") != nil {
		t.Error("a token whose secret is there is made again")
	}
	if got := string(s.State().ACL().Key); got != "key" {
		t.Errorf("key = %q after setting up again", got)
	}
}

// With an auth method go its rules and the tokens made over it.
func TestACLMethodCascade(t *testing.T) {
	t.Parallel()
	s := aclStore(t)
	w := s.Watch(TopicACL())
	ok(t, s, 50, func(tx *Tx) error { tx.DeleteAuthMethod("m"); return nil })
	st := s.State()
	if st.TokenByAccessor("t2") != nil || st.TokenByHash("h2") != nil || len(st.ACLBindingRules("")) != 0 || st.TokenByAccessor("t1") == nil {
		t.Error("the method's tokens and rules shall go, others stay")
	}
	select {
	case <-w.C:
	default:
		t.Error("S3: who watches ACLs sleeps on")
	}
	if got := st.ACL(); got.Tokens != 50 || got.BindingRules != 50 || got.Policies != 1 {
		t.Errorf("indexes %+v", got)
	}
}

func TestACLExpired(t *testing.T) {
	t.Parallel()
	st := aclStore(t).State()
	if got := st.ExpiredTokens(time.Unix(99, 0), 10); got != nil {
		t.Errorf("too early: %v", got)
	}
	if got := st.ExpiredTokens(time.Unix(100, 0), 10); len(got) != 1 || got[0] != "t2" {
		t.Errorf("expired = %v, want t2", got)
	}
	if got := st.ExpiredTokens(time.Unix(100, 0), 0); got != nil {
		t.Errorf("over the limit: %v", got)
	}
}

// S10: what records gave makes the same again.
func TestACLRecordsS10(t *testing.T) {
	t.Parallel()
	st := aclStore(t).State()
	b := NewBuilder()
	for r := range st.Records {
		if err := b.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	back := b.State()
	for name, pair := range map[string][2]any{
		"head":    {st.ACL(), back.ACL()},
		"tokens":  {st.ACLTokens(), back.ACLTokens()},
		"expired": {st.ExpiredTokens(time.Unix(100, 0), 9), back.ExpiredTokens(time.Unix(100, 0), 9)},
		"by hash": {st.TokenByHash("h1"), back.TokenByHash("h1")},
		"policy":  {st.ACLPolicyByName("one").Policy, back.ACLPolicyByName("one").Policy},
		"role":    {st.ACLRoleByName("role").Role, back.ACLRoleByName("role").Role},
		"method":  {st.ACLAuthMethod("m").AuthMethod, back.ACLAuthMethod("m").AuthMethod},
		"rules":   {st.ACLBindingRules("m"), back.ACLBindingRules("m")},
	} {
		if d := cmp.Diff(pair[0], pair[1]); d != "" {
			t.Errorf("%s: before (-) after (+):\n%s", name, d)
		}
	}
}
