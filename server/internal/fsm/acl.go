package fsm

import (
	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// applyACL carries out a command about ACLs; known is false where c is none.
func applyACL(tx *store.Tx, c command.Command) (known bool, err error) {
	switch c := c.(type) {
	case *command.ACLSetUp:
		err = tx.SetUpACL(c.Key, c.Policies, c.Tokens)
		if err == nil && c.Managed {
			tx.MarkBootstrapped()
		}
	case *command.ACLSet:
		err = setACL(tx, c)
	case *command.ACLDelete:
		each(c.Tokens, tx.DeleteToken)
		each(c.Policies, tx.DeletePolicy)
		each(c.Roles, tx.DeleteRole)
		each(c.Methods, tx.DeleteAuthMethod)
		each(c.Rules, tx.DeleteBindingRule)
	case *command.ACLBootstrap:
		err = tx.BootstrapACL(&c.Token, c.Reset)
	default:
		return false, nil
	}
	return true, err
}

func each(ids []string, remove func(string)) {
	for _, id := range ids {
		remove(id)
	}
}

func setACL(tx *store.Tx, c *command.ACLSet) error {
	mode := store.Mode(c.Mode)
	switch {
	case c.Token != nil:
		return tx.SetToken(c.Token, mode)
	case c.Policy != nil:
		return tx.SetPolicy(c.Policy, mode)
	case c.Role != nil:
		return tx.SetRole(c.Role, mode)
	case c.Method != nil:
		return tx.SetAuthMethod(c.Method, mode)
	case c.Rule != nil:
		return tx.SetBindingRule(c.Rule, mode)
	}
	return api.Errorf(api.Invalid, "an ACL command without content")
}
