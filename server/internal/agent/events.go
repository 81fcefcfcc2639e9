package agent

import (
	"context"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/event"
)

// events are this agent's, as the HTTP API sees them.
type events struct{ a *Agent }

// Fire sends an event to all agents of a datacenter, and gives it its id.
func (d events) Fire(ctx context.Context, dc, token string, e *api.UserEvent) error {
	if err := event.Check(e); err != nil {
		return err
	}
	e.ID, e.Version = uuid.NewString(), event.Version
	if dc == "" || dc == d.a.cfg().Datacenter {
		return d.a.pool.Fire(e)
	}
	_, err := d.a.endpoint.Write(ctx, &endpoint.Write{Datacenter: dc, Token: token, Command: &command.Fire{Event: *e}})
	return err
}

// List gives what this agent has received.
func (d events) List(name string) ([]*api.UserEvent, uint64, <-chan struct{}) {
	return d.a.events.List(name)
}
