package store

import (
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// ACLRecord is a row of the ACL tables in a snapshot; exactly one of its pointers is set.
type ACLRecord struct {
	Head        *ACLHead         `codec:",omitempty"`
	Token       *api.SealedToken `codec:",omitempty"`
	Policy      *api.Policy      `codec:",omitempty"`
	Role        *api.Role        `codec:",omitempty"`
	AuthMethod  *api.AuthMethod  `codec:",omitempty"`
	BindingRule *api.BindingRule `codec:",omitempty"`
}

// records gives every row; nothing where ACLs were never set up.
func (a *acls) records(pass func(*Record) bool) {
	if a.head.Key == nil {
		return
	}
	one := func(r ACLRecord) bool { return pass(&Record{ACL: &r}) }
	head := a.head
	if !one(ACLRecord{Head: &head}) {
		return
	}
	a.policies.Scan(func(p *Policy) bool { return one(ACLRecord{Policy: &p.Policy}) })
	a.roles.Scan(func(r *Role) bool { return one(ACLRecord{Role: &r.Role}) })
	a.tokens.Scan(func(t *api.SealedToken) bool { return one(ACLRecord{Token: t}) })
	a.methods.Scan(func(m *AuthMethod) bool { return one(ACLRecord{AuthMethod: &m.AuthMethod}) })
	a.bindings.Scan(func(r *BindingRule) bool { return one(ACLRecord{BindingRule: &r.BindingRule}) })
}

// addACL takes one record.
func (b *Builder) addACL(r *ACLRecord) {
	a := b.tx.acls()
	switch {
	case r.Head != nil:
		a.head = *r.Head
	case r.Token != nil:
		b.tx.setToken(r.Token)
	case r.Policy != nil:
		p := &Policy{Policy: *r.Policy, key: strings.ToLower(r.Policy.Name)}
		a.policies.Set(p)
		a.policyNames.Set(p)
	case r.Role != nil:
		row := &Role{Role: *r.Role, key: strings.ToLower(r.Role.Name)}
		a.roles.Set(row)
		a.roleNames.Set(row)
	case r.AuthMethod != nil:
		a.methods.Set(&AuthMethod{AuthMethod: *r.AuthMethod, key: strings.ToLower(r.AuthMethod.Name)})
	case r.BindingRule != nil:
		a.bindings.Set(&BindingRule{*r.BindingRule})
	}
}
