// Package acl says who may do what: it reads policies, in today's syntax and in that of
// before 1.4, and merges those of one token into an Authorizer that answers questions.
// It is pure: it knows no tokens' storage, no network and no time. endpoint asks it
// for every operation, the agent for what it keeps itself.
//
// Within one token a rule for an exact name beats rules for prefixes, the longest prefix
// beats shorter ones, and of several policies' rules for the same name or prefix the
// first of deny, write, list, read counts. Where no rule speaks, the cluster's default
// policy does, except for the resource acl, which is never given away by default.
package acl

import "fmt"

// Resource is a kind of thing that rights are about.
type Resource string

// The resources. ACL, Keyring and Operator have no names within; Agent and Node are
// named by the node, Session by the node it is bound to.
const (
	ACL      Resource = "acl"
	Agent    Resource = "agent"
	Event    Resource = "event"
	Key      Resource = "key"
	Keyring  Resource = "keyring"
	Node     Resource = "node"
	Operator Resource = "operator"
	Query    Resource = "query"
	Service  Resource = "service"
	Session  Resource = "session"
)

// scalars are the resources without names; a rule of theirs is `operator = "read"`.
var scalars = map[Resource]bool{ACL: true, Keyring: true, Operator: true}

// named are the resources whose rules bear a name or, with _prefix, the begin of one.
var named = map[Resource]bool{Agent: true, Event: true, Key: true, Node: true, Query: true, Service: true, Session: true}

// Access is what a rule gives, or what an operation needs. Each includes those before it.
type Access uint8

// The accesses. List is for keys alone: it lets one list what is below a prefix.
const (
	Unset Access = iota // no rule speaks
	Deny
	Read
	List
	Write
)

var words = [...]string{Unset: "", Deny: "deny", Read: "read", List: "list", Write: "write"}

// String gives the word of a policy's text.
func (a Access) String() string {
	if int(a) < len(words) {
		return words[a]
	}
	return fmt.Sprintf("access %d", uint8(a))
}

// accessOf reads a policy's word.
func accessOf(word string, res Resource) (Access, bool) {
	for a := Deny; a <= Write; a++ {
		if words[a] == word && (a != List || res == Key) {
			return a, true
		}
	}
	return Unset, false
}

// stronger reports whether a counts where a and b are said of the same.
func stronger(a, b Access) bool {
	if a == Deny || b == Deny {
		return a == Deny
	}
	return a > b
}

// Rule is one sentence of a policy. Prefix tells whether Name is the begin of names.
type Rule struct {
	Resource Resource
	Name     string
	Prefix   bool
	Access   Access
}

// Policy is a policy's rules, in their order in the text.
type Policy []Rule

// Known reports whether res is a resource.
func Known(res Resource) bool { return scalars[res] || named[res] }
