package endpoint

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// Login is what auth methods do. Its methods may be called concurrently.
type Login interface {
	// Valid checks an auth method's type and configuration.
	Valid(m *api.AuthMethod) error
	// ValidRule checks that a binding rule can be evaluated for logins over m.
	ValidRule(m *api.AuthMethod, r *api.BindingRule) error
	// Enter verifies what a client presents, and gives what the rules bind it to: types and
	// names as of BindingRule, without those that a selector keeps out. An *api.Error of kind
	// Forbidden says that it was refused.
	Enter(ctx context.Context, m *api.AuthMethod, rules []*api.BindingRule, bearer string) ([]Binding, error)
}

// Binding is one thing that a login is bound to.
type Binding struct{ Type, Name string }

var errNoLogin = api.Errorf(api.Internal, "auth methods are not set up on this server")

func (l *Local) validMethod(m *api.AuthMethod) error {
	switch ttl := time.Duration(m.MaxTokenTTL); {
	case l.cfg.ACLs.Login == nil:
		return errNoLogin
	case ttl < 0 || ttl > maxTokenTTL || ttl > 0 && ttl < minTokenTTL:
		return api.Errorf(api.Internal, "Invalid Auth Method: MaxTokenTTL %s cannot be less than %s or more than %s", ttl, minTokenTTL, maxTokenTTL)
	}
	switch m.TokenLocality {
	case "", "local", "global":
	default:
		return api.Errorf(api.Internal, "Invalid Auth Method: TokenLocality should be one of 'local' or 'global'")
	}
	return l.cfg.ACLs.Login.Valid(m)
}

func (l *Local) validRule(st *store.State, r *api.BindingRule) error {
	method := st.ACLAuthMethod(r.AuthMethod)
	switch {
	case l.cfg.ACLs.Login == nil:
		return errNoLogin
	case r.AuthMethod == "":
		return api.Errorf(api.Internal, "Invalid Binding Rule: no AuthMethod is set")
	case method == nil:
		return api.Errorf(api.Internal, "cannot find auth method with name %q", r.AuthMethod)
	}
	if err := validUUID("acl binding rule", r.ID); err != nil {
		return err
	}
	switch r.BindType {
	case api.BindService, api.BindNode, api.BindRole, api.BindPolicy:
	case "":
		return api.Errorf(api.Internal, "Invalid Binding Rule: no BindType is set")
	default:
		return api.Errorf(api.Internal, "Invalid Binding Rule: unknown BindType %q: give service, node, role or policy", r.BindType)
	}
	if r.BindName == "" {
		return api.Errorf(api.Internal, "Invalid Binding Rule: no BindName is set")
	}
	return l.cfg.ACLs.Login.ValidRule(&method.AuthMethod, r)
}

// login turns a login into the token that it is given.
func (l *Local) login(ctx context.Context, st *store.State, c *command.ACLLogin) (command.Command, error) {
	seal, err := l.authorizers.sealer(st)
	if err != nil {
		return nil, err
	}
	method := st.ACLAuthMethod(c.Method)
	switch {
	case c.Method == "":
		return nil, api.Errorf(api.Internal, "invalid Login request: no AuthMethod is set")
	case c.BearerToken == "":
		return nil, api.Errorf(api.Internal, "invalid Login request: no BearerToken is set")
	case method == nil:
		return nil, api.Errorf(api.Forbidden, "%v: auth method %q not found", api.ErrACLNotFound, c.Method)
	case l.cfg.ACLs.Login == nil:
		return nil, errNoLogin
	case uuid.Validate(c.AccessorID) != nil || uuid.Validate(c.SecretID) != nil:
		return nil, api.Errorf(api.Invalid, "a login brings ids that are no UUIDs")
	}
	var rules []*api.BindingRule
	for _, r := range st.ACLBindingRules(method.Name) {
		rules = append(rules, &r.BindingRule)
	}
	bound, err := l.cfg.ACLs.Login.Enter(ctx, &method.AuthMethod, rules, c.BearerToken)
	if err != nil {
		return nil, err
	}
	tok := &api.SealedToken{Token: api.Token{
		AccessorID: c.AccessorID, SecretID: c.SecretID, Description: "token created via login", AuthMethod: method.Name,
		Local: method.TokenLocality != "global", ExpirationTTL: method.MaxTokenTTL,
	}}
	if len(c.Meta) > 0 {
		b, err := json.Marshal(c.Meta)
		if err != nil {
			return nil, err
		}
		tok.Description += ": " + string(b)
	}
	l.bind(st, &tok.Token, bound)
	if len(tok.Policies)+len(tok.Roles)+len(tok.ServiceIdentities)+len(tok.NodeIdentities) == 0 {
		return nil, api.Errorf(api.Forbidden, "Permission denied: no binding rule of auth method %q gives this login anything", method.Name)
	}
	if err := api.ValidIdentities(tok.ServiceIdentities, tok.NodeIdentities, "token"); err != nil {
		return nil, err
	}
	if err := validTerm(&tok.Token); err != nil {
		return nil, err
	}
	return &command.ACLSet{Mode: command.Create, Token: sealed(seal, tok)}, nil
}

// bind gives a token what a login is bound to. Roles and policies that are not there are
// passed over, as they may come and go.
func (l *Local) bind(st *store.State, t *api.Token, bound []Binding) {
	for _, b := range bound {
		switch b.Type {
		case api.BindService:
			t.ServiceIdentities = append(t.ServiceIdentities, api.ServiceIdentity{ServiceName: b.Name})
		case api.BindNode:
			t.NodeIdentities = append(t.NodeIdentities, api.NodeIdentity{NodeName: b.Name, Datacenter: l.cfg.Datacenter})
		case api.BindRole:
			if r := st.ACLRoleByName(b.Name); r != nil {
				t.Roles = append(t.Roles, api.Link{ID: r.ID})
			}
		case api.BindPolicy:
			if p := st.ACLPolicyByName(b.Name); p != nil {
				t.Policies = append(t.Policies, api.Link{ID: p.ID})
			}
		}
	}
}

// logout removes the token of a login.
func (l *Local) logout(st *store.State, secret string) (command.Command, error) {
	tok, err := l.token(st, secret)
	switch {
	case err != nil:
		return nil, err
	case secret == "":
		return nil, api.ErrACLNotFound
	case tok.AuthMethod == "":
		return nil, api.Errorf(api.Forbidden, "Permission denied: token with AccessorID '%s' is not of a login: delete it instead", tok.AccessorID)
	}
	return &command.ACLDelete{Tokens: []string{tok.AccessorID}}, nil
}
