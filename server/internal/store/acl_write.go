package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// Mode says what a write of something with an id expects.
type Mode uint8

// The modes.
const (
	Upsert Mode = 0 // it may be there or not
	Create Mode = 1 // it is not
	Update Mode = 2 // it is
)

// acls gives the tables of ACLs to change. The first call of a transaction copies them:
// most transactions never do.
func (t *Tx) acls() *acls {
	if !t.ownACLs {
		t.st.acl, t.ownACLs = t.st.acl.next(), true
	}
	return t.st.acl
}

// SetUpACL gives ACLs their key and what every cluster has. What is there already stays,
// the key above all: what was sealed with another one is refused.
func (t *Tx) SetUpACL(key []byte, policies []api.Policy, tokens []api.SealedToken) error {
	if have := t.st.acl.head.Key; have != nil && !bytes.Equal(have, key) {
		return api.Errorf(api.Conflict, "ACLs have been set up with another key")
	}
	t.acls().head.Key = key
	for i := range policies {
		if t.st.ACLPolicy(policies[i].ID) == nil {
			if err := t.SetPolicy(&policies[i], Create); err != nil {
				return err
			}
		}
	}
	for i := range tokens {
		if t.st.TokenByAccessor(tokens[i].AccessorID) == nil && t.st.TokenByHash(tokens[i].SecretHash) == nil {
			if err := t.SetToken(&tokens[i], Create); err != nil {
				return err
			}
		}
	}
	return nil
}

// BootstrapACL adds the first management token. A second one is refused unless reset is
// the index at which the last one was made.
func (t *Tx) BootstrapACL(tok *api.SealedToken, reset uint64) error {
	if was := t.st.acl.head.Bootstrapped; was != 0 && reset != was {
		return api.Errorf(api.Forbidden, "Permission denied: ACL bootstrap no longer allowed (reset index: %d)", was)
	}
	if err := t.SetToken(tok, Create); err != nil {
		return err
	}
	t.acls().head.Bootstrapped = t.index
	return nil
}

// MarkBootstrapped notes that a management token came from the configuration.
func (t *Tx) MarkBootstrapped() {
	if t.st.acl.head.Bootstrapped == 0 {
		t.acls().head.Bootstrapped = t.index
	}
}

// contentHash is what clients compare to see whether something changed.
func contentHash(parts ...any) []byte {
	h := sha256.New()
	e := json.NewEncoder(h)
	for _, p := range parts {
		_ = e.Encode(p) // strings, numbers and lists of them: there is no error
	}
	return h.Sum(nil)
}

// SetToken writes a token. Its links are resolved: by id, else by name.
func (t *Tx) SetToken(def *api.SealedToken, mode Mode) error {
	next := *def
	next.SecretID, next.ExpirationTTL = "", 0
	cur := t.st.TokenByAccessor(next.AccessorID)
	switch {
	case cur != nil && mode == Create:
		return api.Errorf(api.Internal, "Invalid Token: AccessorID is already in use")
	case cur == nil && mode == Update:
		return api.Errorf(api.Internal, "Cannot find token %q", next.AccessorID)
	}
	if other := t.st.TokenByHash(next.SecretHash); other != nil && other.AccessorID != next.AccessorID {
		return api.Errorf(api.Internal, "Invalid Token: SecretID is already in use")
	}
	var err error
	if next.Policies, err = t.policyIDs(next.Policies); err != nil {
		return err
	}
	if next.Roles, err = t.roleIDs(next.Roles); err != nil {
		return err
	}
	next.CreateIndex, next.ModifyIndex = t.index, t.index
	next.Hash = contentHash(next.Description, ids(next.Policies), ids(next.Roles), next.ServiceIdentities, next.NodeIdentities, next.Rules)
	if cur != nil {
		next.CreateIndex = cur.CreateIndex
		t.unsetToken(cur)
	}
	t.setToken(&next)
	t.aclChanged(&t.acls().head.Tokens)
	return nil
}

func (t *Tx) setToken(tok *api.SealedToken) {
	t.acls().tokens.Set(tok)
	t.acls().secrets.Set(tok)
	if tok.ExpirationTime != nil {
		t.acls().expiring.Set(tok)
	}
}

func (t *Tx) unsetToken(tok *api.SealedToken) {
	t.acls().tokens.Delete(tok)
	t.acls().secrets.Delete(tok)
	if tok.ExpirationTime != nil {
		t.acls().expiring.Delete(tok)
	}
}

