package endpoint

import (
	"cmp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/store"
)

// The kinds of read about ACLs. Beside each: what Name means, and the type of the answer.
const (
	ACLTokens       Kind = "acl.tokens"         // - , []*api.Token; Args policy, role, authmethod, servicename
	ACLToken        Kind = "acl.token"          // accessor, *api.Token
	ACLTokenFull    Kind = "acl.token.expanded" // accessor, *ExpandedToken
	ACLTokenSelf    Kind = "acl.token.self"     // - , *api.Token: that of the asker
	ACLPolicies     Kind = "acl.policies"       // - , []*api.PolicyEntry
	ACLPolicy       Kind = "acl.policy"         // id, *api.Policy
	ACLPolicyNamed  Kind = "acl.policy.name"    // name, *api.Policy
	ACLRoles        Kind = "acl.roles"          // - , []*api.Role; Args policy
	ACLRole         Kind = "acl.role"           // id, *api.Role; Found false if missing
	ACLRoleNamed    Kind = "acl.role.name"      // name, *api.Role; Found false if missing
	ACLAuthMethods  Kind = "acl.auth-methods"   // - , []*api.AuthMethodEntry
	ACLAuthMethod   Kind = "acl.auth-method"    // name, *api.AuthMethod; Found false if missing
	ACLBindingRules Kind = "acl.binding-rules"  // auth method or "", []*api.BindingRule
	ACLBindingRule  Kind = "acl.binding-rule"   // id, *api.BindingRule; Found false if missing
	ACLLegacyList   Kind = "acl.list"           // - , []*LegacyToken
	ACLLegacyInfo   Kind = "acl.info"           // secret, []*LegacyToken of at most one
	ACLResolve      Kind = "acl.resolve"        // - , *Resolution of the asker's token
	ACLReplication  Kind = "acl.replication"    // - , *ReplicationStatus of the leader
)

// ExpandedToken is a token with the policies and roles behind its links.
type ExpandedToken struct {
	ExpandedPolicies          []*api.Policy
	ExpandedRoles             []*api.Role
	NamespaceDefaultPolicyIDs []string
	NamespaceDefaultRoleIDs   []string
	AgentACLDefaultPolicy     string
	AgentACLDownPolicy        string
	ResolvedByAgent           string
	api.Token
}

// LegacyToken is a token as the API of before 1.4 knows it: its secret is its id.
type LegacyToken struct {
	ID, Name, Type, Rules    string
	CreateIndex, ModifyIndex uint64
}

// Resolution is what a token gives, for an agent that has to decide by itself.
type Resolution struct {
	Accessor string
	Local    bool
	Allow    bool // the default policy
	Rules    acl.Policy
}

// Holder gives who holds the token.
func (r *Resolution) Holder() *acl.Holder {
	return &acl.Holder{Authorizer: acl.New(r.Allow, r.Rules), Accessor: r.Accessor, Local: r.Local}
}

// hiddenSecret stands where a secret is that the asker may not see.
const hiddenSecret = "<hidden>"

// aclReader answers one kind of read about ACLs, and with which table's index.
type aclReader func(l *Local, q *Query, st *store.State, h *acl.Holder) (value any, index uint64, err error)

var aclReaders = map[Kind]aclReader{
	ACLTokens:    readTokens,
	ACLToken:     readToken,
	ACLTokenFull: readExpanded,
	ACLTokenSelf: readSelf,
	ACLPolicies: func(_ *Local, _ *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		out := []*api.PolicyEntry{}
		for _, p := range st.ACLPolicies() {
			e := api.PolicyEntry{ID: p.ID, Name: p.Name, Description: p.Description, Datacenters: p.Datacenters, Hash: p.Hash, CreateIndex: p.CreateIndex, ModifyIndex: p.ModifyIndex}
			out = append(out, &e)
		}
		return out, st.ACL().Policies, nil
	},
	ACLPolicy: func(_ *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		if err := validUUID("acl policy", q.Name); err != nil {
			return nil, 0, err
		}
		return onePolicy(st, st.ACLPolicy(q.Name))
	},
	ACLPolicyNamed: func(_ *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		return onePolicy(st, st.ACLPolicyByName(q.Name))
	},
	ACLRoles: readRoles,
	ACLRole: func(_ *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		return role(st, st.ACLRole(q.Name)), st.ACL().Roles, nil
	},
	ACLRoleNamed: func(_ *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		return role(st, st.ACLRoleByName(q.Name)), st.ACL().Roles, nil
	},
	ACLAuthMethods: func(_ *Local, _ *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		out := []*api.AuthMethodEntry{}
		for _, m := range st.ACLAuthMethods() {
			out = append(out, &api.AuthMethodEntry{
				Name: m.Name, Type: m.Type, DisplayName: m.DisplayName, Description: m.Description, MaxTokenTTL: m.MaxTokenTTL,
				TokenLocality: m.TokenLocality, CreateIndex: m.CreateIndex, ModifyIndex: m.ModifyIndex,
			})
		}
		return out, st.ACL().AuthMethods, nil
	},
	ACLAuthMethod: func(_ *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		if m := st.ACLAuthMethod(q.Name); m != nil {
			return &m.AuthMethod, st.ACL().AuthMethods, nil
		}
		return nil, st.ACL().AuthMethods, nil
	},
	ACLBindingRules: func(_ *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		out := []*api.BindingRule{}
		for _, r := range st.ACLBindingRules(q.Name) {
			out = append(out, &r.BindingRule)
		}
		return out, st.ACL().BindingRules, nil
	},
	ACLBindingRule: func(_ *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
		if r := st.ACLBindingRule(q.Name); r != nil {
			return &r.BindingRule, st.ACL().BindingRules, nil
		}
		return nil, st.ACL().BindingRules, nil
	},
	ACLLegacyList: readLegacyList,
	ACLLegacyInfo: readLegacyInfo,
	ACLResolve:    readResolution,
	ACLReplication: func(l *Local, _ *Query, _ *store.State, _ *acl.Holder) (any, uint64, error) {
		return l.replicationStatus(), 1, nil
	},
}

