package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/store"
)

// fakeRaft is a log that applies at once, and leads as a test says.
type fakeRaft struct {
	mu      sync.Mutex
	store   *store.Store
	index   uint64
	leading bool
	leader  string
	others  []string // of a server whose disk hangs
	lag     time.Duration
	fail    error // of Apply, once
	verify  error
	changed chan struct{}
}

func newRaft(s *store.Store) *fakeRaft {
	return &fakeRaft{store: s, leading: true, leader: "10.0.0.1:8300", changed: make(chan struct{})}
}

func (r *fakeRaft) Apply(_ context.Context, item consensus.Item) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail; err != nil {
		r.fail = nil
		return nil, err
	}
	r.index++
	tx := r.store.Begin(r.index)
	defer tx.Commit()
	switch c := item.(command.Item).Command.(type) {
	case *command.Register:
		if err := tx.Register(&c.Registration); err != nil {
			return &command.Result{Index: r.index, Err: api.AsError(err)}, nil
		}
	case *command.Places:
		tx.SetPlaces(c.Entries)
	case *command.CreateSession:
		if err := tx.CreateSession(&c.Session); err != nil {
			return &command.Result{Index: r.index, Err: api.AsError(err)}, nil
		}
		return &command.Result{Index: r.index, OK: true, ID: c.ID}, nil
	case *command.EndSession:
		tx.EndSession(c.ID, c.Reason)
	case *command.KV:
		if c.Verb == command.Delete {
			tx.KVDelete(c.Pair.Key)
		} else {
			tx.KVSet(&c.Pair)
		}
	}
	return &command.Result{Index: r.index, OK: true}, nil
}

func (r *fakeRaft) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *fakeRaft) IsLeader() bool           { r.mu.Lock(); defer r.mu.Unlock(); return r.leading }
func (r *fakeRaft) Leader() (string, string) { r.mu.Lock(); defer r.mu.Unlock(); return "id", r.leader }
func (r *fakeRaft) Others() []string         { r.mu.Lock(); defer r.mu.Unlock(); return r.others }
func (r *fakeRaft) Watch() <-chan struct{}   { r.mu.Lock(); defer r.mu.Unlock(); return r.changed }
func (r *fakeRaft) VerifyLeader(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.verify
}
func (r *fakeRaft) LastContact() time.Duration { r.mu.Lock(); defer r.mu.Unlock(); return r.lag }
func (r *fakeRaft) Servers() ([]*api.RaftServer, uint64, error) {
	return []*api.RaftServer{{ID: "id1", Address: "10.0.0.1:8300", Voter: true, Leader: true}}, 1, nil
}

// other is the leader's endpoint elsewhere.
type other struct {
	mu     sync.Mutex
	reads  []*Query
	writes int
	err    error
}

func (o *other) Read(_ context.Context, q *Query) (*Answer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reads = append(o.reads, q)
	return Encoded(api.QueryMeta{Index: 99}, true, []byte(`["elsewhere"]`)), o.err
}

func (o *other) Write(context.Context, *Write) (*command.Result, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	return &command.Result{OK: true}, o.err
}

func setup() (*Local, *fakeRaft, *other) {
	s := store.New()
	r, o := newRaft(s), &other{}
	return NewLocal(Config{Datacenter: "dc1", Store: s, Raft: r, At: func(string) Endpoint { return o }}), r, o
}

func put(t testing.TB, l *Local, key, value string) {
	t.Helper()
	if _, err := l.Write(t.Context(), &Write{Command: &command.KV{Verb: command.Set, Pair: api.KVPair{Key: key, Value: []byte(value)}}}); err != nil {
		t.Fatal(err)
	}
}

