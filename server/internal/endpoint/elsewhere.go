package endpoint

import (
	"context"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// Everything is an endpoint that also takes snapshots, as that of a whole datacenter does.
type Everything interface {
	Endpoint
	Snapshots
}

// Gossip is what servers do for agents that cannot themselves. Its methods may be called
// concurrently.
type Gossip interface {
	// Fire sends an event to all agents of this datacenter.
	Fire(e *api.UserEvent) error
	// Keyring has the pools do what c says. token is whose right the other datacenters judge.
	Keyring(ctx context.Context, token string, c *command.Keyring) ([]*api.KeyringAnswer, error)
}

// elsewhere gives the endpoint of another datacenter; nil for this one, ErrNoPath for one
// that is not known.
func (l *Local) elsewhere(dc string) (Everything, error) {
	if dc == "" || dc == l.cfg.Datacenter {
		return nil, nil
	}
	if there := l.cfg.Elsewhere(dc); there != nil {
		return there, nil
	}
	return nil, api.ErrNoPath
}

// gossiped carries out here what goes by gossip: any server can.
func (l *Local) gossiped(ctx context.Context, w *Write) (*command.Result, error) {
	if l.cfg.ACLs.Enabled {
		h, err := l.holder(w.Token)
		if err == nil {
			err = mayWrite(h, w.Command, l.cfg.Store.State())
		}
		if err != nil {
			return nil, err
		}
	}
	if l.cfg.Gossip == nil {
		return nil, api.Errorf(api.Internal, "this server does not gossip")
	}
	res := &command.Result{OK: true}
	var err error
	switch c := w.Command.(type) {
	case *command.Fire:
		err = l.cfg.Gossip.Fire(&c.Event)
	case *command.Keyring:
		res.Keyring, err = l.cfg.Gossip.Keyring(ctx, w.Token, c)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}
