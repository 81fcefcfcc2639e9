package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/fsm"
	"github.com/rollcall/rollcall/server/internal/store"
)

// alone is the log of a server that is all of its cluster.
type alone struct {
	mu    sync.Mutex
	index uint64
	fsm   *fsm.FSM
}

func (a *alone) Apply(_ context.Context, item consensus.Item) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	data, err := item.Append(slices.Clone(command.Prefix))
	if err != nil {
		return nil, err
	}
	a.index++
	answers, ok := a.fsm.Apply(&raft.Log{Index: a.index, Data: data, AppendedAt: time.Now()}).([]any)
	if !ok {
		return nil, errors.New("a command that was encoded could not be decoded")
	}
	return answers[0], nil
}

func (a *alone) IsLeader() bool                     { return true }
func (a *alone) Leader() (string, string)           { return "id", "10.0.0.1:8300" }
func (a *alone) Watch() <-chan struct{}             { return nil }
func (a *alone) VerifyLeader(context.Context) error { return nil }
func (a *alone) LastContact() time.Duration         { return 0 }
func (a *alone) Others() []string                   { return nil }
func (a *alone) Servers() ([]*api.RaftServer, uint64, error) {
	return []*api.RaftServer{{ID: "id", Address: "10.0.0.1:8300"}}, 1, nil
}
func (a *alone) Snapshot(context.Context) (*consensus.Image, error) {
	return nil, errors.New("no snapshots here")
}
func (a *alone) Restore(context.Context, *consensus.Image) error {
	return errors.New("no snapshots here")
}

// real is the API of a whole server, but for what needs a network.
func real() *Server {
	st := store.New()
	quiet := slog.New(slog.DiscardHandler)
	log := &alone{fsm: fsm.New(st, quiet)}
	local := endpoint.NewLocal(endpoint.Config{Datacenter: "dc1", Store: st, Raft: log, Snapshots: log, Verify: fsm.Verify, Log: quiet})
	a := &agent{}
	return New(Config{
		Endpoint: local, Snapshots: local, Agent: a, Events: a, Operator: a, Datacenter: "dc1", Node: "n1", Log: quiet,
		DefaultQueryTime: time.Millisecond, MaxQueryTime: time.Millisecond,
	})
}

// Whatever is asked, in whatever words: the server answers, with a status that blames
// the right side, and goes on answering.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body string }{
		{"PUT", "/v1/catalog/register", "", `{"Node":"n1","Address":"1.2.3.4","Service":{"Service":"web","Port":80},"Check":{"Name":"c","Status":"passing"}}`},
		{"PUT", "/v1/catalog/deregister", "", `{"Node":"n1"}`},
		{"GET", "/v1/health/service/web", "passing&tag=a&filter=Service.Port==80&near=n1&node-meta=a:b", ""},
		{"GET", "/v1/kv/a", "recurse&keys&separator=/", ""},
		{"PUT", "/v1/kv/a", "cas=0&flags=18446744073709551615", "x"},
		{"PUT", "/v1/txn", "", `[{"KV":{"Verb":"set","Key":"a","Value":"eA=="}},{"Service":{"Verb":"set","Node":"n1","Service":{"Service":"web"}}},{}]`},
		{"PUT", "/v1/session/create", "", `{"Node":"n1","NodeChecks":[],"TTL":"10s","LockDelay":5}`},
		{"POST", "/v1/query", "", `{"Name":"q","Service":{"Service":"web","Tags":["!a"]},"Template":{"Type":"name_prefix_match","Regexp":"^(.*)$"}}`},
		{"GET", "/v1/query/q/execute", "limit=-1&near=_ip", ""},
		{"PUT", "/v1/event/fire/e", "node=(", "payload"},
		{"PUT", "/v1/coordinate/update", "", `{"Node":"n1","Coord":{"Vec":[0,0,0,0,0,0,0,1e400]}}`},
		{"PUT", "/v1/agent/service/register", "", `{"Name":"web","Checks":[{"TTL":"1s"},null],"Weights":{"Passing":-1}}`},
		{"PUT", "/v1/agent/check/register", "", `{"Name":"c","HTTP":"x","Interval":"1ns","Header":{"a":[null]}}`},
		{"PUT", "/v1/operator/autopilot/configuration", "cas=1", `{"MaxTrailingLogs":-5}`},
		{"PUT", "/v1/acl/token", "", `{"Policies":[{"Name":"x"}]}`},
		{"PUT", "/v1/snapshot", "", "\x1f\x8b"},
		{"GET", "/v1/agent/service/%ff", "hash=x&wait=-1s", ""},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if !slices.Contains([]string{"GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"}, method) || !strings.HasPrefix(path, "/") {
			return
		}
		u := &url.URL{Path: path, RawQuery: query}
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://agent/", strings.NewReader(body))
		r.Method, r.URL = method, u
		s := real()
		for range 2 { // the second meets what the first has written
			w := httptest.NewRecorder()
			r.Body = io.NopCloser(strings.NewReader(body))
			func() {
				defer func() {
					if p := recover(); p != nil && p != http.ErrAbortHandler {
						panic(p)
					}
				}()
				s.Handler().ServeHTTP(w, r)
			}()
			if got := w.Body.String(); strings.HasPrefix(got, "internal fault") {
				t.Fatalf("%s %s?%s %q: %d %s", method, path, query, body, w.Code, got)
			}
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://agent/v1/catalog/nodes", nil))
		if w.Code != 200 {
			t.Fatalf("after %s %s?%s %q: %d %s", method, path, query, body, w.Code, w.Body)
		}
	})
}
