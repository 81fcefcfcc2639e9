package endpoint

import (
	"encoding/base64"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// guards reports whether a query is protected: one without a name is known to nobody but who
// has its id, and goes with its session.
func guards(q *api.PreparedQuery) bool { return q.Name != "" || q.IsTemplate() }

// mayQuery: whoever changes a query needs its name, the one it has and the one it gets.
func mayQuery(h *acl.Holder, c *command.Query, st *store.State) error {
	if cur, _ := st.Query(c.Query.ID); cur != nil && guards(&cur.PreparedQuery) {
		if err := h.Require(acl.Query, cur.Name, acl.Write); err != nil {
			return err
		}
	}
	if c.Verb != command.DeleteQuery && guards(&c.Query) {
		return h.Require(acl.Query, c.Query.Name, acl.Write)
	}
	return nil
}

// sealedPrefix begins a query's token as it is stored where ACLs are on.
const sealedPrefix = "sealed:"

// sealQuery gives a query's command as the log shall have it: its token out of sight.
func (l *Local) sealQuery(st *store.State, c *command.Query) (command.Command, error) {
	if c.Query.Token == "" {
		return c, nil
	}
	seal, err := l.authorizers.sealer(st)
	if err != nil {
		return nil, err
	}
	next := *c
	next.Query.Token = sealedPrefix + base64.StdEncoding.EncodeToString(seal.Close(c.Query.Token))
	return &next, nil
}

// openQuery gives a query with its token as it was given.
func (l *Local) openQuery(st *store.State, q *api.PreparedQuery) (*api.PreparedQuery, error) {
	text, ok := strings.CutPrefix(q.Token, sealedPrefix)
	if !ok {
		return q, nil
	}
	seal, err := l.authorizers.sealer(st)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, acl.ErrSeal
	}
	next := *q
	next.Token, err = seal.Open(b)
	return &next, err
}

// readQueries answers the definitions where ACLs are on. Stored tokens are shown to those
// only who may write ACLs, as are queries without a name in lists.
func (l *Local) readQueries(q *Query, st *store.State, h *acl.Holder) (*Answer, error) {
	all, m := queries(q, st)
	manages := h.Allowed(acl.ACL, "", acl.Write)
	out := []*api.PreparedQuery{}
	hidden := false
	for _, row := range all.Value.([]*api.PreparedQuery) { // queries makes it so
		switch {
		case manages:
		case q.Kind == QueryGet && guards(row):
			if err := h.Require(acl.Query, row.Name, acl.Read); err != nil {
				return nil, err
			}
		case q.Kind == QueryList && !(guards(row) && h.Allowed(acl.Query, row.Name, acl.Read)):
			hidden = true
			continue
		}
		row, err := l.openQuery(st, row)
		if err != nil {
			return nil, err
		}
		out = append(out, shownQuery(row, manages))
	}
	a := &Answer{Found: all.Found, Value: out, body: &body{encode: func() ([]byte, error) { return marshal(out) }}}
	a.Meta.Index, a.Meta.Filtered = m.Index, hidden
	return a, nil
}

func shownQuery(q *api.PreparedQuery, manages bool) *api.PreparedQuery {
	if q.Token == "" || manages {
		return q
	}
	next := *q
	next.Token = api.HiddenToken
	return &next
}

// executor gives as whom a query is carried out: as the owner of its own token, if it has
// one, else as who asks. It is nil where ACLs are off.
func (l *Local) executor(query *api.PreparedQuery, asker *acl.Holder) (*acl.Holder, error) {
	if asker == nil || query.Token == "" {
		return asker, nil
	}
	return l.holder(query.Token)
}

// seesInstance reports whether h may see an instance; nil sees all.
func seesInstance(h *acl.Holder, r store.Instance) bool {
	return h == nil || h.Allowed(acl.Node, r.Node.Node.Node, acl.Read) && h.Allowed(acl.Service, r.Service.Service.Service, acl.Read)
}
