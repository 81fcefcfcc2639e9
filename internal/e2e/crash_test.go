package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// crashes is how often the server is killed.
const crashes = 50

// A server is killed with -9 at random moments of a mixed load, fifty times. Every write
// that was acknowledged is there afterwards, whether it comes back from the log or from a
// snapshot, and conditional writes happened as often as they said.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	conf := filepath.Join(t.TempDir(), "often.json") // so that restarts meet snapshots of every age
	write(t, conf, `{"raft_snapshot_threshold":64,"raft_snapshot_interval":"1s","raft_trailing_logs":32,"log_level":"warn"}`)
	server := startServer(t, "-config-file="+conf)
	c := server.client()

	said := &promises{keys: map[string]string{}, services: map[string]int{}}
	for crash := range crashes {
		ctx, cancel := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for w := range 4 {
			load.Go(func() { said.puts(ctx, c, fmt.Sprintf("w%d/c%d", w, crash)) })
		}
		load.Go(func() { said.counts(ctx, c) })
		load.Go(func() { said.registers(ctx, c, crash) })
		load.Go(func() { said.locks(ctx, c, crash) })
		load.Go(func() { said.transacts(ctx, c, crash) })
		pause := time.NewTimer(time.Duration(20+random.IntN(300)) * time.Millisecond)
		<-pause.C
		server.kill()
		cancel()
		load.Wait()
		server.run()
		server.awaitLeader()
		if err := said.kept(c); err != nil {
			t.Fatalf("after crash %d: %v", crash+1, err)
		}
	}
	t.Logf("%d keys, %d services, counter %d of %d tried", len(said.keys), len(said.services), said.counted, said.tried)
	if len(said.keys) < crashes || said.counted == 0 || len(said.services) == 0 || said.locked == 0 || said.transacted == 0 {
		t.Errorf("there was too little load to show anything: %d keys, %d counted, %d services, %d locks, %d transactions",
			len(said.keys), said.counted, len(said.services), said.locked, said.transacted)
	}
}

// promises are the writes that were acknowledged.
type promises struct {
	mu             sync.Mutex
	keys           map[string]string // by key
	services       map[string]int    // port by name
	counted, tried int               // increments of a counter: acknowledged, and sent
	locked         int
	transacted     int
}

func (p *promises) puts(ctx context.Context, c *consul.Client, prefix string) {
	for i := 0; ctx.Err() == nil; i++ {
		key, value := prefix+"/"+strconv.Itoa(i), strconv.Itoa(i)
		if _, err := c.KV().Put(&consul.KVPair{Key: key, Value: []byte(value)}, (&consul.WriteOptions{}).WithContext(ctx)); err == nil {
			p.mu.Lock()
			p.keys[key] = value
			p.mu.Unlock()
		}
	}
}

func (p *promises) counts(ctx context.Context, c *consul.Client) {
	for ctx.Err() == nil {
		pair, _, err := c.KV().Get("counter", (&consul.QueryOptions{}).WithContext(ctx))
		if err != nil {
			continue
		}
		next := &consul.KVPair{Key: "counter", Value: []byte("1")}
		if pair != nil {
			n, err := strconv.Atoi(string(pair.Value))
			if err != nil {
				n = -1 << 30 // shows up in kept
			}
			next.Value, next.ModifyIndex = []byte(strconv.Itoa(n+1)), pair.ModifyIndex
		}
		p.mu.Lock()
		p.tried++
		p.mu.Unlock()
		ok, _, err := c.KV().CAS(next, (&consul.WriteOptions{}).WithContext(ctx))
		if ok && err == nil {
			p.mu.Lock()
			p.counted++
			p.mu.Unlock()
		}
	}
}

func (p *promises) registers(ctx context.Context, c *consul.Client, crash int) {
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("svc-%d-%d", crash, i)
		_, err := c.Catalog().Register(&consul.CatalogRegistration{
			Node: "elsewhere", Address: "10.0.0.9", Service: &consul.AgentService{Service: name, Port: i + 1},
			Checks: consul.HealthChecks{{Node: "elsewhere", CheckID: name, ServiceID: name, Status: "passing"}},
		}, (&consul.WriteOptions{}).WithContext(ctx))
		if err == nil {
			p.mu.Lock()
			p.services[name] = i + 1
			p.mu.Unlock()
		}
	}
}

// locks takes a lock and lets go of it with a value, which must then be there.
func (p *promises) locks(ctx context.Context, c *consul.Client, crash int) {
	w := (&consul.WriteOptions{}).WithContext(ctx)
	for i := 0; ctx.Err() == nil; i++ {
		id, _, err := c.Session().CreateNoChecks(&consul.SessionEntry{TTL: "1h", LockDelay: time.Nanosecond}, w)
		if err != nil {
			continue
		}
		key, value := fmt.Sprintf("lock/%d/%d", crash, i), "held by "+id
		if ok, _, err := c.KV().Acquire(&consul.KVPair{Key: key, Value: []byte(value), Session: id}, w); err == nil && ok {
			p.mu.Lock()
			p.keys[key] = value
			p.locked++
			p.mu.Unlock()
		}
		_, _ = c.Session().Destroy(id, w)
	}
}

// transacts writes two keys that must stand or fall together.
func (p *promises) transacts(ctx context.Context, c *consul.Client, crash int) {
	for i := 0; ctx.Err() == nil; i++ {
		left, right := fmt.Sprintf("left/%d/%d", crash, i), fmt.Sprintf("right/%d/%d", crash, i)
		ok, _, _, err := c.KV().Txn(consul.KVTxnOps{
			{Verb: consul.KVSet, Key: left, Value: []byte("x")}, {Verb: consul.KVSet, Key: right, Value: []byte("x")},
		}, (&consul.QueryOptions{}).WithContext(ctx))
		if err == nil && ok {
			p.mu.Lock()
			p.keys[left], p.keys[right] = "x", "x"
			p.transacted++
			p.mu.Unlock()
		}
	}
}

// kept reports what was acknowledged and is not there.
func (p *promises) kept(c *consul.Client) error {
	pairs, _, err := c.KV().List("", nil)
	if err != nil {
		return err
	}
	have := make(map[string][]byte, len(pairs))
	for _, kv := range pairs {
		have[kv.Key] = kv.Value
	}
	for key, value := range p.keys {
		if got, ok := have[key]; !ok || !bytes.Equal(got, []byte(value)) {
			return fmt.Errorf("key %s was acknowledged with %q and is %q (there: %t)", key, value, got, ok)
		}
	}
	for key := range have {
		var crash, i int
		if n, _ := fmt.Sscanf(key, "left/%d/%d", &crash, &i); n == 2 && have[fmt.Sprintf("right/%d/%d", crash, i)] == nil {
			return fmt.Errorf("half a transaction happened: %s without its other half", key)
		}
	}
	n := 0
	if v, ok := have["counter"]; ok {
		if n, err = strconv.Atoi(string(v)); err != nil {
			return err
		}
	}
	if n < p.counted || n > p.tried {
		return fmt.Errorf("the counter is %d after %d acknowledged of %d tried increments", n, p.counted, p.tried)
	}
	rows, _, err := c.Catalog().Node("elsewhere", nil)
	if err != nil || rows == nil && len(p.services) > 0 {
		return fmt.Errorf("the node with the services: %v, %w", rows, err)
	}
	for name, port := range p.services {
		if s := rows.Services[name]; s == nil || s.Port != port {
			return fmt.Errorf("service %s was acknowledged and is %+v", name, s)
		}
	}
	return nil
}
