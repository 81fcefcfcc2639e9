package endpoint

import (
	"context"
	"maps"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// permit runs at the leader, just before a write is committed: it refuses what the token may
// not do, and gives the command as the log shall have it.
func (l *Local) permit(ctx context.Context, w *Write) (command.Command, error) {
	if about(w.Command) && !l.cfg.ACLs.Enabled {
		return nil, api.ErrACLDisabled
	}
	if !l.cfg.ACLs.Enabled {
		return w.Command, nil
	}
	st := l.cfg.Store.State()
	switch c := w.Command.(type) { // these come without rights
	case *command.ACLBootstrap:
		return l.bootstrap(st, c)
	case *command.ACLLogin:
		return l.login(ctx, st, c)
	case *command.ACLLogout:
		return l.logout(st, w.Token)
	}
	h, err := l.holder(w.Token)
	if err != nil {
		return nil, err
	}
	if err := mayWrite(h, w.Command, st); err != nil {
		return nil, err
	}
	switch c := w.Command.(type) {
	case *command.ACLSet:
		return l.prepare(st, c)
	case *command.ACLDelete:
		return c, deletable(c)
	case *command.Query:
		return l.sealQuery(st, c)
	}
	return w.Command, nil
}

// about reports whether a command is about ACLs themselves.
func about(c command.Command) bool {
	switch c.(type) {
	case *command.ACLSet, *command.ACLDelete, *command.ACLBootstrap, *command.ACLLogin, *command.ACLLogout:
		return true
	}
	return false
}

// mayWrite says whether h may commit c in a state. A command that is not here is the servers'
// own. TestEveryOperation holds this to the commands there are.
func mayWrite(h *acl.Holder, c command.Command, st *store.State) error {
	switch c := c.(type) {
	case *command.Register:
		return mayRegister(h, &c.Registration, st)
	case *command.Deregister:
		return mayDeregister(h, &c.Deregistration, st)
	case *command.KV:
		if c.Verb == command.DeleteTree {
			return h.RequireTree(acl.Key, c.Pair.Key, acl.Write)
		}
		return h.Require(acl.Key, c.Pair.Key, acl.Write)
	case *command.CreateSession:
		return h.Require(acl.Session, c.Node, acl.Write)
	case *command.EndSession:
		return mayEnd(h, c.ID, st)
	case *command.Query:
		return mayQuery(h, c, st)
	case *command.Places:
		for _, e := range c.Entries {
			if err := h.Require(acl.Node, e.Node, acl.Write); err != nil {
				return err
			}
		}
		return nil
	case *command.Autopilot, *command.Operate:
		return h.Require(acl.Operator, "", acl.Write)
	case *command.ACLSet, *command.ACLDelete:
		return h.Require(acl.ACL, "", acl.Write)
	case *command.Fire:
		return h.Require(acl.Event, c.Event.Name, acl.Write)
	case *command.Keyring:
		if c.Do == command.ListKeys {
			return h.Require(acl.Keyring, "", acl.Read)
		}
		return h.Require(acl.Keyring, "", acl.Write)
	}
	return api.Errorf(api.Forbidden, "Permission denied: only servers themselves write a command %d", c.Op())
}

// mayRegister: whoever changes a node needs it, whoever writes a service that one, and also
// that which had the id before; a check needs what it is about.
func mayRegister(h *acl.Holder, r *api.Registration, st *store.State) error {
	node, services, _ := st.NodeServices(r.Node)
	if node == nil || !r.SkipNodeUpdate && changesNode(&node.Node, r) {
		if err := mayNode(h, r.Node, r.ID, st); err != nil {
			return err
		}
	}
	if s := r.Service; s != nil {
		if err := h.Require(acl.Service, s.Service, acl.Write); err != nil {
			return err
		}
		if was := named(services, s.ID); was != "" && was != s.Service {
			if err := h.Require(acl.Service, was, acl.Write); err != nil {
				return err
			}
		}
	}
	have, _ := st.NodeChecks(r.Node)
	for _, c := range checksOf(r) {
		name := named(services, c.ServiceID)
		if r.Service != nil && r.Service.ID == c.ServiceID {
			name = r.Service.Service
		}
		if err := mayCheck(h, r.Node, name, acl.Write); err != nil {
			return err
		}
		for _, was := range have {
			if was.CheckID == c.CheckID && was.ServiceID != c.ServiceID {
				if err := mayCheck(h, r.Node, was.ServiceName, acl.Write); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// mayNode: whoever writes a node needs its name, and that of the node which has its id now,
// as that one is renamed.
func mayNode(h *acl.Holder, name, id string, st *store.State) error {
	was := st.NodeByID(id)
	if name == "" && was != nil {
		name = was.Node.Node
	}
	if err := h.Require(acl.Node, name, acl.Write); err != nil || was == nil {
		return err
	}
	return h.Require(acl.Node, was.Node.Node, acl.Write)
}

func checksOf(r *api.Registration) []*api.Check {
	if r.Check == nil {
		return r.Checks
	}
	return append([]*api.Check{r.Check}, r.Checks...)
}

// mayCheck: a check is its service's matter, one without a service its node's.
func mayCheck(h *acl.Holder, node, service string, want acl.Access) error {
	if service == "" {
		return h.Require(acl.Node, node, want)
	}
	return h.Require(acl.Service, service, want)
}

// named gives the name of the service with an id, "" if there is none.
func named(services []*store.Service, id string) string {
	for _, s := range services {
		if s.ID == id && id != "" {
			return s.Service.Service
		}
	}
	return ""
}

func changesNode(n *api.Node, r *api.Registration) bool {
	return n.Address != r.Address || r.ID != "" && !strings.EqualFold(n.ID, r.ID) ||
		!maps.Equal(n.TaggedAddresses, r.TaggedAddresses) || !maps.Equal(n.Meta, r.NodeMeta)
}

// mayDeregister: a node's own right covers all that is on it.
func mayDeregister(h *acl.Holder, d *api.Deregistration, st *store.State) error {
	if h.Allowed(acl.Node, d.Node, acl.Write) {
		return nil
	}
	name := ""
	switch {
	case d.ServiceID != "":
		_, services, _ := st.NodeServices(d.Node)
		name = named(services, d.ServiceID)
	case d.CheckID != "":
		checks, _ := st.NodeChecks(d.Node)
		for _, c := range checks {
			if c.CheckID == d.CheckID {
				name = c.ServiceName
			}
		}
	}
	return mayCheck(h, d.Node, name, acl.Write)
}
