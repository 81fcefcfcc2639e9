package leader

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// ACLs says what the leader does about them. The zero value is nothing.
type ACLs struct {
	Enabled bool
	// InitialManagement is the secret of a management token that shall be there; "" for none.
	InitialManagement string
}

// expireAtOnce is how many tokens go in one command.
const expireAtOnce = 256

// setUpACLs gives a cluster what ACLs need, where that is not there yet.
func (l *Leader) setUpACLs(ctx context.Context) error {
	if !l.cfg.ACLs.Enabled {
		return nil
	}
	c, err := SetUpACLs(l.store.State(), l.cfg.ACLs.InitialManagement)
	if err != nil || c == nil {
		return err
	}
	if err := l.apply(ctx, c); err != nil {
		return fmt.Errorf("set up ACLs: %w", err)
	}
	l.log.Info("ACLs set up", "management", c.Managed)
	return nil
}

// SetUpACLs gives the command that adds what a state lacks: the key that secrets are sealed
// with, the built-in policies, the anonymous token, and with initial that management token.
// It is nil where nothing is missing.
func SetUpACLs(st *store.State, initial string) (*command.ACLSetUp, error) {
	key := st.ACL().Key
	if key == nil {
		key = make([]byte, acl.KeySize)
		rand.Read(key)
	}
	seal, err := acl.NewSeal(key)
	if err != nil {
		return nil, err
	}
	c := &command.ACLSetUp{Key: key}
	for _, p := range []api.Policy{
		{ID: acl.ManagementID, Name: acl.ManagementName, Description: "Builtin Policy that grants unlimited access", Rules: acl.ManagementRules},
		{ID: acl.ReadOnlyID, Name: acl.ReadOnlyName, Description: "Builtin Policy that grants unlimited read-only access", Rules: acl.ReadOnlyRules},
	} {
		if st.ACLPolicy(p.ID) == nil {
			c.Policies = append(c.Policies, p)
		}
	}
	add := func(t api.Token, secret string) {
		t.CreateTime = time.Now().UTC()
		c.Tokens = append(c.Tokens, api.SealedToken{Token: t, SecretHash: seal.Hash(secret), Sealed: seal.Close(secret)})
	}
	if st.TokenByAccessor(acl.AnonymousID) == nil {
		add(api.Token{AccessorID: acl.AnonymousID, Description: "Anonymous Token"}, "anonymous")
	}
	if initial != "" && st.TokenByHash(seal.Hash(initial)) == nil {
		add(api.Token{AccessorID: uuid.NewString(), Description: "Initial Management Token", Policies: []api.Link{{ID: acl.ManagementID}}}, initial)
		c.Managed = true
	}
	if len(c.Policies)+len(c.Tokens) == 0 {
		return nil, nil
	}
	return c, nil
}

// expireTokens removes tokens whose time is over. Nobody is let in by one in the meantime:
// it is looked at when a token is presented.
func (l *Leader) expireTokens(ctx context.Context) {
	for l.cfg.ACLs.Enabled {
		gone := l.store.State().ExpiredTokens(time.Now(), expireAtOnce)
		if len(gone) == 0 {
			return
		}
		if err := l.apply(ctx, &command.ACLDelete{Tokens: gone}); err != nil {
			l.log.Warn("expired tokens not removed", "tokens", len(gone), "err", err)
			return
		}
		l.log.Info("expired tokens removed", "tokens", len(gone))
	}
}
