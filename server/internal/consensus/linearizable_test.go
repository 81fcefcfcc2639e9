package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/servertest"
)

// An operation on one key: a write swaps the value and gives the one before, a read gives
// the value.
type operation struct {
	write bool
	key   string
	value string
	alone bool // the write is exclusive
}

type outcome struct {
	value string
	known bool // false: the write may have happened, now or later
}

// swapRegister is what a history of one key has to be explained by.
var swapRegister = porcupine.Model{
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
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out := input.(operation), output.(outcome)
		ok := !out.known || out.value == state.(string)
		if in.write {
			return ok, in.value
		}
		return ok, state
	},
}

// Clients write and read through whoever leads, while servers are cut off, connections
// break and leaders change: the history is one that a single register could have.
func TestC6Linearizable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { linearizable(t, seed) })
		})
	}
}

func linearizable(t *testing.T, seed uint64) {
	n := servertest.NewNet()
	leader, others := trio(t, n, nil)
	servers := append(others, leader)
	defer stopAll(servers...)
	var (
		clock   atomic.Int64 // orders calls and returns
		mu      sync.Mutex
		history []porcupine.Operation
		clients sync.WaitGroup
	)
	ctx, stop := context.WithCancel(t.Context())
	for c := range 4 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c)))
			for i := 0; i < 300 && ctx.Err() == nil; i++ {
				op := operation{random.IntN(2) == 0, fmt.Sprint("k", random.IntN(2)), fmt.Sprintf("%d.%d", c, i), random.IntN(2) == 0}
				call := clock.Add(1)
				out, happened := try(ctx, servers[random.IntN(3)], op)
				ret := clock.Add(1)
				if !out.known {
					ret = math.MaxInt64 // it may still happen
				}
				if happened {
					mu.Lock()
					history = append(history, porcupine.Operation{ClientId: c, Input: op, Output: out, Call: call, Return: ret})
					mu.Unlock()
				}
				time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
			}
		})
	}
	faults := rand.New(rand.NewPCG(seed, 99))
	for range 6 {
		time.Sleep(time.Duration(200+faults.IntN(400)) * time.Millisecond)
		victim := servers[faults.IntN(3)].id
		if faults.IntN(3) == 0 {
			n.Cut(victim)
			continue
		}
		n.Partition(victim)
		time.Sleep(time.Duration(200+faults.IntN(3000)) * time.Millisecond)
		n.Heal()
	}
	stop()
	clients.Wait()
	if len(history) < 40 {
		t.Fatalf("only %d operations went through", len(history))
	}
	// each unknown write is a client of its own from then on, since its client went on
	for i := range history {
		if history[i].Return == math.MaxInt64 {
			history[i].ClientId = 100 + i
		}
	}
	if got := porcupine.CheckOperationsTimeout(swapRegister, history, 20*time.Second); got == porcupine.Illegal {
		t.Errorf("%d operations are not linearizable", len(history))
	}
}

// try carries out op at a server. happened is false where it certainly did not.
func try(ctx context.Context, s *server, op operation) (out outcome, happened bool) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if !op.write {
		if !s.IsLeader() || s.VerifyLeader(ctx) != nil {
			return outcome{known: true}, false
		}
		return outcome{s.fsm.get(op.key), true}, true
	}
	var item consensus.Item = set{op.key, op.value}
	if op.alone {
		item = alone{set{op.key, op.value}}
	}
	v, err := s.Apply(ctx, item)
	switch {
	case err == nil:
		return outcome{v.(string), true}, true
	case errors.Is(err, consensus.ErrUnknown):
		return outcome{}, true // also where the test's end cut it off
	}
	return outcome{known: true}, false
}
