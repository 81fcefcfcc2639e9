package client

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Transport bounds the connections to the catalog. What is 0 has its default.
type Transport struct {
	DialKeepAlive       time.Duration // between the kernel's probes of a connection; default 30s, negative is off. Not of unix sockets
	DialTimeout         time.Duration // for a connection; default 30s. Not of unix sockets
	DisableKeepAlives   bool          // a connection for each question
	IdleConnTimeout     time.Duration // until a connection without a question is closed; default 90s
	MaxIdleConns        int           // default 100
	MaxIdleConnsPerHost int           // default 100
	// MaxConnsPerHost is how many connections there may be; default 0: as many as there are
	// watches. Fewer have watches take turns, and wait for each other's waits.
	MaxConnsPerHost     int
	TLSHandshakeTimeout time.Duration // default 10s
}

func (o Transport) apply(t *http.Transport, dials bool) {
	if dials {
		t.DialContext = (&net.Dialer{Timeout: cmp.Or(o.DialTimeout, 30*time.Second), KeepAlive: cmp.Or(o.DialKeepAlive, 30*time.Second)}).DialContext
	}
	t.DisableKeepAlives = o.DisableKeepAlives
	t.IdleConnTimeout = cmp.Or(o.IdleConnTimeout, 90*time.Second)
	t.MaxIdleConns = cmp.Or(o.MaxIdleConns, 100)
	t.MaxIdleConnsPerHost = cmp.Or(o.MaxIdleConnsPerHost, 100) // a watch keeps a connection; many must not wait for one another
	t.MaxConnsPerHost = o.MaxConnsPerHost
	t.TLSHandshakeTimeout = cmp.Or(o.TLSHandshakeTimeout, 10*time.Second)
}

// longest is how long a catalog is left alone at most, whatever it says.
const longest = time.Minute

// listener hears the Retry-After of answers 429 and 503, which the stock client leaves
// out of its errors.
type listener struct{ http.RoundTripper }

func (l listener) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
		if note, ok := r.Context().Value(noteKey{}).(*atomic.Int64); ok {
			note.Store(int64(retryAfter(resp.Header.Get("Retry-After"), time.Now())))
		}
	}
	return resp, err
}

type noteKey struct{}

// heed gives a context for one question, and afterwards how long the answer asked to be
// left alone, some jitter added; 0 if it did not.
func heed(ctx context.Context) (context.Context, func() time.Duration) {
	var note atomic.Int64
	return context.WithValue(ctx, noteKey{}, &note), func() time.Duration {
		d := time.Duration(note.Load())
		if d == 0 {
			return 0
		}
		return d + rand.N(d/8+1)
	}
}

// retryAfter reads the header: seconds, or a time. 0 is what says nothing.
func retryAfter(v string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(v); err == nil {
		d = time.Duration(min(n, int(longest/time.Second))) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), longest)
}
