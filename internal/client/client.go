// Package client is how registrator and templater reach a catalog: the stock Go client of
// Consul's API, set up the way Consul's own tools are, and one loop that watches a query.
// It works against Rollcall and Consul alike.
package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
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
	// a watch keeps a connection; many watches must not wait for one another
	cfg.Transport.MaxIdleConnsPerHost = 100
	c, err := consul.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("catalog at %q: %w", cfg.Address, err)
	}
	return c, nil
}

// Bounds of a watch.
const (
	// Wait is how long one blocking query asks to wait.
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
// An answer without news is not handed on, except the first after an error.
func Watch[T any](ctx context.Context, q Query[T], on func(Update[T])) {
	var index uint64
	failed := 0
	reset := false
	var pace bucket
	for ctx.Err() == nil {
		if wait := pace.take(time.Now()); wait > 0 {
			sleep(ctx, wait)
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, Wait+Wait/16+grace)
		opts := (&consul.QueryOptions{WaitIndex: index, WaitTime: Wait}).WithContext(bounded)
		v, meta, err := q(opts)
		silent := bounded.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if silent {
				err = errors.New("the catalog does not answer")
			}
			if failed == 0 {
				on(Update[T]{Err: err, Index: index})
			}
			index, reset = 0, true
			pause(ctx, failed)
			failed++
			continue
		}
		failed = 0
		next := max(meta.LastIndex, 1)
		if next < index {
			index, reset = 0, true
			continue
		}
		if next == index { // the time was up: no news
			continue
		}
		on(Update[T]{Value: v, Index: next, Reset: reset})
		index, reset = next, false
	}
}

// pause waits longer after each failure, with jitter, so that many do not come back at
// the same moment.
func pause(ctx context.Context, failed int) {
	most := min(retryFirst<<min(failed, 10), retryMost)
	sleep(ctx, most/2+rand.N(most/2+1))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
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
