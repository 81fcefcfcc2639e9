package httpapi

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

func (a *agent) Fire(_ context.Context, dc, _ string, e *api.UserEvent) error {
	e.ID, e.Version = "f1575ee8-92f1-4ba1-9eb9-2f4fcc3d7da0", 1
	return a.note("fire %s in %q node=%s service=%s tag=%s %q", e.Name, dc, e.NodeFilter, e.ServiceFilter, e.TagFilter, e.Payload)
}

func (a *agent) List(name string) ([]*api.UserEvent, uint64, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		a.next = make(chan struct{})
	}
	if name == "nope" {
		return []*api.UserEvent{}, 1, a.next
	}
	return []*api.UserEvent{{ID: "i", Name: "deploy", Payload: []byte("v7"), NodeFilter: "web", Version: 1, LTime: 4}}, 42 + a.fired, a.next
}

func TestEventAnswers(t *testing.T) {
	answers(t, "event.golden", []string{
		"PUT /v1/event/fire/deploy?node=web&service=s&tag=t v7", "PUT /v1/event/fire/deploy", "PUT /v1/event/fire/", "GET /v1/event/fire/deploy",
		"GET /v1/event/list", "GET /v1/event/list?name=nope", "GET /v1/event/list?index=41&wait=1s", "PUT /v1/event/list",
	})
}

func TestEventFireAsks(t *testing.T) {
	h := newHouse(nil)
	h.do(t, http.MethodPut, "/v1/event/fire/a/b?node=n.*&dc=dc2", "x")
	if want := `fire a/b in "dc2" node=n.* service= tag= "x"`; len(h.agent.calls) != 1 || h.agent.calls[0] != want {
		t.Errorf("asked %q, want %q", h.agent.calls, want)
	}
}

// A right index waits for the next event or for the time asked for; any other does not.
func TestEventListBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(nil)
		ask := func(query string) (string, time.Duration) {
			began := time.Now()
			resp := h.do(t, http.MethodGet, "/v1/event/list?wait=10s&"+query, "")
			return resp.Header.Get("X-Consul-Index"), time.Since(began)
		}
		for query, want := range map[string]time.Duration{"": 0, "index=41": 0, "index=43": 0, "index=42": 10 * time.Second, "index=1&name=nope": 10 * time.Second} {
			if _, took := ask(query); took != want {
				t.Errorf("%q took %s, want %s", query, took, want)
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if index, took := ask("index=42"); index != "43" || took != 3*time.Second {
				t.Errorf("index %s after %s", index, took)
			}
		}()
		time.Sleep(3 * time.Second) // in the bubble: at once
		h.agent.mu.Lock()
		h.agent.fired++
		close(h.agent.next)
		h.agent.next = nil
		h.agent.mu.Unlock()
		<-done
	})
}