func instance(t testing.TB, l *Local, node, id, status string, tags ...string) {
	t.Helper()
	_, err := l.Write(t.Context(), &Write{Command: &command.Register{Registration: api.Registration{
		Node: node, Address: "10.0.0.1", NodeMeta: map[string]string{"rack": node},
		Service: &api.Service{ID: id, Service: "web", Tags: tags, Port: 80},
		Checks:  []*api.Check{{CheckID: "c" + id, Name: "c", ServiceID: id, Status: status}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
}

// The joined fragments are the same JSON as the values encode to.
func TestEncodings(t *testing.T) {
	t.Parallel()
	l, _, _ := setup()
	instance(t, l, "n1", "a", api.Passing, "x<y")
	instance(t, l, "n2", "b", api.Critical)
	put(t, l, "k/a", "v")
	put(t, l, "k/b/c", "")
	for _, q := range []*Query{
		{Kind: Nodes}, {Kind: Services}, {Kind: ServiceNodes, Name: "web"}, {Kind: HealthService, Name: "WEB"}, {Kind: NodeServices, Name: "n1"}, {Kind: NodeList, Name: "n1"},
		{Kind: HealthNode, Name: "n1"}, {Kind: HealthChecks, Name: "web"}, {Kind: HealthState, Name: api.Any}, {Kind: KVGet, Name: "k/a"}, {Kind: KVList, Name: "k/"},
		{Kind: KVKeys, Name: "k/", Separator: "/"}, {Kind: NodeServices, Name: "none"}, {Kind: HealthService, Name: "none"}, {Kind: KVList, Name: "none"},
		{Kind: Leader}, {Kind: Peers}, {Kind: Raft}, {Kind: Datacenters},
	} {
		a, err := l.Read(t.Context(), q)
		if err != nil {
			t.Errorf("%s %s: %v", q.Kind, q.Name, err)
			continue
		}
		got, err := a.JSON()
		if err != nil {
			t.Fatal(err)
		}
		want, err := marshal(a.Value)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) || !json.Valid(got) {
			t.Errorf("%s %s: fragments %s, value %s", q.Kind, q.Name, got, want)
		}
		if a.Meta.Index == 0 || !a.Meta.KnownLeader {
			t.Errorf("%s %s: meta %+v", q.Kind, q.Name, a.Meta)
		}
	}
	a, err := l.Read(t.Context(), &Query{Kind: KVKeys, Name: "k/", Separator: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a.Value, []string{"k/a", "k/b/"}); d != "" {
		t.Errorf("folded keys: got (-) want (+):\n%s", d)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	l, _, _ := setup()
	instance(t, l, "n1", "a", api.Passing, "X", "y")
	instance(t, l, "n2", "b", api.Warning, "x")
	instance(t, l, "n3", "c", api.Critical, "z")
	for name, c := range map[string]struct {
		q    Query
		want string
	}{
		"all":        {Query{}, "abc"},
		"passing":    {Query{Passing: true}, "a"},
		"a tag":      {Query{Tags: []string{"x"}}, "ab"},
		"two tags":   {Query{Tags: []string{"x", "Y"}}, "a"},
		"node meta":  {Query{NodeMeta: map[string]string{"rack": "n2"}}, "b"},
		"expression": {Query{Filter: `Service.Tags contains "z" or Node.Node == "n1"`}, "ac"},
	} {
		c.q.Kind, c.q.Name = HealthService, "web"
		a, err := l.Read(t.Context(), &c.q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ""
		for _, i := range a.Value.([]*api.Instance) {
			got += i.Service.ID
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
	if _, err := l.Read(t.Context(), &Query{Kind: HealthService, Name: "web", Filter: "what ("}); api.KindOf(err) != api.Invalid {
		t.Errorf("a broken expression: %v", err)
	}
}

func TestBlocking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _, _ := setup()
		put(t, l, "a/1", "x")
		read := func(q Query) (got chan *Answer) {
			got = make(chan *Answer, 1)
			go func() {
				a, err := l.Read(t.Context(), &q)
				if err != nil {
					t.Error(err)
				}
				got <- a
			}()
			synctest.Wait()
			return got
		}
		asleep := func(c chan *Answer) bool {
			synctest.Wait()
			return len(c) == 0
		}
		key := read(Query{Kind: KVGet, Name: "a/1", QueryOptions: api.QueryOptions{MinIndex: 1}})
		missing := read(Query{Kind: KVGet, Name: "a/2", QueryOptions: api.QueryOptions{MinIndex: 1}})
		prefix := read(Query{Kind: KVList, Name: "a/", QueryOptions: api.QueryOptions{MinIndex: 1}})
		put(t, l, "b", "1")
		if !asleep(key) || !asleep(missing) || !asleep(prefix) {
			t.Error("a write elsewhere woke a watcher")
		}
		put(t, l, "a/2", "1")
		if a := <-missing; !a.Found || a.Meta.Index != 3 {
			t.Errorf("the missing key: %+v", a)
		}
		if a := <-prefix; len(a.Value.([]*api.KVPair)) != 2 {
			t.Errorf("the prefix: %+v", a.Value)
		}
		if !asleep(key) {
			t.Error("the other key's watcher woke")
		}
		put(t, l, "a/1", "x") // the same again
		if !asleep(key) {
			t.Error("an idempotent write woke a watcher")
		}
		put(t, l, "a/1", "y")
		<-key

		began := time.Now()
		a := <-read(Query{Kind: KVGet, Name: "a/1", QueryOptions: api.QueryOptions{MinIndex: 100, MaxWait: 16 * time.Second}})
		if took := time.Since(began); took < 16*time.Second || took > 17*time.Second+time.Millisecond || a.Meta.Index >= 100 {
			t.Errorf("without a change: %v, index %d; want 16 to 17 s and the present index", took, a.Meta.Index)
		}
		began = time.Now()
		<-read(Query{Kind: KVGet, Name: "a/1", QueryOptions: api.QueryOptions{MinIndex: 100, MaxWait: time.Hour}})
		if took := time.Since(began); took > 600*time.Second*17/16+time.Second {
			t.Errorf("an hour was not cut to the limit: %v", took)
		}
		restored := read(Query{Kind: HealthService, Name: "none", QueryOptions: api.QueryOptions{MinIndex: 100}})
		l.cfg.Store.Restore(store.NewBuilder().State())
		if a := <-restored; a.Meta.Index != 1 {
			t.Errorf("after a restore: index %d, want 1, never 0", a.Meta.Index)
		}
	})
}

func TestWhoAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, r, o := setup()
		put(t, l, "k", "v")
		r.set(func() { r.leading, r.lag = false, 3*time.Second })
		q := func(c api.Consistency, stale time.Duration) *Query {
			return &Query{Kind: KVGet, Name: "k", QueryOptions: api.QueryOptions{Consistency: c, MaxStale: stale}}
		}
		a, err := l.Read(t.Context(), q(api.Stale, 0))
		if err != nil || a.Meta.LastContact != 3*time.Second || a.Meta.Consistency != api.Stale || len(o.reads) != 0 {
			t.Errorf("stale on a follower: %+v, %v, %d forwarded", a, err, len(o.reads))
		}
		for i, c := range []*Query{q(api.Default, 0), q(api.Consistent, 0), q(api.Stale, time.Second)} {
			if a, err = l.Read(t.Context(), c); err != nil || a.Meta.Index != 99 || len(o.reads) != i+1 || o.reads[i].Consistency == api.Stale {
				t.Errorf("%v goes to the leader: %+v, %v", c.Consistency, a, err)
			}
		}
		if _, err := l.Write(t.Context(), &Write{Command: &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "x"}}}); err != nil || o.writes != 1 {
			t.Errorf("a write goes to the leader: %v, %d", err, o.writes)
		}
		r.set(func() { r.leader = "" })
		began := time.Now()
		if _, err := l.Read(t.Context(), q(api.Default, 0)); !errors.Is(err, api.ErrNoLeader) || time.Since(began) < 7*time.Second {
			t.Errorf("without a leader: %v after %v", err, time.Since(began))
		}
		go func() {
			time.Sleep(3 * time.Second)
			r.set(func() { r.leading, r.leader = true, "10.0.0.1:8300" })
		}()
		if _, err := l.Read(t.Context(), q(api.Default, 0)); err != nil {
			t.Errorf("a leader is found within the patience: %v", err)
		}
		if _, err := l.Read(t.Context(), &Query{Kind: Nodes, QueryOptions: api.QueryOptions{Datacenter: "mars"}}); !errors.Is(err, api.ErrNoPath) {
			t.Errorf("another datacenter: %v", err)
		}
	})
}

// Whether a write may have happened is told truly, and only one that did not is tried
// again.
func TestWriteOutcomes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, r, _ := setup()
		w := &Write{Command: &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "k"}}}
		r.set(func() { r.fail = consensus.ErrNotLeader })
		if res, err := l.Write(t.Context(), w); err != nil || !res.OK {
			t.Errorf("not taken, then taken: %+v, %v", res, err)
		}
		before := r.index
		r.set(func() { r.fail = fmt.Errorf("lost: %w", consensus.ErrUnknown) })
		if _, err := l.Write(t.Context(), w); api.KindOf(err) != api.Unavailable || r.index != before {
			t.Errorf("of unknown fate: %v, index %d (was %d); want an error and no second try", err, r.index, before)
		}
	})
}