// readACL answers a read about ACLs; done is false where q is none. These answers are not
// shared: what they show depends on the asker, and they are seldom asked for.
func (l *Local) readACL(q *Query, st *store.State, h *acl.Holder) (a *Answer, done bool, err error) {
	read := aclReaders[q.Kind]
	if read == nil {
		return nil, false, nil
	}
	if h == nil {
		return nil, true, api.ErrACLDisabled
	}
	value, index, err := read(l, q, st, h)
	if err != nil {
		return nil, true, err
	}
	a = &Answer{Found: value != nil, Value: value, body: &body{encode: func() ([]byte, error) { return marshal(value) }}}
	a.Meta.Index = index
	return a, true, nil
}

// shown gives a token as h may see it.
func (l *Local) shown(st *store.State, t *api.SealedToken, h *acl.Holder) (*api.Token, error) {
	secret := hiddenSecret
	if h.Allowed(acl.ACL, "", acl.Write) || h.Accessor == t.AccessorID {
		seal, err := l.authorizers.sealer(st)
		if err != nil {
			return nil, err
		}
		if secret, err = seal.Open(t.Sealed); err != nil {
			return nil, err
		}
	}
	out := t.Token
	out.SecretID = secret
	out.Policies, out.Roles = st.PolicyLinks(t.Policies), st.RoleLinks(t.Roles)
	return &out, nil
}

func readTokens(l *Local, q *Query, st *store.State, h *acl.Holder) (any, uint64, error) {
	given := 0
	for _, k := range []string{"policy", "role", "authmethod", "servicename"} {
		if q.Args[k] != "" {
			given++
		}
	}
	if given > 1 {
		return nil, 0, api.Errorf(api.Invalid, "can only filter by one of policy, role, authmethod and servicename")
	}
	now := time.Now()
	out := []*api.Token{}
	for _, t := range st.ACLTokens() {
		if t.Expired(now) || !matches(t, q.Args) {
			continue
		}
		v, err := l.shown(st, t, h)
		if err != nil {
			return nil, 0, err
		}
		v.Rules = ""
		out = append(out, v)
	}
	return out, st.ACL().Tokens, nil
}

func matches(t *api.SealedToken, args map[string]string) bool {
	if v := args["policy"]; v != "" && !linked(t.Policies, v) {
		return false
	}
	if v := args["role"]; v != "" && !linked(t.Roles, v) {
		return false
	}
	if v := args["authmethod"]; v != "" && !strings.EqualFold(t.AuthMethod, v) {
		return false
	}
	if v := args["servicename"]; v != "" {
		for _, s := range t.ServiceIdentities {
			if s.ServiceName == v {
				return true
			}
		}
		return false
	}
	return true
}

func linked(links []api.Link, id string) bool {
	for _, l := range links {
		if l.ID == id {
			return true
		}
	}
	return false
}

// byAccessor gives a token that is there and whose time is not over.
func byAccessor(st *store.State, id string) (*api.SealedToken, error) {
	if err := validUUID("acl token", id); err != nil {
		return nil, err
	}
	t := st.TokenByAccessor(id)
	if t == nil || t.Expired(time.Now()) {
		return nil, api.ErrACLNotFound
	}
	return t, nil
}

