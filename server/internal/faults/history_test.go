package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// kind is what an operation does to its key.
type kind int

const (
	get kind = iota
	put
	cas // put where the value is still was
	del
	lock
	unlock
	kinds
)

func (k kind) String() string { return [...]string{"get", "put", "cas", "delete", "lock", "unlock"}[k] }

// operation is what a client asked for. A value of "" is none: the key is not there.
type operation struct {
	kind    kind
	key     string
	value   string // to be written, unlike any other
	was     string // of a cas
	session string // of a lock
}

// register is what a key holds.
type register struct{ value, session string }

// outcome is what the client was told.
type outcome struct {
	known bool     // false: it may have happened, now or later
	ok    bool     // of cas, lock and unlock
	found register // of get
}

// registers is what every key has to behave like.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(operation).key
			byKey[k] = append(byKey[k], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range byKey {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(register), input.(operation), output.(outcome)
		next, ok := in.on(s)
		switch {
		case in.kind == get:
			return out.found == s, s
		case !out.known:
			return true, next
		}
		return ok == out.ok, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// on says what the operation makes of a register, and whether it succeeds.
func (op operation) on(s register) (register, bool) {
	switch op.kind {
	case put:
		return register{op.value, s.session}, true
	case cas:
		if s.value != op.was {
			return s, false
		}
		return register{op.value, s.session}, true
	case del:
		return register{}, true
	case lock:
		if s.session != "" && s.session != op.session {
			return s, false
		}
		return register{op.value, op.session}, true
	case unlock:
		if s.session != op.session {
			return s, false
		}
		return register{op.value, ""}, true
	}
	return s, true
}

// history is what all clients did, in the order of one clock.
type history struct {
	clock atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation // guarded by mu
}

// settled gives the operations, those whose fate is open bounded where somebody read what
// they wrote: each writes a value of its own, so they had happened by then. Without this
// the checker tries each of them at every later moment.
func (h *history) settled() []porcupine.Operation {
	read := map[string]int64{} // when a value was first seen, by value
	for _, op := range h.ops {
		if in := op.Input.(operation); in.kind == get {
			v := op.Output.(outcome).found.value
			if at, ok := read[v]; !ok || op.Return < at {
				read[v] = op.Return
			}
		}
	}
	out := slices.Clone(h.ops)
	for i, op := range out {
		in := op.Input.(operation)
		if at, ok := read[in.value]; ok && op.Return == math.MaxInt64 && in.kind != del {
			out[i].Return = at
		}
	}
	return out
}

// client does operations through an endpoint, one after the other.
type client struct {
	id      int
	ep      endpoint.Endpoint
	h       *history
	random  *rand.Rand
	session string
	seen    map[string]api.KVPair // the last that was read of each key
}

// catalogKey is a key that lives in the catalog: the id of a service's only instance.
const catalogKey = "catalog"

// run does n operations, or as many as there is time for.
func (c *client) run(ctx context.Context, n int) {
	for i := 0; i < n && ctx.Err() == nil; i++ {
		op := operation{
			kind: kind(c.random.IntN(int(kinds))), key: fmt.Sprint("k", c.random.IntN(3)),
			value: fmt.Sprintf("%d.%d", c.id, i), session: c.session,
		}
		if c.random.IntN(2) == 0 {
			op.kind = get
		}
		if c.random.IntN(6) == 0 {
			op.key = catalogKey
			if op.kind != get && op.kind != del {
				op.kind = put
			}
		}
		c.do(ctx, op)
		pause := time.NewTimer(time.Duration(c.random.IntN(1000)) * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

// do carries op out and notes what came of it, unless it certainly did not happen.
func (c *client) do(ctx context.Context, op operation) {
	ctx, cancel := context.WithTimeout(ctx, 12*time.Second)
	defer cancel()
	if op.kind == cas {
		op.was = string(c.seen[op.key].Value)
	}
	call := c.h.clock.Add(1)
	out, err := c.try(ctx, op)
	ret := c.h.clock.Add(1)
	id := c.id
	switch {
	case err == nil:
	case op.kind == get, errors.Is(err, api.ErrNotLeader), errors.Is(err, api.ErrNoLeader):
		return
	default:
		c.h.mu.Lock()
		id = 1000 + len(c.h.ops) // it may still happen while its client goes on
		c.h.mu.Unlock()
		ret = math.MaxInt64
	}
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.ops = append(c.h.ops, porcupine.Operation{ClientId: id, Input: op, Output: out, Call: call, Return: ret})
}

func (c *client) try(ctx context.Context, op operation) (outcome, error) {
	if op.kind == get {
		found, err := c.read(ctx, op.key)
		return outcome{known: true, ok: true, found: found}, err
	}
	pair := api.KVPair{Key: op.key, Value: []byte(op.value)}
	var cmd command.Command
	switch op.kind {
	case put:
		cmd = &command.KV{Verb: command.Set, Pair: pair}
	case cas:
		pair.ModifyIndex = c.seen[op.key].ModifyIndex
		cmd = &command.KV{Verb: command.CAS, Pair: pair}
	case del:
		cmd = &command.KV{Verb: command.Delete, Pair: pair}
	case lock, unlock:
		pair.Session = op.session
		verb := command.Lock
		if op.kind == unlock {
			verb = command.Unlock
		}
		cmd = &command.KV{Verb: verb, Pair: pair}
	}
	if op.key == catalogKey {
		cmd = &command.Deregister{Deregistration: api.Deregistration{Node: "clients", ServiceID: "one"}}
		if op.kind == put {
			port, err := strconv.Atoi(fmt.Sprintf("%d%03d", c.id+1, c.h.clock.Load()%1000))
			if err != nil {
				return outcome{}, err
			}
			cmd = &command.Register{Registration: api.Registration{
				Node: "clients", Address: "10.1.1.1", SkipNodeUpdate: true,
				Service: &api.Service{ID: "one", Service: "one", Port: port, Tags: []string{op.value}, Meta: map[string]string{}, Weights: api.Weights{Passing: 1, Warning: 1}},
			}}
		}
	}
	res, err := c.ep.Write(ctx, &endpoint.Write{Command: cmd})
	if err != nil {
		return outcome{}, err
	}
	return outcome{known: true, ok: res.OK}, nil
}

// read gives what a key holds.
func (c *client) read(ctx context.Context, key string) (register, error) {
	q := &endpoint.Query{Kind: endpoint.KVGet, Name: key}
	if key == catalogKey {
		q.Kind, q.Name = endpoint.ServiceNodes, "one"
	}
	if c.random.IntN(2) == 0 {
		q.Consistency = api.Consistent
	}
	a, err := c.ep.Read(ctx, q)
	if err != nil {
		return register{}, err
	}
	if key == catalogKey {
		rows, err := endpoint.Into[[]*api.ServiceNode](a)
		if err != nil || len(rows) == 0 {
			return register{}, err
		}
		return register{value: rows[0].ServiceTags[0]}, nil
	}
	pairs, err := endpoint.Into[[]*api.KVPair](a)
	if err != nil {
		return register{}, err
	}
	delete(c.seen, key)
	if len(pairs) == 0 {
		return register{}, nil
	}
	c.seen[key] = *pairs[0]
	return register{string(pairs[0].Value), pairs[0].Session}, nil
}