// aclChanged moves a table's index and wakes who reads ACLs.
func (t *Tx) aclChanged(index *uint64) {
	*index = t.index
	t.touch(TopicACL())
}

func ids(links []api.Link) []string {
	out := make([]string, len(links))
	for i, l := range links {
		out[i] = l.ID
	}
	return out
}

func (t *Tx) policyIDs(links []api.Link) ([]api.Link, error) {
	return resolve(links, "policy",
		func(id string) (string, bool) {
			p := t.st.ACLPolicy(id)
			return id, p != nil
		},
		func(name string) (string, bool) {
			if p := t.st.ACLPolicyByName(name); p != nil {
				return p.ID, true
			}
			return "", false
		})
}

func (t *Tx) roleIDs(links []api.Link) ([]api.Link, error) {
	return resolve(links, "role",
		func(id string) (string, bool) {
			r := t.st.ACLRole(id)
			return id, r != nil
		},
		func(name string) (string, bool) {
			if r := t.st.ACLRoleByName(name); r != nil {
				return r.ID, true
			}
			return "", false
		})
}

// resolve turns links into ids, each once.
func resolve(links []api.Link, what string, byID, byName func(string) (string, bool)) ([]api.Link, error) {
	var out []api.Link
	seen := map[string]bool{}
	for _, l := range links {
		id, ok := "", false
		if l.ID != "" {
			if id, ok = byID(strings.ToLower(l.ID)); !ok {
				return nil, api.Errorf(api.Internal, "No such ACL %s with ID %q", what, l.ID)
			}
		} else if id, ok = byName(l.Name); !ok {
			return nil, api.Errorf(api.Internal, "No such ACL %s with name %q", what, l.Name)
		}
		if !seen[id] {
			seen[id] = true
			out = append(out, api.Link{ID: id})
		}
	}
	return out, nil
}

// SetPolicy writes a policy.
func (t *Tx) SetPolicy(def *api.Policy, mode Mode) error {
	next := &Policy{Policy: *def, key: strings.ToLower(def.Name)}
	cur := t.st.ACLPolicy(next.ID)
	switch {
	case cur != nil && mode == Create:
		return api.Errorf(api.Internal, "Invalid Policy: a policy with ID %q exists", next.ID)
	case cur == nil && mode == Update:
		return api.Errorf(api.Internal, "cannot find policy %s", next.ID)
	}
	if other := t.st.ACLPolicyByName(next.Name); other != nil && other.ID != next.ID {
		return api.Errorf(api.Internal, "Invalid Policy: A Policy with Name %q already exists", next.Name)
	}
	next.CreateIndex, next.ModifyIndex = t.index, t.index
	next.Hash = contentHash(next.Name, next.Description, next.Rules, next.Datacenters)
	if cur != nil {
		next.CreateIndex = cur.CreateIndex
		t.acls().policyNames.Delete(cur)
	}
	t.acls().policies.Set(next)
	t.acls().policyNames.Set(next)
	t.aclChanged(&t.acls().head.Policies)
	return nil
}

// SetRole writes a role.
func (t *Tx) SetRole(def *api.Role, mode Mode) error {
	next := &Role{Role: *def, key: strings.ToLower(def.Name)}
	cur := t.st.ACLRole(next.ID)
	switch {
	case cur != nil && mode == Create:
		return api.Errorf(api.Internal, "Invalid Role: a role with ID %q exists", next.ID)
	case cur == nil && mode == Update:
		return api.Errorf(api.Internal, "cannot find role %s", next.ID)
	}
	if other := t.st.ACLRoleByName(next.Name); other != nil && other.ID != next.ID {
		return api.Errorf(api.Internal, "Invalid Role: A Role with Name %q already exists", next.Name)
	}
	var err error
	if next.Policies, err = t.policyIDs(next.Policies); err != nil {
		return err
	}
	next.CreateIndex, next.ModifyIndex = t.index, t.index
	next.Hash = contentHash(next.Name, next.Description, ids(next.Policies), next.ServiceIdentities, next.NodeIdentities)
	if cur != nil {
		next.CreateIndex = cur.CreateIndex
		t.acls().roleNames.Delete(cur)
	}
	t.acls().roles.Set(next)
	t.acls().roleNames.Set(next)
	t.aclChanged(&t.acls().head.Roles)
	return nil
}

