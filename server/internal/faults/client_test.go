package faults

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	_ "github.com/rollcall/rollcall/internal/oneproc"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// bubble runs f on three servers that have one state, in a time of its own.
func bubble(t *testing.T, f func(*testing.T, *cluster)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		if err := c.equal(time.Minute); err != nil {
			t.Fatal(err)
		}
		f(t, c)
	})
}

// leader is the server that leads.
func (c *cluster) leader() *node {
	for {
		for _, x := range c.nodes {
			if r := x.now(); r != nil && r.raft.IsLeader() {
				return x
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func write(t *testing.T, ep endpoint.Endpoint, c command.Command) *command.Result {
	t.Helper()
	res, err := ep.Write(t.Context(), &endpoint.Write{Command: c})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func read(t *testing.T, ep endpoint.Endpoint, q endpoint.Query) *endpoint.Answer {
	t.Helper()
	a, err := ep.Read(t.Context(), &q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The TTL of a session, and with it a lock, begins anew in full when another server leads;
// then it ends, unless it is renewed.
func TestTTLsRestartInFull(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		ep, closePool := c.remote("10.9.9.1")
		defer closePool()
		session := uuid.NewString()
		write(t, ep, &command.Register{Registration: api.Registration{Node: "clients", Address: "10.1.1.1"}})
		write(t, ep, &command.CreateSession{Session: api.Session{ID: session, Node: "clients", Behavior: api.ReleaseKeys, TTL: "10s"}})
		if !write(t, ep, &command.KV{Verb: command.Lock, Pair: api.KVPair{Key: "lock", Session: session}}).OK {
			t.Fatal("the lock was refused")
		}
		time.Sleep(15 * time.Second) // of the twenty that it lives
		c.leader().kill()
		c.leader()
		time.Sleep(15 * time.Second)
		holder := func() string {
			pairs, err := endpoint.Into[[]*api.KVPair](read(t, ep, endpoint.Query{Kind: endpoint.KVGet, Name: "lock"}))
			if err != nil || len(pairs) != 1 {
				t.Fatalf("%v, %v", pairs, err)
			}
			return pairs[0].Session
		}
		if got := holder(); got != session {
			t.Errorf("held by %q thirty seconds after it was taken and fifteen after a leader died, want %q", got, session)
		}
		time.Sleep(10 * time.Second)
		if got := holder(); got != "" {
			t.Errorf("held by %q long after its session's time", got)
		}
	})
}

// A lock that its holder lost stays free for the lock delay, and not for longer, also when
// another server leads meanwhile, whose clock is half an hour off.
func TestLockDelayByAnyClock(t *testing.T) {
	for _, ahead := range []time.Duration{30 * time.Minute, -30 * time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				first := c.leader()
				for _, x := range c.nodes {
					if x != first {
						x.clock = first.clock + ahead
					}
				}
				ep, closePool := c.remote("10.9.9.1")
				defer closePool()
				write(t, ep, &command.Register{Registration: api.Registration{Node: "clients", Address: "10.1.1.1"}})
				session := func() string {
					id := uuid.NewString()
					write(t, ep, &command.CreateSession{Session: api.Session{ID: id, Node: "clients", Behavior: api.ReleaseKeys, LockDelay: 30 * time.Second}})
					return id
				}
				lock := func(session string) bool {
					return write(t, ep, &command.KV{Verb: command.Lock, Pair: api.KVPair{Key: "lock", Session: session}}).OK
				}
				old, next := session(), session()
				if !lock(old) {
					t.Fatal("the lock was refused")
				}
				write(t, ep, &command.EndSession{ID: old, Reason: "test"})
				first.kill()
				c.leader()
				if lock(next) {
					t.Error("locked at once after the holder's end, by the clock of another leader")
				}
				time.Sleep(31 * time.Second)
				if !lock(next) {
					t.Error("not locked when the delay was over")
				}
			})
		})
	}
}

// A client whose server dies asks another one at once, and a read that blocks there goes on
// to see the next change, whoever leads by then.
func TestClientMovesOn(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		ep, closePool := c.remote("10.9.9.1")
		defer closePool()
		write(t, ep, &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "k", Value: []byte("1")}})
		index := read(t, ep, endpoint.Query{Kind: endpoint.KVGet, Name: "k"}).Meta.Index
		seen := make(chan string, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			a, err := ep.Read(ctx, &endpoint.Query{Kind: endpoint.KVGet, Name: "k", QueryOptions: api.QueryOptions{MinIndex: index, MaxWait: 4 * time.Minute}})
			if err != nil {
				seen <- err.Error()
				return
			}
			pairs, err := endpoint.Into[[]*api.KVPair](a)
			if err != nil || len(pairs) == 0 {
				seen <- "nothing"
				return
			}
			seen <- string(pairs[0].Value)
		}()
		time.Sleep(time.Second)
		c.nodes[0].kill() // the first that a client turns to
		stale := endpoint.Query{Kind: endpoint.KVGet, Name: "k", QueryOptions: api.QueryOptions{Consistency: api.Stale}}
		began := time.Now()
		read(t, ep, stale)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a stale read took %s after the server died", took)
		}
		next := c.leader()
		if next == c.nodes[0] {
			t.Fatal("a dead server leads")
		}
		write(t, next.endpoint(), &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "k", Value: []byte("2")}})
		if got := <-seen; got != "2" {
			t.Errorf("the blocked read ended with %q", got)
		}
	})
}

// Every server answers stale reads when it is cut off from all others, and says that it
// knows no leader; the others are not asked.
func TestStaleReadsAnywhere(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		write(t, c.leader().endpoint(), &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "k", Value: []byte("1")}})
		if err := c.equal(time.Minute); err != nil {
			t.Fatal(err)
		}
		for _, x := range c.nodes {
			c.net.Partition(x.now().ip)
		}
		time.Sleep(10 * time.Second)
		for _, x := range c.nodes {
			a := read(t, x.endpoint(), endpoint.Query{Kind: endpoint.KVGet, Name: "k", QueryOptions: api.QueryOptions{Consistency: api.Stale}})
			if !a.Found || a.Meta.KnownLeader {
				t.Errorf("%s: found %t, knows a leader %t", x.name, a.Found, a.Meta.KnownLeader)
			}
			if _, err := x.endpoint().Read(t.Context(), &endpoint.Query{Kind: endpoint.KVGet, Name: "k"}); api.KindOf(err) != api.Unavailable {
				t.Errorf("%s answers a default read: %v", x.name, err)
			}
		}
		c.heal()
	})
}
