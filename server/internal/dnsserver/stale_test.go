package dnsserver

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// lagging is a server that heard its leader some time ago; asks keeps how it was asked.
type lagging struct {
	*catalog
	lag time.Duration

	mu   sync.Mutex
	asks []endpoint.Query
}

func (l *lagging) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asks = append(l.asks, *q)
	a, err := l.catalog.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	lagged := *a
	lagged.Meta.LastContact = l.lag
	return &lagged, nil
}

// How fresh an answer has to be is asked of the catalog, and one at hand is given only
// while its server is that fresh.
func TestFreshness(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg    Config
		lag    time.Duration
		want   api.Consistency
		max    time.Duration
		cached bool
	}{
		"any age":      {Config{InPlace: true}, time.Hour, api.Stale, 0, true},
		"young":        {Config{InPlace: true, MaxStale: time.Minute}, time.Second, api.Stale, time.Minute, true},
		"old":          {Config{InPlace: true, MaxStale: time.Minute}, time.Hour, api.Stale, time.Minute, false},
		"leader":       {Config{InPlace: true, Consistent: true, MaxStale: time.Minute}, 0, api.Default, 0, false},
		"client agent": {Config{MaxStale: time.Minute}, time.Second, api.Stale, time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &lagging{catalog: world(), lag: c.lag}
			cfg := c.cfg
			cfg.Endpoint, cfg.Datacenter, cfg.Token = l, "dc1", func() string { return "secret" }
			s := New(cfg)
			packet, err := new(dns.Msg).SetQuestion("web.service.consul.", dns.TypeA).Pack()
			if err != nil {
				t.Fatal(err)
			}
			respond(t, s, packet, true)
			first := l.asks[0]
			if first.Consistency != c.want || first.MaxStale != c.max || first.Token != "secret" {
				t.Errorf("asked with %+v", first.QueryOptions)
			}
			r, err := parse(packet, true)
			if err != nil {
				t.Fatal(err)
			}
			var sc scratch
			if _, ok := s.quick(t.Context(), nil, &r, &sc); ok != c.cached {
				t.Errorf("at hand: %t, want %t", ok, c.cached)
			}
		})
	}
}

// Another token sees something else.
func TestTokenChanges(t *testing.T) {
	t.Parallel()
	token := "one"
	l := &lagging{catalog: world()}
	s := New(Config{Endpoint: l, Datacenter: "dc1", InPlace: true, Token: func() string { return token }})
	ask1(t, s, "web.service.consul.", dns.TypeA, true, 0)
	token = "two"
	ask1(t, s, "web.service.consul.", dns.TypeA, true, 0)
	if last := l.asks[len(l.asks)-1]; last.Token != "two" {
		t.Errorf("the last read was with token %q, want two", last.Token)
	}
}