func readToken(l *Local, q *Query, st *store.State, h *acl.Holder) (any, uint64, error) {
	t, err := byAccessor(st, q.Name)
	if err != nil {
		return nil, 0, err
	}
	v, err := l.shown(st, t, h)
	return v, st.ACL().Tokens, err
}

func readExpanded(l *Local, q *Query, st *store.State, h *acl.Holder) (any, uint64, error) {
	t, err := byAccessor(st, q.Name)
	if err != nil {
		return nil, 0, err
	}
	v, err := l.shown(st, t, h)
	if err != nil {
		return nil, 0, err
	}
	out := &ExpandedToken{Token: *v, ExpandedPolicies: []*api.Policy{}, ExpandedRoles: []*api.Role{}}
	for _, link := range v.Roles {
		r := role(st, st.ACLRole(link.ID)).(*api.Role) // RoleLinks gave it
		out.ExpandedRoles = append(out.ExpandedRoles, r)
	}
	for _, p := range grantsOf(st, &t.Token, l.cfg.Datacenter).policies {
		out.ExpandedPolicies = append(out.ExpandedPolicies, &p.Policy)
	}
	h2 := st.ACL()
	return out, max(h2.Tokens, h2.Policies, h2.Roles), nil
}

func readSelf(l *Local, q *Query, st *store.State, h *acl.Holder) (any, uint64, error) {
	if h.Anonymous() {
		return nil, 0, api.ErrACLNotFound
	}
	t, err := byAccessor(st, h.Accessor)
	if err != nil {
		return nil, 0, err
	}
	v, err := l.shown(st, t, h)
	return v, st.ACL().Tokens, err
}

func onePolicy(st *store.State, p *store.Policy) (any, uint64, error) {
	if p == nil {
		return nil, 0, api.ErrACLNotFound
	}
	return &p.Policy, st.ACL().Policies, nil
}

// role gives a role as it is shown, nil if there is none.
func role(st *store.State, r *store.Role) any {
	if r == nil {
		return nil
	}
	out := r.Role
	out.Policies = st.PolicyLinks(r.Policies)
	return &out
}

func readRoles(_ *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
	out := []any{}
	for _, r := range st.ACLRoles() {
		if v := q.Args["policy"]; v == "" || linked(r.Policies, v) {
			out = append(out, role(st, r))
		}
	}
	return out, st.ACL().Roles, nil
}

func (l *Local) legacy(st *store.State, t *api.SealedToken) (*LegacyToken, error) {
	seal, err := l.authorizers.sealer(st)
	if err != nil {
		return nil, err
	}
	secret, err := seal.Open(t.Sealed)
	if err != nil {
		return nil, err
	}
	out := &LegacyToken{ID: secret, Name: t.Description, Type: "client", Rules: t.Rules, CreateIndex: t.CreateIndex, ModifyIndex: t.ModifyIndex}
	if linked(t.Policies, acl.ManagementID) {
		out.Type = "management"
	}
	return out, nil
}

// readLegacyList shows the tokens that the old API can express.
func readLegacyList(l *Local, _ *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
	out := []*LegacyToken{}
	for _, t := range st.ACLTokens() {
		if t.Expired(time.Now()) || !t.Legacy && !linked(t.Policies, acl.ManagementID) {
			continue
		}
		v, err := l.legacy(st, t)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, v)
	}
	return out, st.ACL().Tokens, nil
}

// readLegacyInfo needs no right: whoever asks has the secret.
func readLegacyInfo(l *Local, q *Query, st *store.State, _ *acl.Holder) (any, uint64, error) {
	out := []*LegacyToken{}
	t, err := l.token(st, q.Name)
	if err == nil && q.Name != "" && (t.Legacy || linked(t.Policies, acl.ManagementID)) {
		v, err := l.legacy(st, t)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, v)
	}
	return out, st.ACL().Tokens, nil
}

func readResolution(l *Local, q *Query, st *store.State, h *acl.Holder) (any, uint64, error) {
	t, err := l.token(st, q.Token)
	if err != nil {
		return nil, 0, err
	}
	policies, err := grantsOf(st, &t.Token, cmp.Or(q.Args[argScope], l.cfg.Datacenter)).rules(&t.Token)
	if err != nil {
		return nil, 0, err
	}
	out := &Resolution{Accessor: h.Accessor, Local: h.Local, Allow: l.cfg.ACLs.DefaultAllow}
	for _, p := range policies {
		out.Rules = append(out.Rules, p...)
	}
	head := st.ACL()
	return out, max(head.Tokens, head.Policies, head.Roles), nil
}

// NewToken gives a token ids of its own where it has none.
func NewToken(t *api.Token) {
	if t.AccessorID == "" {
		t.AccessorID = uuid.NewString()
	}
	if t.SecretID == "" {
		t.SecretID = uuid.NewString()
	}
}
