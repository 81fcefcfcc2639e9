package endpoint

import (
	"time"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// Bounds of a token's time, as Consul has them.
const (
	minTokenTTL = time.Minute
	maxTokenTTL = 24 * time.Hour
)

// prepare checks what is to be written, and seals what must not be seen.
func (l *Local) prepare(st *store.State, c *command.ACLSet) (command.Command, error) {
	next := *c
	var err error
	switch {
	case c.Token != nil:
		next.Token, err = l.prepareToken(st, c.Token, c.Mode)
	case c.Policy != nil:
		err = validPolicy(st, c.Policy)
	case c.Role != nil:
		if err = api.ValidACLName("Role", c.Role.Name, false); err == nil {
			err = api.ValidIdentities(c.Role.ServiceIdentities, c.Role.NodeIdentities, "role")
		}
	case c.Method != nil:
		if err = api.ValidACLName("Auth Method", c.Method.Name, false); err == nil {
			err = l.validMethod(c.Method)
		}
	case c.Rule != nil:
		err = l.validRule(st, c.Rule)
	default:
		err = api.Errorf(api.Invalid, "an ACL command without content")
	}
	return &next, err
}

// prepareToken gives a token as it is stored. One that is there keeps what cannot change.
func (l *Local) prepareToken(st *store.State, def *api.SealedToken, mode command.Mode) (*api.SealedToken, error) {
	next := *def
	seal, err := l.authorizers.sealer(st)
	if err != nil {
		return nil, err
	}
	if err := validUUID("acl token", next.AccessorID); err != nil {
		return nil, err
	}
	if err := api.ValidIdentities(next.ServiceIdentities, next.NodeIdentities, "token"); err != nil {
		return nil, err
	}
	for _, s := range next.ServiceIdentities {
		if next.Local && len(s.Datacenters) > 0 {
			return nil, api.Errorf(api.Internal, "Service identity %q cannot specify a list of datacenters on a local token", s.ServiceName)
		}
	}
	if next.Legacy {
		if _, err := acl.ParseLegacy(next.Rules); err != nil {
			return nil, unparsed(err)
		}
	} else if next.Rules != "" {
		return nil, api.Errorf(api.Internal, "Rules cannot be specified for this token: make a policy of them and link that")
	}
	if cur := st.TokenByAccessor(next.AccessorID); cur != nil && mode != command.Create {
		return keepToken(seal, cur, &next)
	}
	if !next.Legacy && mode == command.Create && uuid.Validate(next.SecretID) != nil {
		return nil, api.Errorf(api.Internal, "Invalid Token: SecretID is not a valid UUID")
	}
	if err := validTerm(&next.Token); err != nil {
		return nil, err
	}
	return sealed(seal, &next), nil
}

// sealed moves a new token's secret out of sight.
func sealed(seal *acl.Seal, t *api.SealedToken) *api.SealedToken {
	t.SecretHash, t.Sealed, t.SecretID = seal.Hash(t.SecretID), seal.Close(t.SecretID), ""
	if t.CreateTime.IsZero() {
		t.CreateTime = time.Now().UTC()
	}
	return t
}

// keepToken takes over what an update cannot change, and refuses one that tries.
func keepToken(seal *acl.Seal, cur, next *api.SealedToken) (*api.SealedToken, error) {
	switch {
	case next.SecretID != "" && seal.Hash(next.SecretID) != cur.SecretHash && next.SecretID != hiddenSecret:
		return nil, api.Errorf(api.Internal, "Changing a tokens SecretID is not permitted")
	case next.Local != cur.Local:
		return nil, api.Errorf(api.Internal, "cannot toggle local mode of %s", cur.AccessorID)
	case next.AuthMethod != "" && next.AuthMethod != cur.AuthMethod:
		return nil, api.Errorf(api.Internal, "Cannot change AuthMethod of %s", cur.AccessorID)
	case next.ExpirationTTL != 0 || next.ExpirationTime != nil && (cur.ExpirationTime == nil || !next.ExpirationTime.Equal(*cur.ExpirationTime)):
		return nil, api.Errorf(api.Internal, "Cannot change expiration time of %s", cur.AccessorID)
	}
	next.SecretID, next.SecretHash, next.Sealed = "", cur.SecretHash, cur.Sealed
	next.AuthMethod, next.ExpirationTime, next.CreateTime = cur.AuthMethod, cur.ExpirationTime, cur.CreateTime
	return next, nil
}

// validTerm turns a time to live into a time of expiry, and bounds both.
func validTerm(t *api.Token) error {
	now := time.Now().UTC()
	switch {
	case t.ExpirationTTL != 0 && t.ExpirationTime != nil:
		return api.Errorf(api.Internal, "Token Expiration TTL and Expiration Time cannot both be set")
	case t.ExpirationTTL < 0:
		return api.Errorf(api.Internal, "Token Expiration TTL '%s' should be > 0", t.ExpirationTTL)
	case t.ExpirationTTL > 0:
		at := now.Add(time.Duration(t.ExpirationTTL))
		t.ExpirationTime, t.ExpirationTTL = &at, 0
	}
	if t.ExpirationTime == nil {
		return nil
	}
	t.CreateTime = now
	in := t.ExpirationTime.Sub(now)
	switch {
	case in < minTokenTTL:
		return api.Errorf(api.Internal, "ExpirationTime cannot be less than %s in the future (was %s)", minTokenTTL, in)
	case in > maxTokenTTL:
		return api.Errorf(api.Internal, "ExpirationTime cannot be more than %s in the future (was %s)", maxTokenTTL, in)
	}
	return nil
}

func unparsed(err error) error {
	return api.Errorf(api.Internal, "Failed to parse ACL rules: %v", err)
}

func validPolicy(st *store.State, p *api.Policy) error {
	if err := validUUID("acl policy", p.ID); err != nil {
		return err
	}
	if err := api.ValidACLName("Policy", p.Name, true); err != nil {
		return err
	}
	if _, err := acl.Parse(p.Rules); err != nil {
		return unparsed(err)
	}
	cur := st.ACLPolicy(p.ID)
	switch {
	case p.ID == acl.ManagementID && cur != nil && (p.Rules != cur.Rules || len(p.Datacenters) > 0):
		return api.Errorf(api.Internal, "Changing the Rules for the builtin global-management policy is not permitted")
	case p.ID == acl.ReadOnlyID && cur != nil:
		return api.Errorf(api.Internal, "Changing the builtin %s policy is not permitted", acl.ReadOnlyName)
	}
	return nil
}

// deletable refuses to remove what every cluster has.
func deletable(d *command.ACLDelete) error {
	for _, id := range d.Policies {
		switch id {
		case acl.ManagementID:
			return api.Errorf(api.Internal, "Delete operation not permitted on the builtin global-management policy")
		case acl.ReadOnlyID:
			return api.Errorf(api.Internal, "Delete operation not permitted on the builtin %s policy", acl.ReadOnlyName)
		}
	}
	for _, id := range d.Tokens {
		if id == acl.AnonymousID {
			return api.Errorf(api.Internal, "Delete operation not permitted on the anonymous token")
		}
	}
	return nil
}

// bootstrap seals the first management token.
func (l *Local) bootstrap(st *store.State, c *command.ACLBootstrap) (command.Command, error) {
	seal, err := l.authorizers.sealer(st)
	if err != nil {
		return nil, err
	}
	if l.cfg.ACLs.NoBootstrap {
		return nil, api.Errorf(api.Forbidden, "Permission denied: ACL bootstrap is turned off by acl.msp_disable_bootstrap")
	}
	if uuid.Validate(c.Token.SecretID) != nil {
		return nil, api.Errorf(api.Invalid, "BootstrapSecret is not a valid UUID")
	}
	next := *c
	next.Token.Description = "Bootstrap Token (Global Management)"
	next.Token.Policies = []api.Link{{ID: acl.ManagementID}}
	if next.Reset = 0; l.cfg.ACLs.ResetIndex != nil {
		next.Reset = l.cfg.ACLs.ResetIndex()
	}
	if was := st.ACL().Bootstrapped; was != 0 && next.Reset != was { // the state machine says so as well
		return nil, api.Errorf(api.Forbidden, "Permission denied: ACL bootstrap no longer allowed (reset index: %d)", was)
	}
	sealed(seal, &next.Token)
	return &next, nil
}
