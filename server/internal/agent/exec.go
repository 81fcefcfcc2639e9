package agent

import (
	"context"
	"sync"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/rexec"
)

// jobsAtOnce is how many commands this agent runs for others at the same time, and
// jobsWaiting how many more may wait.
const (
	jobsAtOnce  = 8
	jobsWaiting = 64
)

// jobs takes the events that ask for commands, where the configuration allows it; else
// they are events like others.
func (a *Agent) jobs() map[string]func(*api.UserEvent) {
	if off := a.cfg().NoRemoteExec; off == nil || *off {
		return map[string]func(*api.UserEvent){rexec.EventName: func(e *api.UserEvent) {
			a.log.Debug("command left alone: disable_remote_exec is true", "event", e.ID)
		}}
	}
	a.asked = make(chan []byte, jobsWaiting)
	return map[string]func(*api.UserEvent){rexec.EventName: func(e *api.UserEvent) {
		select {
		case a.asked <- e.Payload:
		default:
			a.log.Warn("command left alone: too many wait already", "event", e.ID)
		}
	}}
}

// carryJobs runs the commands that are asked for, until ctx ends.
func (a *Agent) carryJobs(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	for range jobsAtOnce {
		working.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case payload := <-a.asked:
					if err := rexec.Carry(ctx, keys{a}, a.cfg().NodeName, payload, a.log); err != nil && ctx.Err() == nil {
						a.log.Warn("command not carried out to its end", "err", err)
					}
				}
			}
		})
	}
	<-ctx.Done()
	return nil
}

// keys is the key-value store as this agent, with its own token.
type keys struct{ a *Agent }

func (k keys) Get(ctx context.Context, key string) ([]byte, bool, error) {
	ans, err := k.a.endpoint.Read(ctx, &endpoint.Query{Kind: endpoint.KVGet, Name: key, QueryOptions: api.QueryOptions{Token: k.a.agentToken()}})
	if err != nil || !ans.Found {
		return nil, false, err
	}
	rows, err := endpoint.Into[[]*api.KVPair](ans)
	if err != nil || len(rows) == 0 {
		return nil, false, err
	}
	return rows[0].Value, true, nil
}

func (k keys) Hold(ctx context.Context, key string, value []byte, session string) (bool, error) {
	res, err := k.a.endpoint.Write(ctx, &endpoint.Write{Token: k.a.agentToken(), Command: &command.KV{
		Verb: command.Lock, Pair: api.KVPair{Key: key, Value: value, Session: session},
	}})
	if err != nil {
		return false, err
	}
	return res.OK, nil
}
