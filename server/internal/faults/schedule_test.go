package faults

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

var (
	seeds = flag.Int("seeds", 20, "schedules of faults that TestSchedules goes through")
	first = flag.Uint64("first", 0, "the first of them")
)

// Clusters of three and five servers go through a schedule of faults while clients write,
// read, compare and lock through servers and through client agents. The histories are
// linearizable, nothing that was acknowledged is lost, and once all is healed the states of
// all servers are equal. A schedule is its seed: -first=N -seeds=1 -v shows it again.
func TestSchedules(t *testing.T) {
	for i := range *seeds {
		seed := *first + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { schedule(t, seed) })
		})
	}
}

// checking is held by the one schedule whose history is checked: that can take gigabytes.
var checking sync.Mutex

func schedule(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	began := time.Now()
	c := newCluster(t, 3+2*int(seed%2))
	defer c.stop()
	if err := c.equal(time.Minute); err != nil {
		t.Fatal(err)
	}
	h := &history{}
	var clients []*client
	for id := range 5 {
		x := &client{id: id, h: h, random: rand.New(rand.NewPCG(seed, uint64(100+id))), seen: map[string]api.KVPair{}}
		if id < 3 {
			x.ep = c.nodes[id].endpoint()
		} else {
			ep, closePool := c.remote(fmt.Sprintf("10.9.9.%d", id))
			defer closePool()
			x.ep = ep
		}
		x.session = uuid.NewSHA1(uuid.Nil, fmt.Append(nil, id)).String()
		clients = append(clients, x)
	}
	setUp(t, clients)

	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for _, x := range clients {
		working.Go(func() { x.run(ctx, 80) })
	}
	for range 10 {
		time.Sleep(time.Duration(500+random.IntN(6000)) * time.Millisecond)
		what := c.fault(random)
		t.Logf("%8s %s", time.Since(began).Round(time.Millisecond), what)
	}
	c.heal()
	for _, x := range c.nodes {
		if x.now() == nil {
			x.start()
		}
	}
	t.Logf("%8s all healed", time.Since(began).Round(time.Millisecond))
	time.Sleep(10 * time.Second)
	stop()
	working.Wait()
	if err := c.equal(2 * time.Minute); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"k0", "k1", "k2", catalogKey} {
		clients[4].do(t.Context(), operation{kind: get, key: key})
	}
	if len(h.ops) < 100 {
		t.Errorf("only %d operations went through", len(h.ops))
	}
	unknown := 0
	for _, op := range h.ops {
		if op.ClientId >= 1000 {
			unknown++
		}
	}
	t.Logf("%d operations, the fate of %d open", len(h.ops), unknown)
	checking.Lock()
	result, info := porcupine.CheckOperationsVerbose(registers, h.settled(), 30*time.Second)
	debug.FreeOSMemory()
	checking.Unlock()
	switch result {
	case porcupine.Illegal:
		file := filepath.Join(os.TempDir(), fmt.Sprintf("rollcall-history-%d.html", seed))
		err := porcupine.VisualizePath(registers, info, file)
		t.Errorf("the history is not linearizable; see %s (%v)", file, err)
	case porcupine.Unknown:
		t.Log("the history is too tangled to be decided upon")
	}
}

// setUp writes what the clients need: a node of no agent's, and a session each on it.
func setUp(t *testing.T, clients []*client) {
	t.Helper()
	write := func(c command.Command) {
		t.Helper()
		if _, err := clients[0].ep.Write(t.Context(), &endpoint.Write{Command: c}); err != nil {
			t.Fatal(err)
		}
	}
	write(&command.Register{Registration: api.Registration{Node: "clients", Address: "10.1.1.1"}})
	for _, x := range clients {
		write(&command.CreateSession{Session: api.Session{ID: x.session, Node: "clients", Behavior: api.ReleaseKeys}})
	}
}
