package store

import (
	"strings"
	"time"

	"github.com/tidwall/btree"

	"github.com/rollcall/rollcall/internal/api"
)

// Policy is a policy's row.
type Policy struct {
	api.Policy
	key string // the name in lower case
}

// Role is a role's row.
type Role struct {
	api.Role
	key string // the name in lower case
}

// AuthMethod is an auth method's row.
type AuthMethod struct {
	api.AuthMethod
	key string // the name in lower case
}

// BindingRule is a binding rule's row.
type BindingRule struct{ api.BindingRule }

// ACLHead is what belongs to all ACLs.
type ACLHead struct {
	// Key is what secrets are hashed and sealed with; nil before the leader has set ACLs up.
	Key []byte
	// Bootstrapped is when the first management token was made, 0 before.
	Bootstrapped uint64
	// The indexes of the tables.
	Tokens, Policies, Roles, AuthMethods, BindingRules uint64
}

// acls are the tables of ACLs.
type acls struct {
	head        ACLHead
	tokens      *btree.BTreeG[*api.SealedToken]
	secrets     *btree.BTreeG[*api.SealedToken] // the same by hash
	expiring    *btree.BTreeG[*api.SealedToken] // those that expire, by when
	policies    *btree.BTreeG[*Policy]
	policyNames *btree.BTreeG[*Policy]
	roles       *btree.BTreeG[*Role]
	roleNames   *btree.BTreeG[*Role]
	methods     *btree.BTreeG[*AuthMethod]
	bindings    *btree.BTreeG[*BindingRule]
}

func newACLs() *acls {
	return &acls{
		tokens:      tree(func(a, b *api.SealedToken) bool { return a.AccessorID < b.AccessorID }),
		secrets:     tree(func(a, b *api.SealedToken) bool { return a.SecretHash < b.SecretHash }),
		expiring:    tree(byExpiry),
		policies:    tree(func(a, b *Policy) bool { return a.ID < b.ID }),
		policyNames: tree(func(a, b *Policy) bool { return a.key < b.key }),
		roles:       tree(func(a, b *Role) bool { return a.ID < b.ID }),
		roleNames:   tree(func(a, b *Role) bool { return a.key < b.key }),
		methods:     tree(func(a, b *AuthMethod) bool { return a.key < b.key }),
		bindings:    tree(func(a, b *BindingRule) bool { return a.ID < b.ID }),
	}
}

func byExpiry(a, b *api.SealedToken) bool {
	if !a.ExpirationTime.Equal(*b.ExpirationTime) {
		return a.ExpirationTime.Before(*b.ExpirationTime)
	}
	return a.AccessorID < b.AccessorID
}

// next gives tables that the writer may change without touching a.
func (a acls) next() *acls {
	a.tokens, a.secrets, a.expiring = a.tokens.Copy(), a.secrets.Copy(), a.expiring.Copy()
	a.policies, a.policyNames = a.policies.Copy(), a.policyNames.Copy()
	a.roles, a.roleNames = a.roles.Copy(), a.roleNames.Copy()
	a.methods, a.bindings = a.methods.Copy(), a.bindings.Copy()
	return &a
}

// ACL gives what belongs to all ACLs.
func (st *State) ACL() ACLHead { return st.acl.head }

// TokenByAccessor gives a token, nil if there is none.
func (st *State) TokenByAccessor(id string) *api.SealedToken {
	t, _ := st.acl.tokens.Get(&api.SealedToken{Token: api.Token{AccessorID: id}})
	return t
}

// TokenByHash gives the token with a secret's hash, nil if there is none.
func (st *State) TokenByHash(hash string) *api.SealedToken {
	t, _ := st.acl.secrets.Get(&api.SealedToken{SecretHash: hash})
	return t
}

// ACLTokens gives all tokens by accessor.
func (st *State) ACLTokens() []*api.SealedToken { return st.acl.tokens.Items() }

// ExpiredTokens gives at most limit accessors of tokens whose time is over at now.
func (st *State) ExpiredTokens(now time.Time, limit int) []string {
	var out []string
	st.acl.expiring.Scan(func(t *api.SealedToken) bool {
		if !t.Expired(now) || len(out) == limit {
			return false
		}
		out = append(out, t.AccessorID)
		return true
	})
	return out
}

// ACLPolicy gives a policy, nil if there is none.
func (st *State) ACLPolicy(id string) *Policy {
	p, _ := st.acl.policies.Get(&Policy{Policy: api.Policy{ID: id}})
	return p
}

// ACLPolicyByName gives a policy by its name in any case, nil if there is none.
func (st *State) ACLPolicyByName(name string) *Policy {
	p, _ := st.acl.policyNames.Get(&Policy{key: strings.ToLower(name)})
	return p
}

// ACLPolicies gives all policies by id.
func (st *State) ACLPolicies() []*Policy { return st.acl.policies.Items() }

// ACLRole gives a role, nil if there is none.
func (st *State) ACLRole(id string) *Role {
	r, _ := st.acl.roles.Get(&Role{Role: api.Role{ID: id}})
	return r
}

// ACLRoleByName gives a role by its name in any case, nil if there is none.
func (st *State) ACLRoleByName(name string) *Role {
	r, _ := st.acl.roleNames.Get(&Role{key: strings.ToLower(name)})
	return r
}

// ACLRoles gives all roles by id.
func (st *State) ACLRoles() []*Role { return st.acl.roles.Items() }

// ACLAuthMethod gives an auth method by its name in any case, nil if there is none.
func (st *State) ACLAuthMethod(name string) *AuthMethod {
	m, _ := st.acl.methods.Get(&AuthMethod{key: strings.ToLower(name)})
	return m
}

// ACLAuthMethods gives all auth methods by name.
func (st *State) ACLAuthMethods() []*AuthMethod { return st.acl.methods.Items() }

// ACLBindingRule gives a binding rule, nil if there is none.
func (st *State) ACLBindingRule(id string) *BindingRule {
	r, _ := st.acl.bindings.Get(&BindingRule{api.BindingRule{ID: id}})
	return r
}

// ACLBindingRules gives the binding rules of an auth method by id, of all for "".
func (st *State) ACLBindingRules(method string) []*BindingRule {
	var out []*BindingRule
	st.acl.bindings.Scan(func(r *BindingRule) bool {
		if method == "" || strings.EqualFold(r.AuthMethod, method) {
			out = append(out, r)
		}
		return true
	})
	return out
}

// PolicyLinks gives links with the names that policies have now, without those that are
// gone.
func (st *State) PolicyLinks(links []api.Link) []api.Link {
	return present(links, func(id string) string {
		if p := st.ACLPolicy(id); p != nil {
			return p.Name
		}
		return ""
	})
}

// RoleLinks is PolicyLinks of roles.
func (st *State) RoleLinks(links []api.Link) []api.Link {
	return present(links, func(id string) string {
		if r := st.ACLRole(id); r != nil {
			return r.Name
		}
		return ""
	})
}

func present(links []api.Link, name func(id string) string) []api.Link {
	var out []api.Link
	for _, l := range links {
		if n := name(l.ID); n != "" {
			out = append(out, api.Link{ID: l.ID, Name: n})
		}
	}
	return out
}
