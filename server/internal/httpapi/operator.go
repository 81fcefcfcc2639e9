package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// Operator is what the API asks of the agent about operating the cluster. Methods may be
// called concurrently.
type Operator interface {
	// Keyring asks all members of the gossip pools, those of all datacenters, to do what c
	// says.
	Keyring(ctx context.Context, token string, c *command.Keyring) ([]*api.KeyringAnswer, error)
}

// badRequest is a 400 as these routes word it.
func badRequest(format string, args ...any) error {
	return api.Errorf(api.Invalid, "Bad request: "+format, args...)
}

// maxRelay is the largest relay factor.
const maxRelay = 5

func (r *request) relayFactor() (uint8, error) {
	text := r.query.get("relay-factor")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, badRequest("Error parsing relay factor: %v", err)
	case n < 0 || n > maxRelay:
		return 0, badRequest("Invalid relay-factor: Relay factor must be in range: [0, %d]", maxRelay)
	}
	return uint8(n), nil
}

func keyringList(ctx context.Context, r *request) (*reply, error) {
	relay, err := r.relayFactor()
	if err != nil {
		return nil, err
	}
	local := false
	if text := r.query.get("local-only"); text != "" {
		if local, err = strconv.ParseBool(text); err != nil {
			return nil, badRequest("Error parsing local-only: %v", err)
		}
	}
	all, err := r.server.cfg.Operator.Keyring(ctx, r.opts.Token, &command.Keyring{Do: command.ListKeys, Relay: relay, Here: local})
	if err != nil {
		return nil, err
	}
	return &reply{value: all}, nil
}

func keyringChange(op command.KeyOp) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		relay, err := r.relayFactor()
		if err != nil {
			return nil, err
		}
		var in struct{ Key string }
		if err := r.decode(&in); err != nil {
			return nil, badRequest("%v", err)
		}
		if r.query.has("local-only") {
			return nil, badRequest("local-only is for listing only")
		}
		_, err = r.server.cfg.Operator.Keyring(ctx, r.opts.Token, &command.Keyring{Do: op, Key: in.Key, Relay: relay})
		return nil, err
	}
}

// raftRemovePeer takes a server's seat.
func raftRemovePeer(ctx context.Context, r *request) (*reply, error) {
	c := &command.Operate{Verb: command.RemovePeer, ID: r.query.get("id"), Address: r.query.get("address")}
	switch {
	case c.ID == "" && c.Address == "":
		return nil, badRequest("Must specify either ?id with the server's ID or ?address with IP:port of peer to remove")
	case c.ID != "" && c.Address != "":
		return nil, badRequest("Must specify only one of ?id or ?address")
	}
	_, err := r.write(ctx, "", c)
	return nil, err
}

// raftTransferLeader hands leadership on: to the server with an id, or to any.
func raftTransferLeader(ctx context.Context, r *request) (*reply, error) {
	if _, err := r.write(ctx, "", &command.Operate{Verb: command.TransferLeader, ID: r.query.get("id")}); err != nil {
		return nil, err
	}
	return &reply{value: struct{ Success bool }{true}}, nil
}

func autopilotGet(ctx context.Context, r *request) (*reply, error) {
	r.opts.MinIndex = 0 // as these routes do not block
	rep, err := r.read(ctx, &endpoint.Query{Kind: endpoint.AutopilotConfig})
	if err != nil {
		return nil, err
	}
	rep.meta = noMeta
	if !rep.answer.Found { // no leader has written one yet
		return &reply{value: api.DefaultAutopilot()}, nil
	}
	return rep, nil
}

// autopilotPut replaces the configuration; what the body leaves out is zero, as Consul
// has it.
func autopilotPut(ctx context.Context, r *request) (*reply, error) {
	c := &command.Autopilot{}
	if err := r.decode(&c.Config); err != nil {
		return nil, badRequest("Error parsing autopilot config: %s", strings.TrimPrefix(err.Error(), "Request decode failed: "))
	}
	c.Config.CreateIndex, c.Config.ModifyIndex = 0, 0
	if r.query.has("cas") {
		n, err := strconv.ParseUint(r.query.get("cas"), 10, 64)
		if err != nil {
			return nil, badRequest("Error parsing cas value: %v", err)
		}
		c.CAS, c.Config.ModifyIndex = true, n
	}
	return r.write(ctx, "", c)
}

// autopilotHealth answers 429 where a server is not healthy.
func autopilotHealth(ctx context.Context, r *request) (*reply, error) {
	rep, err := clusterStatus(endpoint.AutopilotHealth)(ctx, r)
	if err != nil {
		return nil, err
	}
	health, err := endpoint.Into[*api.AutopilotHealth](rep.answer)
	if err != nil {
		return nil, err
	}
	if health == nil || !health.Healthy {
		rep.status = http.StatusTooManyRequests
	}
	return rep, nil
}

func operatorUsage(ctx context.Context, r *request) (*reply, error) {
	rep, err := r.read(ctx, &endpoint.Query{Kind: endpoint.Usage})
	if err != nil {
		return nil, err
	}
	count, err := endpoint.Into[*api.DatacenterUsage](rep.answer)
	if err != nil || count == nil {
		return nil, err
	}
	dc := r.opts.Datacenter
	if dc == "" {
		dc = r.server.cfg.Datacenter
	}
	h := http.Header{}
	setMeta(h, rep.answer, allMeta)
	return &reply{value: api.Usage{Usage: map[string]api.DatacenterUsage{dc: *count}}, header: h}, nil
}
