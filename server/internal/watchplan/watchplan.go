// Package watchplan follows one query of the HTTP API and calls a handler, a program or a
// URL, with its answer: once at the start, then whenever the answer differs from the last.
// Types, parameters and what handlers get are those of Consul's watches. It knows no
// configuration and opens no connection: whoever uses it hands it something that carries
// out requests.
package watchplan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/rollcall/rollcall/internal/delay"
)

// Doer carries out a request of the API; *http.Client is one. The request's URL has no
// host that means anything. It may be called concurrently, and must end with the context.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Handler takes an answer, as JSON with a new line behind it, and the index it is of. An
// error is told in the log; the answer counts as taken.
type Handler func(ctx context.Context, index uint64, answer []byte) error

// Between tries after errors pass n² times retry, n being how many there were in a row, at
// most retryMax, and up to a tenth more.
const (
	retry    = 5 * time.Second
	retryMax = 3 * time.Minute
)

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 256 << 20

// Watch follows q until ctx ends.
func Watch(ctx context.Context, do Doer, q Query, handle Handler, log *slog.Logger) {
	log = log.With("watch", q.String())
	var index uint64
	var last []byte
	failures := 0
	for {
		answer, next, err := Once(ctx, do, q, index)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if failures++; failures == 1 {
				log.Warn("watch failed; trying on", "err", err)
			}
			if !pause(ctx, failures) {
				return
			}
			continue
		}
		if failures > 0 {
			log.Info("watch answers again")
		}
		failures = 0
		same := next == index || bytes.Equal(answer, last)
		at := next
		if next < index && q.Type != "event" { // whose indexes are no numbers in a row
			next = 0 // the catalog began anew
		}
		index = next
		if last != nil && same {
			continue
		}
		last = answer
		if err := handle(ctx, at, append(answer, '\n')); err != nil && ctx.Err() == nil {
			log.Warn("handler failed", "index", at, "err", err)
		}
	}
}

// pause waits after a number of failures in a row, and reports whether to go on.
func pause(ctx context.Context, failures int) bool {
	wait := retryMax
	if n := time.Duration(failures); n*n < retryMax/retry {
		wait = n * n * retry
	}
	return delay.For(ctx, wait+rand.N(wait/10))
}

// Refusal is an answer of the agent that is no success.
type Refusal struct {
	Code int // of HTTP
	Text string
}

func (r *Refusal) Error() string { return fmt.Sprintf("the agent answers %d: %s", r.Code, r.Text) }

// Once asks for the answer, which with an index above 0 comes when there is a newer one
// or after some minutes. The same content gives the same bytes.
func Once(ctx context.Context, do Doer, q Query, index uint64) (answer []byte, next uint64, err error) {
	path, values := q.request()
	if index > 0 {
		values.Set("index", strconv.FormatUint(index, 10))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return nil, 0, err
	}
	req.URL.RawQuery = values.Encode()
	if q.Token != "" {
		req.Header.Set("X-Consul-Token", q.Token)
	}
	resp, err := do.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("read the answer: %w", err)
	case len(body) > maxAnswer:
		return nil, 0, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	case resp.StatusCode == http.StatusNotFound && q.mayLack():
		body = []byte("null")
	case resp.StatusCode != http.StatusOK:
		return nil, 0, &Refusal{resp.StatusCode, string(bytes.TrimSpace(body[:min(len(body), 500)]))}
	}
	next, err = strconv.ParseUint(resp.Header.Get("X-Consul-Index"), 10, 64)
	if err != nil {
		return nil, 0, fmt.Errorf("the answer has no index: %w", err)
	}
	if answer, err = q.shape(body, index); err != nil {
		return nil, 0, fmt.Errorf("read the answer: %w", err)
	}
	return answer, next, nil
}

// compact sets JSON without blanks, so that the same content is the same bytes.
func compact(b []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
