// Package client is how registrator and templater reach a catalog: the stock Go client of
// Consul's API, set up the way Consul's own tools are, and one loop that watches a query.
// It works against Rollcall and Consul alike.
package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/delay"
)

// Options are what flags and files may set. What is empty comes from CONSUL_HTTP_ADDR,
// CONSUL_HTTP_TOKEN and their kin, else from Consul's defaults.
type Options struct {
	Address   string // host:port, http(s)://… or unix://…
	Token     string
	TokenFile string
	Auth      string // user:password
	TLS       bool
	// Insecure leaves the server's certificate unchecked.
	Insecure                                 bool
	CAFile, CAPath, Cert, Key, TLSServerName string
	CA                                       string // the CA certificates themselves, in PEM
	Transport                                Transport
}

// New makes a client. It does not connect.
func New(o Options) (*consul.Client, error) {
	cfg := consul.DefaultConfig()
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	set(&cfg.Address, o.Address)
	set(&cfg.Token, o.Token)
	set(&cfg.TokenFile, o.TokenFile)
	set(&cfg.TLSConfig.CAFile, o.CAFile)
	set(&cfg.TLSConfig.CAPath, o.CAPath)
	if o.CA != "" {
		cfg.TLSConfig.CAPem = []byte(o.CA)
	}
	set(&cfg.TLSConfig.CertFile, o.Cert)
	set(&cfg.TLSConfig.KeyFile, o.Key)
	set(&cfg.TLSConfig.Address, o.TLSServerName)
	if o.TLS {
		cfg.Scheme = "https"
	}
	if o.Insecure {
		cfg.TLSConfig.InsecureSkipVerify = true
	}
	if o.Auth != "" {
		user, password, _ := strings.Cut(o.Auth, ":")
		cfg.HttpAuth = &consul.HttpBasicAuth{Username: user, Password: password}
	}
	cfg.Transport.WriteBufferSize, cfg.Transport.ReadBufferSize = 1<<10, 2<<10 // of each: a question is short
	address := cfg.Address
	c, err := consul.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("catalog at %q: %w", address, err)
	}
	t := cfg.HttpClient.Transport.(*http.Transport) // the stock client's own, for unix sockets another one
	o.Transport.apply(t, t == cfg.Transport)
	cfg.HttpClient.Transport = listener{t}
	return c, nil
}

// Bounds of a watch.
const (
	// Wait is how long one blocking query asks to wait, unless somebody says otherwise.
	Wait       = 60 * time.Second
	grace      = 10 * time.Second // beyond wait and its jitter, then the peer counts as silent
	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second // a catalog that is back must be seen soon
	// A watch whose answers never stop changing, or whose server does not block, asks
	// at most this often; the first few at once, so that a single change is not late.
	askEvery = 100 * time.Millisecond
	askBurst = 5
)

// Query asks once, with what the options say.
type Query[T any] func(*consul.QueryOptions) (T, *consul.QueryMeta, error)

// Update is what a watch hands on.
type Update[T any] struct {
	Value T
	Index uint64
	// Reset tells that the index went back, or the connection was lost: the catalog may
	// be another one, or have forgotten something.
	Reset bool
	Err   error // then Value is the zero value; the watch goes on
}

// Watch asks again whenever the answer may have changed, and hands on every answer and
// the first error of a row of errors, until ctx ends. After an error, or an index that
// went back, it asks without an index, so that a catalog that came back is read at once.
// An answer without news is not handed on, except the first after an error. One query
// waits for wait at the catalog; 0 is Wait. A catalog that says when to ask again is not
// asked before.
func Watch[T any](ctx context.Context, wait time.Duration, q Query[T], on func(Update[T])) {
	if wait <= 0 {
		wait = Wait
	}
	var index uint64
	failed := 0
	reset, known := false, false // known: it has given an index, and a catalog then always does
	var pace bucket
	rest := false // it looked, and nothing had changed
	for ctx.Err() == nil {
		from := index
		// After a pause it only looks, without an index: a catalog may have begun anew
		// meanwhile, and another's index would make it wait for what will not come. What is
		// as it was is then waited for at once.
		for pause := pace.take(time.Now()); pause > 0 && !rest; pause = pace.take(time.Now()) {
			if !delay.For(ctx, pause) {
				return
			}
			from = 0
		}
		rest = false
		bounded, cancel := context.WithTimeout(ctx, wait+wait/16+grace)
		bounded, after := heed(bounded)
		opts := (&consul.QueryOptions{WaitIndex: from, WaitTime: wait}).WithContext(once(bounded, cancel))
		v, meta, err := afresh(q, opts)
		over := bounded.Err()
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil && meta.LastIndex == 0 && known {
			err = errors.New("the answer has no index: it is not the catalog's")
		}
		if err != nil {
			switch {
			case errors.Is(over, context.DeadlineExceeded):
				err = errors.New("the catalog does not answer")
			case over != nil:
				err = errors.New("the connection to the catalog was lost")
			}
			if failed == 0 {
				on(Update[T]{Err: err, Index: index})
			}
			index, reset = 0, true
			delay.For(ctx, max(pause(failed), after()))
			failed++
			continue
		}
		failed = 0
		next := max(meta.LastIndex, 1)
		known = known || meta.LastIndex > 0
		if next < index {
			index, reset = 0, true
			continue
		}
		if next == index { // the time was up, or it only looked: no news
			rest = from == 0
			continue
		}
		on(Update[T]{Value: v, Index: next, Reset: reset})
		index, reset = next, false
	}
}

// once has cancel called where a question whose connection was lost is about to be put
// again over another one, as net/http does by itself: behind it may be a catalog that
// began anew, to which an index of the old one means something else.
func once(ctx context.Context, cancel context.CancelFunc) context.Context {
	var put atomic.Bool
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			if put.Swap(true) {
				cancel()
			}
		},
		GotFirstResponseByte: func() { put.Store(false) }, // what comes next is another question
	})
}

// afresh asks in a goroutine of its own: to take an answer apart needs a deep stack, which
// one that then waits for the next answer would keep, and many watches are as many stacks.
func afresh[T any](q Query[T], o *consul.QueryOptions) (v T, meta *consul.QueryMeta, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		v, meta, err = q(o)
	}()
	<-done
	return v, meta, err
}

// pause is longer after each failure, with jitter, so that many do not come back at the
// same moment.
func pause(failed int) time.Duration {
	most := min(retryFirst<<min(failed, 10), retryMost)
	return most/2 + rand.N(most/2+1)
}

// bucket is a token bucket that starts full: askBurst tokens, one more each askEvery.
type bucket struct{ full time.Time } // when it will be full

// take takes a token, or says how long to wait for one.
func (b *bucket) take(now time.Time) time.Duration {
	if b.full.Before(now) {
		b.full = now
	}
	if wait := b.full.Add(askEvery).Sub(now) - askBurst*askEvery; wait > 0 {
		return wait
	}
	b.full = b.full.Add(askEvery)
	return 0
}
