package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

func TestCachedHeaders(t *testing.T) {
	h := newHouse(nil)
	h.catalog.answer = func(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
		if q.MinIndex > 0 {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return endpoint.Encoded(api.QueryMeta{Index: 9, KnownLeader: true}, true, []byte("[]")), nil
	}
	cache := endpoint.NewAgentCache(h.catalog, slog.New(slog.DiscardHandler))
	h.Server = New(Config{Endpoint: h.catalog, Cached: cache, Agent: h.agent, Datacenter: "dc1", Node: "n1"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- cache.Run(ctx) }()
	for _, c := range []struct{ url, cache, age string }{
		{"/v1/health/service/web", "", ""}, {"/v1/health/service/web?cached", "MISS", ""}, {"/v1/health/service/web?cached", "HIT", "0"},
		{"/v1/health/service/web?cached&passing", "MISS", ""}, {"/v1/catalog/services?cached", "MISS", ""}, {"/v1/catalog/nodes?cached", "", ""},
		{"/v1/query/q/execute?cached", "MISS", ""}, {"/v1/query/q/execute?cached", "HIT", "0"}, {"/v1/catalog/datacenters?cached", "MISS", ""},
		{"/v1/kv/a?cached&recurse", "", ""},
	} {
		resp := h.do(t, http.MethodGet, c.url, "")
		if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Cache") != c.cache || resp.Header.Get("Age") != c.age {
			t.Errorf("%s: %d, X-Cache %q, Age %q; want %q, %q", c.url, resp.StatusCode, resp.Header.Get("X-Cache"), resp.Header.Get("Age"), c.cache, c.age)
		}
	}
	if resp := h.do(t, http.MethodGet, "/v1/health/service/web?cached", "", "Cache-Control: max-age=soon"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a bad Cache-Control: %d", resp.StatusCode)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFreshness(t *testing.T) {
	for text, want := range map[string]endpoint.Freshness{
		"":                                  {},
		"max-age=30":                        {MaxAge: 30 * time.Second},
		"Max-Age=30 , stale-if-error=\"5\"": {MaxAge: 30 * time.Second, StaleIfError: 5 * time.Second},
		"max-age=0":                         {MustRevalidate: true},
		"must-revalidate, private":          {MustRevalidate: true},
	} {
		if got, err := freshness([]string{text}); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"max-age", "max-age=-1", "stale-if-error=x"} {
		if _, err := freshness([]string{text}); api.KindOf(err) != api.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}
