package endpoint

import (
	"context"
	"errors"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// Seats is who takes part in the log. Its methods may be called concurrently.
type Seats interface {
	RemoveServer(ctx context.Context, id string) error
	// TransferLeadership hands leadership to the voter furthest along, TransferLeadershipTo
	// to a certain one.
	TransferLeadership(ctx context.Context) error
	TransferLeadershipTo(ctx context.Context, id, addr string) error
	// Standing is where this server's log stands.
	Standing() api.RaftStats
}

// Pilot says how the servers are, on the leader. An *api.Error of kind Unavailable says
// that it is not known.
type Pilot interface {
	Health() (*api.AutopilotHealth, error)
	State() (*api.AutopilotState, error)
}

var errNoSeats = api.Errorf(api.Internal, "this server cannot be operated")

// operate carries out, on the leader, what changes who takes part in the log.
func (l *Local) operate(ctx context.Context, o *command.Operate) (*command.Result, error) {
	if l.cfg.Seats == nil {
		return nil, errNoSeats
	}
	rows, _, err := l.cfg.Raft.Servers()
	if err != nil {
		return nil, err
	}
	var seat *api.RaftServer
	for _, r := range rows {
		if o.ID != "" && r.ID == o.ID || o.Address != "" && r.Address == o.Address {
			seat = r
		}
	}
	switch {
	case seat == nil && o.ID != "":
		return nil, api.Errorf(api.Internal, "id %q was not found in the Raft configuration", o.ID)
	case seat == nil && (o.Address != "" || o.Verb == command.RemovePeer):
		return nil, api.Errorf(api.Internal, "address %q was not found in the Raft configuration", o.Address)
	}
	switch o.Verb {
	case command.RemovePeer:
		l.cfg.Log.Warn("server removed by an operator", "id", seat.ID, "addr", seat.Address)
		err = l.cfg.Seats.RemoveServer(ctx, seat.ID)
	case command.TransferLeader:
		if seat == nil {
			err = l.cfg.Seats.TransferLeadership(ctx)
			break
		}
		if !seat.Voter {
			return nil, api.Errorf(api.Internal, "server %q (%s) has no vote and cannot lead", seat.ID, seat.Address)
		}
		err = l.cfg.Seats.TransferLeadershipTo(ctx, seat.ID, seat.Address)
	default:
		return nil, api.Errorf(api.Invalid, "operation %d is not known to this version", o.Verb)
	}
	if err != nil {
		return nil, notLeader(ctx, err)
	}
	return &command.Result{OK: true}, nil
}

// piloted asks the leader's pilot.
func (l *Local) piloted(ctx context.Context, q *Query) (*Answer, error) {
	if _, err := l.mayRead(q); err != nil {
		return nil, err
	}
	return atLeader(ctx, l, true, func(context.Context, <-chan struct{}) (*Answer, error) {
		if l.cfg.Pilot == nil {
			return nil, errNoSeats
		}
		var value any
		var err error
		if q.Kind == AutopilotHealth {
			value, err = l.cfg.Pilot.Health()
		} else {
			value, err = l.cfg.Pilot.State()
		}
		var said *api.Error
		if errors.As(err, &said) && said.Kind == api.Unavailable && !l.cfg.Raft.IsLeader() {
			return nil, api.ErrNotLeader
		}
		if err != nil {
			return nil, err
		}
		meta := l.meta(q)
		meta.Index = 1
		return &Answer{Meta: meta, Found: true, Value: value, body: &body{encode: func() ([]byte, error) { return marshal(value) }}}, nil
	}, func(ctx context.Context, leader Endpoint) (*Answer, error) {
		return leader.Read(ctx, q)
	})
}

// autopilotConfig answers the configuration of autopilot; Found false where there is none yet.
func autopilotConfig(st *store.State) (*Answer, store.Mark) {
	c, m := st.Autopilot()
	return &Answer{Found: c != nil, Value: c}, m
}

// operable refuses what does not say whom it means.
func operable(o *command.Operate) error {
	if o.Verb == command.RemovePeer && (o.ID == "") == (o.Address == "") {
		return api.Errorf(api.Invalid, "a server is removed by its id or by its address")
	}
	return nil
}
