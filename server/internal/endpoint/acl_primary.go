package endpoint

import (
	"context"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
)

// Where several datacenters have ACLs, one keeps them, the primary: policies, roles and
// tokens that hold everywhere are written there. The others copy them (acl_replicate.go);
// without acl.enable_token_replication they ask the primary what each token may.

// Args of reads about ACLs.
const (
	argWritten = "written" // read where a write has just gone
	argScope   = "scope"   // of ACLResolve: the datacenter that it is for
)

var errNoLocalTokens = api.Errorf(api.Internal, "Token replication is required for auth methods to function: set acl.enable_token_replication on the servers of this datacenter")

// Written marks a read of what was just written: it goes where the write went.
func (q Query) Written() Query {
	q.Args = map[string]string{argWritten: "true"}
	return q
}

// secondary reports whether another datacenter keeps the ACLs.
func (a *ACLs) secondary(here string) bool {
	return a.Enabled && a.Primary != "" && a.Primary != here
}

// writePlace gives the datacenter where c belongs, "" for this one.
func (l *Local) writePlace(c command.Command) (string, error) {
	a := &l.cfg.ACLs
	if !a.secondary(l.cfg.Datacenter) {
		return "", nil
	}
	switch c := c.(type) {
	case *command.ACLBootstrap:
		return a.Primary, nil
	case *command.ACLLogin, *command.ACLLogout:
		if !a.Replicate {
			return "", errNoLocalTokens
		}
	case *command.ACLSet:
		switch {
		case c.Token != nil:
			if !a.Replicate || !c.Token.Local && !l.hasLocal(c.Token.AccessorID) {
				return a.Primary, nil
			}
		case c.Policy != nil, c.Role != nil:
			return a.Primary, nil
		case !a.Replicate:
			return "", errNoLocalTokens
		case c.Method != nil && c.Method.TokenLocality == "global":
			return "", api.Errorf(api.Internal, "Invalid Auth Method: TokenLocality 'global' can only be used in the primary datacenter")
		}
	case *command.ACLDelete:
		switch {
		case len(c.Policies)+len(c.Roles) > 0:
			return a.Primary, nil
		case len(c.Tokens) > 0 && (!a.Replicate || !l.hasLocal(c.Tokens...)):
			return a.Primary, nil
		case len(c.Methods)+len(c.Rules) > 0 && !a.Replicate:
			return "", errNoLocalTokens
		}
	}
	return "", nil
}

// hasLocal reports whether tokens are of this datacenter alone.
func (l *Local) hasLocal(accessors ...string) bool {
	st := l.cfg.Store.State()
	for _, id := range accessors {
		if t := st.TokenByAccessor(id); t == nil || !t.Local {
			return false
		}
	}
	return true
}

// readPlace gives the datacenter that has what q asks for, "" for this one.
func (l *Local) readPlace(q *Query) (string, error) {
	a := &l.cfg.ACLs
	if !a.secondary(l.cfg.Datacenter) {
		return "", nil
	}
	switch q.Kind {
	case ACLTokens, ACLToken, ACLTokenFull, ACLTokenSelf, ACLLegacyList, ACLLegacyInfo:
		if !a.Replicate || q.Args[argWritten] != "" && (q.Kind == ACLTokenSelf || !l.hasLocal(q.Name)) {
			return a.Primary, nil
		}
	case ACLPolicy, ACLPolicyNamed, ACLRole, ACLRoleNamed:
		if q.Args[argWritten] != "" {
			return a.Primary, nil
		}
	case ACLAuthMethods, ACLAuthMethod, ACLBindingRules, ACLBindingRule:
		if !a.Replicate {
			return "", errNoLocalTokens
		}
	}
	return "", nil
}

// primary is the endpoint of the datacenter that keeps the ACLs.
type primary struct{ l *Local }

func (p primary) Read(ctx context.Context, q *Query) (*Answer, error) {
	there, err := p.l.elsewhere(p.l.cfg.ACLs.Primary)
	if err != nil {
		return nil, err
	}
	to := *q
	to.Datacenter = p.l.cfg.ACLs.Primary
	return there.Read(ctx, &to)
}

func (p primary) Write(ctx context.Context, w *Write) (*command.Result, error) {
	there, err := p.l.elsewhere(p.l.cfg.ACLs.Primary)
	if err != nil {
		return nil, err
	}
	to := *w
	to.Datacenter = p.l.cfg.ACLs.Primary
	return there.Write(ctx, &to)
}

// newPrimaryResolver makes what finds out what a token may where tokens are not copied.
func (l *Local) newPrimaryResolver() *Resolver {
	a := &l.cfg.ACLs
	if !a.secondary(l.cfg.Datacenter) || a.Replicate {
		return nil
	}
	return NewResolver(ResolverConfig{
		Enabled: true, Datacenter: a.Primary, Scope: l.cfg.Datacenter, Recovery: func() string { return "" },
		DefaultAllow: a.DefaultAllow, Down: a.Down, TTL: a.TokenTTL,
	}, primary{l})
}

// resolveAtPrimary answers an agent that asks what its token may.
func (l *Local) resolveAtPrimary(ctx context.Context, q *Query) (*Answer, error) {
	to := *q
	to.Args = map[string]string{argScope: l.cfg.Datacenter}
	a, err := primary{l}.Read(ctx, &to)
	if err != nil {
		return nil, err
	}
	res, err := Into[*Resolution](a)
	if err != nil || res == nil {
		return nil, err
	}
	res.Allow = l.cfg.ACLs.DefaultAllow
	return &Answer{Meta: a.Meta, Found: true, Value: res, body: &body{encode: func() ([]byte, error) { return marshal(res) }}}, nil
}

// asPrimary gives who holds a token as the primary says.
func (l *Local) asPrimary(secret string) (*acl.Holder, error) {
	return l.atPrimary.Resolve(context.Background(), secret) // it bounds itself
}
