package fsm

import (
	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// query carries out a command about a prepared query.
func query(tx *store.Tx, c *command.Query) error {
	if c.Verb != command.CreateQuery && !tx.HasQuery(c.Query.ID) {
		return api.Errorf(api.Internal, "Cannot modify non-existent prepared query: '%s'", c.Query.ID)
	}
	switch c.Verb {
	case command.CreateQuery, command.UpdateQuery:
		return tx.SetQuery(&c.Query)
	case command.DeleteQuery:
		tx.DeleteQuery(c.Query.ID)
		return nil
	}
	return api.Errorf(api.Invalid, "query verb %d is not known to this version", c.Verb)
}
