package leader

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/store"
)

// A server is dead only when it has been down for a while without a break, and longer if
// nobody knows it.
func TestWhoIsDead(t *testing.T) {
	t.Parallel()
	p := NewPilot(PilotConfig{Log: slog.New(slog.DiscardHandler)}, nil, nil, store.New())
	began := time.Now()
	see := func(after time.Duration, status autopilot.NodeStatus) {
		p.note(map[raft.ServerID]*autopilot.Server{"a": {ID: "a", NodeStatus: status}}, began.Add(after))
	}
	dead := func(after time.Duration, status autopilot.NodeStatus) bool {
		return p.dead(&autopilot.Server{ID: "a", NodeStatus: status}, began.Add(after))
	}
	if dead(0, autopilot.NodeFailed) {
		t.Error("one that was never looked at is dead")
	}
	see(0, autopilot.NodeFailed)
	see(deadAfter-time.Second, autopilot.NodeFailed)
	if dead(deadAfter-time.Second, autopilot.NodeFailed) {
		t.Error("dead too early")
	}
	if !dead(deadAfter, autopilot.NodeFailed) || dead(deadAfter, autopilot.NodeUnknown) || !dead(strangerAfter, autopilot.NodeUnknown) {
		t.Error("the patience is not what it should be")
	}
	see(deadAfter, autopilot.NodeAlive)
	see(deadAfter+time.Second, autopilot.NodeFailed)
	if dead(deadAfter+2*time.Second, autopilot.NodeFailed) {
		t.Error("it was alive in between")
	}
}

// The health of the whole is said when it changes, and at first only if it is bad.
func TestHealthIsSaidOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	p := NewPilot(PilotConfig{Log: slog.New(slog.NewTextHandler(&log, nil))}, nil, nil, store.New())
	state := func(healthy bool) *autopilot.State {
		return &autopilot.State{Healthy: healthy, Servers: map[raft.ServerID]*autopilot.ServerState{
			"a": {Server: autopilot.Server{Name: "s1"}, Health: autopilot.ServerHealth{Healthy: healthy}},
		}}
	}
	for _, step := range []struct {
		state *autopilot.State
		want  string
	}{
		{nil, ""}, {&autopilot.State{}, ""}, {state(true), ""}, {state(true), ""}, {state(false), "servers=s1"}, {state(false), ""},
		{state(true), "all servers are healthy"}, {state(true), ""},
	} {
		log.Reset()
		p.NotifyState(step.state)
		if got := log.String(); (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
			t.Errorf("said %q, want %q", got, step.want)
		}
	}
}

// The stored configuration counts; before there is one, that of the files.
func TestPilotConfig(t *testing.T) {
	t.Parallel()
	s := store.New()
	initial := api.DefaultAutopilot()
	initial.MinQuorum = 5
	p := NewPilot(PilotConfig{Initial: initial, Log: slog.New(slog.DiscardHandler)}, nil, nil, s)
	if c := p.AutopilotConfig(); c.MinQuorum != 5 || c.LastContactThreshold != 200*time.Millisecond || !c.CleanupDeadServers || c.MaxTrailingLogs != 250 || c.ServerStabilizationTime != 10*time.Second {
		t.Errorf("before: %+v", c)
	}
	tx := s.Begin(1)
	tx.SetAutopilot(&api.AutopilotConfig{MinQuorum: 3}, false)
	tx.Commit()
	if c := p.AutopilotConfig(); c.MinQuorum != 3 || c.CleanupDeadServers {
		t.Errorf("after: %+v", c)
	}
}

// Without a term there is nothing to tell.
func TestPilotAtRest(t *testing.T) {
	t.Parallel()
	p := NewPilot(PilotConfig{Log: slog.New(slog.DiscardHandler)}, nil, nil, store.New())
	if _, err := p.Health(); api.KindOf(err) != api.Unavailable {
		t.Errorf("health: %v", err)
	}
	if _, err := p.State(); api.KindOf(err) != api.Unavailable {
		t.Errorf("state: %v", err)
	}
}
