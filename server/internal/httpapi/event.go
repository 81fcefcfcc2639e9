package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
)

// Events is what the API asks of the agent about user events. Methods may be called
// concurrently.
type Events interface {
	// Fire sends e to all agents of a datacenter, "" for this one, and sets its ID and Version.
	// Another datacenter judges by token whether that may be.
	Fire(ctx context.Context, dc, token string, e *api.UserEvent) error
	// List gives the events of a name, "" for all, that this agent has received, the oldest
	// first; the index that says which is the last; and a channel that closes at the next.
	List(name string) (events []*api.UserEvent, index uint64, changed <-chan struct{})
}

// maxEvent bounds what is read of an event's payload, in bytes; gossip takes less.
const maxEvent = 64 << 10

func eventFire(ctx context.Context, r *request) (*reply, error) {
	name, err := r.name("name")
	if err != nil {
		return nil, err
	}
	payload, err := r.body(maxEvent)
	if err != nil {
		return nil, err
	}
	e := &api.UserEvent{
		Name: name, NodeFilter: r.query.get("node"), ServiceFilter: r.query.get("service"), TagFilter: r.query.get("tag"),
	}
	if len(payload) > 0 {
		e.Payload = payload
	}
	if err := r.server.cfg.Events.Fire(ctx, r.opts.Datacenter, r.opts.Token, e); err != nil {
		return nil, err
	}
	return &reply{value: e}, nil
}

// eventList lists what this agent has received. With an index it waits while that is
// still the last event's.
func eventList(ctx context.Context, r *request) (*reply, error) {
	over, cancel := r.patience(ctx)
	defer cancel()
	for {
		events, index, changed := r.server.cfg.Events.List(r.query.get("name"))
		if r.opts.MinIndex == 0 || index != r.opts.MinIndex || over.Err() != nil {
			events = slices.DeleteFunc(slices.Clone(events), func(e *api.UserEvent) bool { return !r.sees(acl.Event, e.Name) })
			return &reply{value: events, header: http.Header{"X-Consul-Index": {strconv.FormatUint(index, 10)}}}, ended(over)
		}
		select {
		case <-changed:
		case <-over.Done():
		}
	}
}
