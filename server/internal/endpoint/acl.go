package endpoint

import (
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
)

// ACLs says how a server enforces them. The zero value is off: everybody may do all.
type ACLs struct {
	Enabled bool
	// DefaultAllow is the default policy: what holds where no rule of a token speaks.
	DefaultAllow bool
	// KeyList makes listing keys a right of its own (enable_key_list_policy).
	KeyList bool
	// ResetIndex gives the index that an operator has written into the reset file, which
	// allows another bootstrap, 0 where there is none; nil is none ever.
	ResetIndex func() uint64
	// NoBootstrap refuses a bootstrap over the API.
	NoBootstrap bool
	// Primary is the datacenter that keeps the ACLs, "" for this one. With Replicate tokens are
	// copied from there, as ReplicationToken allows; without, Down says what holds while it
	// does not answer what a token may, and TokenTTL for how long an answer holds.
	Primary          string
	Replicate        bool
	ReplicationToken func() string
	Down             Down
	TokenTTL         time.Duration
	// Login exchanges credentials for what a token shall be given; nil refuses all.
	Login Login
}

// needs says of every kind of read what its asker must hold before anything is read. A kind
// that needs nothing shows what its asker may see and leaves out the rest; a kind that is
// not here is refused. TestEveryOperation holds the table to the kinds there are.
var needs = map[Kind]func(h *acl.Holder, q *Query, a *ACLs) error{
	Datacenters:   nothing,
	Nodes:         nothing,
	Services:      nothing,
	ServiceNodes:  nothing,
	InstancesAt:   nothing,
	NodeServices:  nothing,
	NodeList:      nothing,
	NodeAge:       nothing, // it tells that something happened, not what
	HealthNode:    nothing,
	HealthChecks:  nothing,
	HealthState:   nothing,
	HealthService: nothing,
	Leader:        nothing,
	Peers:         nothing,
	KVGet:         func(h *acl.Holder, q *Query, _ *ACLs) error { return h.Require(acl.Key, q.Name, acl.Read) },
	KVList:        listKeys,
	KVKeys:        listKeys,
	Raft:          scalar(acl.Operator, acl.Read),

	RaftStanding:    nothing, // servers ask each other
	AutopilotConfig: scalar(acl.Operator, acl.Read),
	AutopilotHealth: scalar(acl.Operator, acl.Read),
	AutopilotState:  scalar(acl.Operator, acl.Read),
	Usage:           scalar(acl.Operator, acl.Read),
	UINodes:         nothing,
	UINode:          nothing,
	UIServices:      nothing,
	UIOverview:      nothing,

	QueryList:    nothing,
	QueryGet:     nothing, // readQueries asks, once it knows the name
	QueryExecute: nothing,
	QueryExplain: nothing, // execute asks, once it knows the name
	QueryRemote:  nothing,

	CoordinateNodes:       nothing,
	CoordinateNode:        func(h *acl.Holder, q *Query, _ *ACLs) error { return h.Require(acl.Node, q.Name, acl.Read) },
	CoordinateDatacenters: nothing,

	SessionList:  nothing,
	SessionNode:  nothing,
	SessionInfo:  nothing,
	SessionRenew: nothing, // renew asks, once it knows the node
	TxnRead:      nothing,

	ACLTokens:       scalar(acl.ACL, acl.Read),
	ACLToken:        ownOrACL,
	ACLTokenFull:    ownOrACL,
	ACLTokenSelf:    nothing, // whoever asks has it
	ACLPolicies:     scalar(acl.ACL, acl.Read),
	ACLPolicy:       scalar(acl.ACL, acl.Read),
	ACLPolicyNamed:  scalar(acl.ACL, acl.Read),
	ACLRoles:        scalar(acl.ACL, acl.Read),
	ACLRole:         scalar(acl.ACL, acl.Read),
	ACLRoleNamed:    scalar(acl.ACL, acl.Read),
	ACLAuthMethods:  scalar(acl.ACL, acl.Read),
	ACLAuthMethod:   scalar(acl.ACL, acl.Read),
	ACLBindingRules: scalar(acl.ACL, acl.Read),
	ACLBindingRule:  scalar(acl.ACL, acl.Read),
	ACLLegacyList:   scalar(acl.ACL, acl.Write),
	ACLLegacyInfo:   nothing, // whoever asks has the secret
	ACLResolve:      nothing, // it tells the asker of the asker
	ACLReplication:  nothing, // as with Consul: it shows no names
}

// ownOrACL lets everybody read the own token.
func ownOrACL(h *acl.Holder, q *Query, _ *ACLs) error {
	if q.Name == h.Accessor && !h.Anonymous() {
		return nil
	}
	return h.Require(acl.ACL, "", acl.Read)
}

func nothing(*acl.Holder, *Query, *ACLs) error { return nil }

func scalar(res acl.Resource, want acl.Access) func(*acl.Holder, *Query, *ACLs) error {
	return func(h *acl.Holder, _ *Query, _ *ACLs) error { return h.Require(res, "", want) }
}

func listKeys(h *acl.Holder, q *Query, a *ACLs) error {
	if a.KeyList && !h.AllowedList(q.Name) {
		return h.Lacks(acl.Key, q.Name, acl.List)
	}
	return nil
}

// mayRead gives who asks q, nil where ACLs are off, or the error of one who may not.
func (l *Local) mayRead(q *Query) (*acl.Holder, error) {
	if !l.cfg.ACLs.Enabled {
		return nil, nil
	}
	h, err := l.holder(q.Token)
	if err != nil {
		return nil, err
	}
	need := needs[q.Kind]
	if need == nil {
		return nil, api.Errorf(api.Forbidden, "Permission denied: nobody may ask %q of this server", q.Kind)
	}
	return h, need(h, q, &l.cfg.ACLs)
}
