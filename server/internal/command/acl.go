package command

import (
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// The kinds of command about ACLs.
const (
	OpACLSetUp     Op = 32
	OpACLSet       Op = 33
	OpACLDelete    Op = 34
	OpACLBootstrap Op = 35
	OpACLLogin     Op = 36
	OpACLLogout    Op = 37
)

// newACL gives an empty command about ACLs, nil where op is none.
func newACL(op Op) Command {
	switch op {
	case OpACLSetUp:
		return &ACLSetUp{}
	case OpACLSet:
		return &ACLSet{}
	case OpACLDelete:
		return &ACLDelete{}
	case OpACLBootstrap:
		return &ACLBootstrap{}
	case OpACLLogin:
		return &ACLLogin{}
	case OpACLLogout:
		return &ACLLogout{}
	}
	return nil
}

// ACLSetUp gives ACLs their key and what every cluster has, unless that is there.
type ACLSetUp struct {
	Key      []byte
	Policies []api.Policy
	Tokens   []api.SealedToken
	// Managed tells that one of Tokens is a management token.
	Managed bool
}

// Op is OpACLSetUp.
func (*ACLSetUp) Op() Op { return OpACLSetUp }

// Exclusive is true.
func (*ACLSetUp) Exclusive() bool { return true }

// Keys is empty.
func (*ACLSetUp) Keys() []string { return nil }

// Mode says what a write of something with an id expects to find.
type Mode uint8

// The modes.
const (
	Upsert Mode = 0 // it may be there or not
	Create Mode = 1 // it is not there
	Update Mode = 2 // it is there
)

// ACLSet writes one thing; exactly one of its pointers is set. On its way to the leader a
// token bears its secret plain, if it has one; in the log it is sealed.
type ACLSet struct {
	Mode   Mode
	Token  *api.SealedToken
	Policy *api.Policy
	Role   *api.Role
	Method *api.AuthMethod
	Rule   *api.BindingRule
}

// Op is OpACLSet.
func (*ACLSet) Op() Op { return OpACLSet }

// Exclusive is false.
func (*ACLSet) Exclusive() bool { return false }

// Keys is what is written.
func (s *ACLSet) Keys() []string {
	switch {
	case s.Token != nil:
		return []string{"acl/token/" + s.Token.AccessorID}
	case s.Policy != nil:
		return []string{"acl/policy/" + s.Policy.ID}
	case s.Role != nil:
		return []string{"acl/role/" + s.Role.ID}
	case s.Method != nil:
		return []string{"acl/method/" + strings.ToLower(s.Method.Name)}
	case s.Rule != nil:
		return []string{"acl/rule/" + s.Rule.ID}
	}
	return nil
}

// ACLDelete removes what is named: by accessor, id, or, of auth methods, by name.
type ACLDelete struct {
	Tokens, Policies, Roles, Methods, Rules []string
}

// Op is OpACLDelete.
func (*ACLDelete) Op() Op { return OpACLDelete }

// Exclusive is true: with an auth method go its rules and tokens.
func (*ACLDelete) Exclusive() bool { return true }

// Keys is empty.
func (*ACLDelete) Keys() []string { return nil }

// ACLBootstrap makes the first management token, or with Reset, the index at which the
// last one was made, another.
type ACLBootstrap struct {
	Token api.SealedToken
	Reset uint64
}

// Op is OpACLBootstrap.
func (*ACLBootstrap) Op() Op { return OpACLBootstrap }

// Exclusive is true.
func (*ACLBootstrap) Exclusive() bool { return true }

// Keys is empty.
func (*ACLBootstrap) Keys() []string { return nil }

// ACLLogin exchanges what an auth method accepts for a token with the given ids. It is
// never in the log: the leader turns it into an ACLSet.
type ACLLogin struct {
	Method, BearerToken  string
	Meta                 map[string]string
	AccessorID, SecretID string
}

// Op is OpACLLogin.
func (*ACLLogin) Op() Op { return OpACLLogin }

// Exclusive is true.
func (*ACLLogin) Exclusive() bool { return true }

// Keys is empty.
func (*ACLLogin) Keys() []string { return nil }

// ACLLogout removes the token that it comes with, which must be of a login. It is never in
// the log: the leader turns it into an ACLDelete.
type ACLLogout struct{}

// Op is OpACLLogout.
func (*ACLLogout) Op() Op { return OpACLLogout }

// Exclusive is true.
func (*ACLLogout) Exclusive() bool { return true }

// Keys is empty.
func (*ACLLogout) Keys() []string { return nil }
