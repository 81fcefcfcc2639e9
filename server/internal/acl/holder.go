package acl

import (
	"fmt"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// AnonymousID is the accessor of the token that stands for requests without one.
const AnonymousID = "00000000-0000-0000-0000-000000000002"

// Holder is whoever presents a token: what they may, and how they are named in an error.
type Holder struct {
	*Authorizer
	// Accessor names the token without giving it away; "" where ACLs are off.
	Accessor string
	// Local is of tokens that hold in one datacenter.
	Local bool
}

// Unbound is the holder of every right: where ACLs are off.
func Unbound() *Holder { return &Holder{Authorizer: Everything()} }

// Anonymous reports whether no token was presented.
func (h *Holder) Anonymous() bool { return h.Accessor == AnonymousID }

// Require gives nil where h may do want with what is called name, else an error that says
// which token lacks which right on what.
func (h *Holder) Require(res Resource, name string, want Access) error {
	if h.Allowed(res, name, want) {
		return nil
	}
	return h.Lacks(res, name, want)
}

// RequireTree is Require for everything whose name begins with prefix.
func (h *Holder) RequireTree(res Resource, prefix string, want Access) error {
	if h.AllowedTree(res, prefix, want) {
		return nil
	}
	return h.lacks(string(res), "everything that begins with "+quote(prefix), want)
}

// Lacks is the error of a right that h does not have.
func (h *Holder) Lacks(res Resource, name string, want Access) error {
	on := ""
	if named[res] {
		on = quote(name)
	}
	return h.lacks(string(res), on, want)
}

func quote(name string) string { return `"` + strings.ToValidUTF8(name, "�") + `"` }

// lacks words the error as Consul does from 1.12 on, for clients that look for its parts.
func (h *Holder) lacks(res, on string, want Access) error {
	if on != "" {
		on = " on " + on
	}
	who := fmt.Sprintf("token with AccessorID '%s'", h.Accessor)
	more := ""
	if h.Anonymous() {
		who = "anonymous token"
		more = ". The anonymous token is used implicitly when a request does not specify a token."
	}
	return api.Errorf(api.Forbidden, "Permission denied: %s lacks permission '%s:%s'%s%s", who, res, want, on, more)
}
