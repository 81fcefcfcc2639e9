package client

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	consul "github.com/hashicorp/consul/api"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "x": 0, "-3": 0, "0": 0, "7": 7 * time.Second, "3600": longest, "99999999999": longest,
		now.Add(9 * time.Second).Format(http.TimeFormat): 9 * time.Second, now.Add(-time.Hour).Format(http.TimeFormat): 0, now.Add(time.Hour).Format(http.TimeFormat): longest,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: got %s, want %s", v, got, want)
		}
	}
}

// trip answers a request without a network.
type trip func(*http.Request) *http.Response

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// A catalog that says when to ask again is left alone until then, and no longer than a
// minute; what says nothing is asked again soon.
func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code        int
		after       string
		least, most time.Duration
	}{
		"busy":           {http.StatusTooManyRequests, "20", 20 * time.Second, 23 * time.Second},
		"not there":      {http.StatusServiceUnavailable, "20", 20 * time.Second, 23 * time.Second},
		"for ever":       {http.StatusServiceUnavailable, "86400", longest, longest * 9 / 8},
		"nothing said":   {http.StatusTooManyRequests, "", retryFirst / 2, retryFirst},
		"another status": {http.StatusInternalServerError, "20", retryFirst / 2, retryFirst},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var asked []time.Time
				l := listener{trip(func(*http.Request) *http.Response {
					if asked = append(asked, time.Now()); len(asked) == 2 {
						cancel()
					}
					return &http.Response{StatusCode: c.code, Header: http.Header{"Retry-After": {c.after}}}
				})}
				Watch(ctx, 0, func(o *consul.QueryOptions) (int, *consul.QueryMeta, error) {
					r, err := http.NewRequestWithContext(o.Context(), http.MethodGet, "http://catalog/", nil)
					if err != nil {
						return 0, nil, err
					}
					resp, err := l.RoundTrip(r)
					if err != nil {
						return 0, nil, err
					}
					return 0, nil, consul.StatusError{Code: resp.StatusCode}
				}, func(Update[int]) {})
				if got := asked[1].Sub(asked[0]); got < c.least || got > c.most {
					t.Errorf("asked again after %s, want between %s and %s", got, c.least, c.most)
				}
			})
		})
	}
}

// The stock client's answers reach the ear.
func TestListenerIsThere(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer s.Close()
	c, err := New(Options{Address: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, after := heed(t.Context())
	if _, _, err := c.Catalog().Services((&consul.QueryOptions{}).WithContext(ctx)); err == nil {
		t.Error("no error of a 429")
	}
	if d := after(); d < 5*time.Second || d > 6*time.Second {
		t.Errorf("heard %s, want about 5s", d)
	}
}

// Connections are kept, unless the options say otherwise.
func TestTransport(t *testing.T) {
	t.Parallel()
	for disabled, want := range map[bool]int32{false: 1, true: 3} {
		var made atomic.Int32
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`"x"`)) }))
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				made.Add(1)
			}
		}
		s.Start()
		defer s.Close()
		c, err := New(Options{Address: s.URL, Transport: Transport{DisableKeepAlives: disabled}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := c.Status().Leader(); err != nil {
				t.Fatal(err)
			}
		}
		if made.Load() != want {
			t.Errorf("DisableKeepAlives %v: %d connections, want %d", disabled, made.Load(), want)
		}
	}
	var got http.Transport
	Transport{IdleConnTimeout: 1, MaxIdleConns: 2, MaxIdleConnsPerHost: 3, MaxConnsPerHost: 4, TLSHandshakeTimeout: 5}.apply(&got, false)
	if got.IdleConnTimeout != 1 || got.MaxIdleConns != 2 || got.MaxIdleConnsPerHost != 3 || got.MaxConnsPerHost != 4 || got.TLSHandshakeTimeout != 5 || got.DialContext != nil {
		t.Errorf("got %+v", &got)
	}
	Transport{}.apply(&got, true)
	if got.IdleConnTimeout != 90*time.Second || got.MaxIdleConns != 100 || got.MaxIdleConnsPerHost != 100 || got.MaxConnsPerHost != 0 || got.TLSHandshakeTimeout != 10*time.Second || got.DialContext == nil {
		t.Errorf("defaults: got %+v", &got)
	}
}

// A catalog that takes the connection and says nothing is given up when the handshake's
// time is up.
func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := New(Options{Address: "https://" + l.Addr().String(), Transport: Transport{TLSHandshakeTimeout: 50 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status().Leader(); err == nil || !strings.Contains(err.Error(), "TLS handshake timeout") {
		t.Errorf("got %v, want a TLS handshake timeout", err)
	}
}