func TestRefusedWrites(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	for name, c := range map[string]command.Command{
		"no node":       &command.Register{Registration: api.Registration{Address: "x"}},
		"no address":    &command.Register{Registration: api.Registration{Node: "n"}},
		"no name":       &command.Register{Registration: api.Registration{Node: "n", Address: "x", Service: &api.Service{ID: "i"}}},
		"unspecified":   &command.Register{Registration: api.Registration{Node: "n", Address: "x", Service: &api.Service{Service: "s", Address: "0.0.0.0"}}},
		"bad status":    &command.Register{Registration: api.Registration{Node: "n", Address: "x", Checks: []*api.Check{{CheckID: "c", Status: "ill"}}}},
		"nothing to go": &command.Deregister{},
		"no key":        &command.KV{Verb: command.Set},
		"no session":    &command.KV{Verb: command.Lock, Pair: api.KVPair{Key: "k", Session: "s"}},
		"bad meta":      &command.Register{Registration: api.Registration{Node: "n", Address: "x", NodeMeta: map[string]string{"a b": "c"}}},
	} {
		if _, err := l.Write(t.Context(), &Write{Command: c}); err == nil || r.index != 0 {
			t.Errorf("%s: %v, index %d; want an error and nothing in the log", name, err, r.index)
		}
	}
}