// SetAuthMethod writes an auth method.
func (t *Tx) SetAuthMethod(def *api.AuthMethod, mode Mode) error {
	next := &AuthMethod{AuthMethod: *def, key: strings.ToLower(def.Name)}
	cur := t.st.ACLAuthMethod(next.Name)
	switch {
	case cur != nil && mode == Create:
		return api.Errorf(api.Internal, "Invalid Auth Method: An Auth Method with Name %q already exists", next.Name)
	case cur == nil && mode == Update:
		return api.Errorf(api.Internal, "cannot find auth method with name %q", next.Name)
	case cur != nil && cur.Type != next.Type:
		return api.Errorf(api.Internal, "Changing an auth method's type from %q to %q is not permitted", cur.Type, next.Type)
	}
	next.CreateIndex, next.ModifyIndex = t.index, t.index
	if cur != nil {
		next.CreateIndex = cur.CreateIndex
	}
	t.acls().methods.Set(next)
	t.aclChanged(&t.acls().head.AuthMethods)
	return nil
}

// SetBindingRule writes a binding rule of an auth method that is there.
func (t *Tx) SetBindingRule(def *api.BindingRule, mode Mode) error {
	next := &BindingRule{*def}
	cur := t.st.ACLBindingRule(next.ID)
	method := t.st.ACLAuthMethod(next.AuthMethod)
	switch {
	case cur != nil && mode == Create:
		return api.Errorf(api.Internal, "Invalid Binding Rule: a rule with ID %q exists", next.ID)
	case cur == nil && mode == Update:
		return api.Errorf(api.Internal, "cannot find binding rule %s", next.ID)
	case cur != nil && !strings.EqualFold(cur.AuthMethod, next.AuthMethod):
		return api.Errorf(api.Internal, "the AuthMethod field of an Binding Rule is immutable")
	case method == nil:
		return api.Errorf(api.Internal, "cannot find auth method with name %q", next.AuthMethod)
	}
	next.AuthMethod = method.Name
	next.CreateIndex, next.ModifyIndex = t.index, t.index
	if cur != nil {
		next.CreateIndex = cur.CreateIndex
	}
	t.acls().bindings.Set(next)
	t.aclChanged(&t.acls().head.BindingRules)
	return nil
}

// DeleteToken removes a token, if it is there.
func (t *Tx) DeleteToken(accessor string) {
	if cur := t.st.TokenByAccessor(accessor); cur != nil {
		t.unsetToken(cur)
		t.aclChanged(&t.acls().head.Tokens)
	}
}

// DeletePolicy removes a policy, if it is there. Links to it are passed over from then on.
func (t *Tx) DeletePolicy(id string) {
	if cur := t.st.ACLPolicy(id); cur != nil {
		t.acls().policies.Delete(cur)
		t.acls().policyNames.Delete(cur)
		t.aclChanged(&t.acls().head.Policies)
	}
}

// DeleteRole removes a role, if it is there. Links to it are passed over from then on.
func (t *Tx) DeleteRole(id string) {
	if cur := t.st.ACLRole(id); cur != nil {
		t.acls().roles.Delete(cur)
		t.acls().roleNames.Delete(cur)
		t.aclChanged(&t.acls().head.Roles)
	}
}

// DeleteAuthMethod removes an auth method with its binding rules and the tokens that were
// made over it.
func (t *Tx) DeleteAuthMethod(name string) {
	cur := t.st.ACLAuthMethod(name)
	if cur == nil {
		return
	}
	for _, r := range t.st.ACLBindingRules(cur.Name) {
		t.DeleteBindingRule(r.ID)
	}
	for _, tok := range t.st.ACLTokens() {
		if strings.EqualFold(tok.AuthMethod, cur.Name) {
			t.DeleteToken(tok.AccessorID)
		}
	}
	t.acls().methods.Delete(cur)
	t.aclChanged(&t.acls().head.AuthMethods)
}

// DeleteBindingRule removes a binding rule, if it is there.
func (t *Tx) DeleteBindingRule(id string) {
	if cur := t.st.ACLBindingRule(id); cur != nil {
		t.acls().bindings.Delete(cur)
		t.aclChanged(&t.acls().head.BindingRules)
	}
}
