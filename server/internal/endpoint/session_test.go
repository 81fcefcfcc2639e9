package endpoint

import (
	"slices"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

func TestNewSession(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		def  api.Session
		want string
	}{
		{api.Session{Node: "n1"}, ""},
		{api.Session{Node: "n1", TTL: "10s", Behavior: "delete"}, ""},
		{api.Session{Node: "n1", TTL: "10.0s"}, ""},
		{api.Session{Node: "n1", TTL: "0s"}, ""},
		{api.Session{}, "Must provide Node"},
		{api.Session{Node: "n1", Behavior: "foo"}, "Invalid Behavior setting 'foo'"},
		{api.Session{Node: "n1", TTL: "abc"}, `Session TTL 'abc' invalid: time: invalid duration "abc"`},
		{api.Session{Node: "n1", TTL: "5s"}, "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]"},
		{api.Session{Node: "n1", TTL: "25h"}, "Invalid Session TTL '90000000000000', must be between [10s=24h0m0s]"},
	} {
		err := newSession(&c.def, 10*time.Second)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: got %q, want %q", c.def, got, c.want)
		}
		if err == nil && (len(c.def.ID) != 36 || c.def.Behavior == "") {
			t.Errorf("what was left open: id %q, behavior %q", c.def.ID, c.def.Behavior)
		}
	}
	long := api.Session{Node: "n1", LockDelay: time.Hour}
	if err := newSession(&long, 0); err != nil || long.LockDelay != time.Minute {
		t.Errorf("a lock delay of an hour becomes %s, %v; want 1m", long.LockDelay, err)
	}
}

func TestSessionsAreRead(t *testing.T) {
	t.Parallel()
	l, _, _ := setup()
	var renewed []string
	l.cfg.Renew = func(id string) { renewed = append(renewed, id) }
	instance(t, l, "n1", "w1", api.Passing)
	res, err := l.Write(t.Context(), &Write{Command: &command.CreateSession{Session: api.Session{Node: "n1", TTL: "10s"}}})
	if err != nil || len(res.ID) != 36 {
		t.Fatalf("create: %+v, %v", res, err)
	}
	id := res.ID
	for _, c := range []struct {
		kind  Kind
		name  string
		found int
	}{
		{SessionList, "", 1}, {SessionNode, "N1", 1}, {SessionNode, "n2", 0}, {SessionInfo, id, 1}, {SessionRenew, id, 1},
		{SessionInfo, "adf4238a-882b-9ddc-4a9d-5b6758e4159e", 0},
	} {
		a, err := l.Read(t.Context(), &Query{Kind: c.kind, Name: c.name})
		if err != nil {
			t.Fatal(err)
		}
		rows, err := Into[[]*api.Session](a)
		if err != nil || len(rows) != c.found {
			t.Errorf("%s %s: %d rows, %v; want %d", c.kind, c.name, len(rows), err, c.found)
		}
	}
	if !slices.Equal(renewed, []string{id, id}) {
		t.Errorf("renewed %v, want %s at its creation and once more", renewed, id)
	}
	for id, want := range map[string]string{
		"zzz":                                  "failed session lookup: index error: UUID must be 36 characters",
		"adf4238a-882b-9ddc-4a9d-5b6758e4159e": "Session id 'adf4238a-882b-9ddc-4a9d-5b6758e4159e' not found",
	} {
		if _, err := l.Read(t.Context(), &Query{Kind: SessionRenew, Name: id}); err == nil || err.Error() != want {
			t.Errorf("renew %s: %v, want %s", id, err, want)
		}
	}
	if _, err := l.Write(t.Context(), &Write{Command: &command.EndSession{ID: id, Reason: "test"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(t.Context(), &Query{Kind: SessionRenew, Name: id}); err == nil || err.Error() != "Session id '"+id+"' not found: it has ended: test" {
		t.Errorf("renew of one that ended: %v", err)
	}
}

// A follower has the leader renew.
func TestRenewAtTheLeader(t *testing.T) {
	t.Parallel()
	l, r, o := setup()
	r.set(func() { r.leading = false })
	l.cfg.Renew = func(string) { t.Error("a follower counts") }
	if _, err := l.Read(t.Context(), &Query{Kind: SessionRenew, Name: "adf4238a-882b-9ddc-4a9d-5b6758e4159e"}); err != nil {
		t.Fatal(err)
	}
	if len(o.reads) != 1 || o.reads[0].Kind != SessionRenew {
		t.Errorf("the leader was asked %v", o.reads)
	}
}

func TestTxnFaultsAreAnswers(t *testing.T) {
	t.Parallel()
	l, _, _ := setup()
	instance(t, l, "n1", "w1", api.Passing)
	before := l.cfg.Store.State().Index()
	res, err := l.Write(t.Context(), &Write{Command: &command.Txn{Ops: []api.TxnOp{
		{KV: &api.TxnKV{Verb: api.TxnSet, Key: "a"}}, {KV: &api.TxnKV{Verb: api.TxnSet}}, {Node: &api.TxnNode{Verb: api.TxnSet}},
		{Service: &api.TxnService{Verb: api.TxnSet, Node: "n1"}}, {Service: &api.TxnService{Verb: api.TxnGet}},
		{Check: &api.TxnCheck{Verb: api.TxnSet}}, {Check: &api.TxnCheck{Verb: api.TxnSet, Check: api.Check{Node: "n1"}}},
		{Session: &api.TxnSession{Verb: api.TxnDelete}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []api.TxnError{
		{OpIndex: 1, What: "Must provide key"}, {OpIndex: 2, What: "Must provide node"},
		{OpIndex: 3, What: "Must provide service name (Service.Service) or ID (Service.ID)"}, {OpIndex: 4, What: "Must provide node"},
		{OpIndex: 5, What: "Must provide node"}, {OpIndex: 6, What: "Must provide check name or id"},
		{OpIndex: 7, What: "failed session lookup: index error: UUID must be 36 characters"},
	}
	if !slices.Equal(res.Txn.Errors, want) || res.Txn.Results != nil || res.OK {
		t.Errorf("got %+v\nwant %+v", res.Txn.Errors, want)
	}
	if after := l.cfg.Store.State().Index(); after != before {
		t.Errorf("it reached the log: index %d, then %d", before, after)
	}
	a, err := l.Read(t.Context(), &Query{Kind: TxnRead, Txn: []api.TxnOp{{Node: &api.TxnNode{Verb: api.TxnGet, Node: api.Node{Node: "n1"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Into[*api.TxnAnswer](a); err != nil || len(got.Results) != 1 || got.Results[0].Node.Node != "n1" {
		t.Errorf("a transaction that reads: %+v, %v", got, err)
	}
}
