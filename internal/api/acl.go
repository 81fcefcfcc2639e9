package api

import (
	"encoding/json"
	"regexp"
	"time"
)

// Link refers to a policy or role, by id, by name, or both.
type Link struct {
	ID   string
	Name string
}

// ServiceIdentity gives a token what an instance of a service needs, in all datacenters
// or in those named.
type ServiceIdentity struct {
	ServiceName string
	Datacenters []string `json:",omitempty"`
}

// NodeIdentity gives a token what an agent needs, in one datacenter.
type NodeIdentity struct {
	NodeName   string
	Datacenter string
}

// Token is an ACL token. SecretID is what its bearer presents, AccessorID what it is
// called. ExpirationTTL is for creation only; it becomes ExpirationTime.
type Token struct {
	AccessorID        string
	SecretID          string
	Description       string
	Policies          []Link            `json:",omitempty"`
	Roles             []Link            `json:",omitempty"`
	ServiceIdentities []ServiceIdentity `json:",omitempty"`
	NodeIdentities    []NodeIdentity    `json:",omitempty"`
	Local             bool
	AuthMethod        string     `json:",omitempty"`
	ExpirationTTL     Duration   `json:",omitempty"`
	ExpirationTime    *time.Time `json:",omitempty"`
	CreateTime        time.Time
	Hash              []byte
	CreateIndex       uint64
	ModifyIndex       uint64
	// Rules and Legacy are of tokens made over the API of before 1.4, which carry their
	// rules themselves, in that time's syntax.
	Rules  string `json:",omitempty"`
	Legacy bool   `json:",omitempty"`
}

// SealedToken is a token as it is stored: its SecretID is empty, the secret is there as a
// keyed hash, by which the token is found, and sealed, for those who may read it again.
type SealedToken struct {
	Token
	SecretHash string
	Sealed     []byte
}

// Expired reports whether the token's time is over at now.
func (t *Token) Expired(now time.Time) bool {
	return t.ExpirationTime != nil && !t.ExpirationTime.After(now)
}

// Policy is a set of rules with a name.
type Policy struct {
	ID          string
	Name        string
	Description string
	Rules       string
	// Datacenters, where there are some, are the only ones that it holds in.
	Datacenters []string `json:",omitempty"`
	Hash        []byte
	CreateIndex uint64
	ModifyIndex uint64
}

// PolicyEntry is a policy as lists show it.
type PolicyEntry struct {
	ID          string
	Name        string
	Description string
	Datacenters []string
	Hash        []byte
	CreateIndex uint64
	ModifyIndex uint64
}

// Role is a set of policies and identities with a name.
type Role struct {
	ID                string
	Name              string
	Description       string
	Policies          []Link            `json:",omitempty"`
	ServiceIdentities []ServiceIdentity `json:",omitempty"`
	NodeIdentities    []NodeIdentity    `json:",omitempty"`
	Hash              []byte
	CreateIndex       uint64
	ModifyIndex       uint64
}

// AuthMethod is a way to exchange credentials of others for a token. Config is the type's
// own, as JSON.
type AuthMethod struct {
	Name          string
	Type          string
	DisplayName   string   `json:",omitempty"`
	Description   string   `json:",omitempty"`
	MaxTokenTTL   Duration `json:",omitempty"`
	TokenLocality string   `json:",omitempty"`
	Config        json.RawMessage
	CreateIndex   uint64
	ModifyIndex   uint64
}

// AuthMethodEntry is an auth method as lists show it.
type AuthMethodEntry struct {
	Name          string
	Type          string
	DisplayName   string   `json:",omitempty"`
	Description   string   `json:",omitempty"`
	MaxTokenTTL   Duration `json:",omitempty"`
	TokenLocality string   `json:",omitempty"`
	CreateIndex   uint64
	ModifyIndex   uint64
}

// BindingRule says what a login over an auth method is given, if Selector holds of who
// logs in. BindName may have parts like ${value.name}.
type BindingRule struct {
	ID          string
	Description string
	AuthMethod  string
	Selector    string
	BindType    string
	BindName    string
	CreateIndex uint64
	ModifyIndex uint64
}

// What a binding rule may bind to.
const (
	BindService = "service"
	BindNode    = "node"
	BindRole    = "role"
	BindPolicy  = "policy"
)

// Errors of ACLs that clients match by text.
var (
	// ErrACLNotFound: there is no such token.
	ErrACLNotFound = &Error{Forbidden, "ACL not found"}
	// ErrACLDisabled: ACLs are off.
	ErrACLDisabled = &Error{Unauthorized, "ACL support disabled"}
)

var (
	aclName     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	builtinName = regexp.MustCompile(`^[A-Za-z0-9_/-]{1,128}$`)
	identName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$`)
)

// ValidACLName checks the name of a policy, role, auth method: what says which.
func ValidACLName(what, name string, builtin bool) error {
	switch {
	case name == "":
		return Errorf(Internal, "Invalid %s: no Name is set", what)
	case builtin && builtinName.MatchString(name):
	case !aclName.MatchString(name):
		return Errorf(Internal, "Invalid %s: invalid Name. Only alphanumeric characters, '-' and '_' are allowed", what)
	}
	return nil
}

// ValidIdentities checks the identities of a token or role: on says which.
func ValidIdentities(services []ServiceIdentity, nodes []NodeIdentity, on string) error {
	for _, s := range services {
		switch {
		case s.ServiceName == "":
			return Errorf(Internal, "Service identity is missing the service name field on this %s", on)
		case len(s.ServiceName) > 256 || !identName.MatchString(s.ServiceName):
			return Errorf(Internal, "Service identity %q has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed", s.ServiceName)
		}
	}
	for _, n := range nodes {
		switch {
		case n.NodeName == "":
			return Errorf(Internal, "Node identity is missing the node name field on this %s", on)
		case n.Datacenter == "":
			return Errorf(Internal, "Node identity is missing the datacenter field on this %s", on)
		case len(n.NodeName) > 256 || !identName.MatchString(n.NodeName):
			return Errorf(Internal, "Node identity has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed")
		}
	}
	return nil
}