func BenchmarkHealthService(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, _, _ := setup()
			for i := range n {
				instance(b, l, fmt.Sprint("n", i), fmt.Sprint("i", i), api.Passing)
			}
			b.ReportAllocs()
			for b.Loop() {
				a, err := l.Read(b.Context(), &Query{Kind: HealthService, Name: "web", Passing: true})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := a.JSON(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A read of the leader that says whom it knows is answered when another leads.
func TestLeaderIsAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, r, _ := setup()
		_, leader := r.Leader()
		q := &Query{Kind: Leader, Args: map[string]string{ArgKnown: leader}, QueryOptions: api.QueryOptions{MinIndex: 1, MaxWait: time.Minute}}
		got := make(chan any, 1)
		ask := func() {
			a, err := l.Read(t.Context(), q)
			if err != nil {
				t.Error(err)
				return
			}
			got <- a.Value
		}
		began := time.Now()
		ask()
		if v, took := <-got, time.Since(began); v != leader || took < time.Minute {
			t.Errorf("without a change: %v after %s", v, took)
		}
		go ask()
		synctest.Wait()
		began = time.Now()
		r.set(func() { r.leader = "10.0.0.9:8300" })
		if v, took := <-got, time.Since(began); v != "10.0.0.9:8300" || took != 0 {
			t.Errorf("after an election: %v after %s", v, took)
		}
	})
}
