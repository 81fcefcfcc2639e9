package httpapi

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

const (
	watchedMax = 4096             // services of one stream
	heartbeat  = 30 * time.Second // an empty line, so that both sides know of each other
)

var hashSeed = maphash.MakeSeed()

// healthWatch follows many services over one connection: a line of JSON for each of them,
// and another whenever it changes. Whoever waits for the same service shares the work, as
// with blocking reads. What is wrong with the request is answered with a status; a fault
// later is a line with an Error, and the stream goes on by itself.
func healthWatch(ctx context.Context, r *request) (*reply, error) {
	services := slices.Compact(slices.Sorted(slices.Values(r.query.all("service"))))
	switch {
	case len(services) == 0 || services[0] == "":
		return nil, api.Errorf(api.Invalid, "Missing service name: say which to follow, as in ?service=web&service=db")
	case len(services) > watchedMax:
		return nil, api.Errorf(api.Invalid, "%d services are more than the %d that one stream follows", len(services), watchedMax)
	}
	passing, err := r.query.flag("passing")
	if err != nil {
		return nil, err
	}
	question := *r.discovery(&endpoint.Query{Kind: endpoint.HealthService, Passing: passing})
	question.QueryOptions = r.opts
	question.MinIndex = 0
	first := make([]*endpoint.Answer, len(services))
	for i, name := range services {
		q := question
		q.Name = name
		if first[i], err = r.server.cfg.Endpoint.Read(ctx, &q); err != nil {
			return nil, err
		}
	}

	ctx, free := waiting(ctx)
	defer free()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := r.stream("application/x-ndjson")
	defer out.close()
	var sending sync.Mutex
	send := func(line []byte) {
		sending.Lock()
		defer sending.Unlock()
		if ctx.Err() == nil && out.piece(append(line, '\n')) != nil {
			cancel() // the client left
		}
	}
	var followers sync.WaitGroup
	for i, name := range services {
		q := question
		q.Name = name
		line, shown := stateLine(name, first[i])
		send(line)
		index := first[i].Meta.Index
		first[i] = nil
		followers.Go(func() { r.follow(ctx, q, index, shown, send) })
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			send(nil)
		case <-ctx.Done():
		}
	}
	followers.Wait()
	return &reply{sent: true}, nil
}

// follow sends a line whenever the answer to q is another than the one that was shown,
// until ctx ends. An index may move without that, where a service is not there.
func (r *request) follow(ctx context.Context, q endpoint.Query, index, shown uint64, send func([]byte)) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, 30*time.Second
	ill := false
	for ctx.Err() == nil {
		q.MinIndex = max(index, 1)
		ans, err := r.server.cfg.Endpoint.Read(ctx, &q)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if !ill {
				ill = true
				send(errorLine(q.Name, err))
			}
			select {
			case <-time.After(pause.NextBackOff()):
			case <-ctx.Done():
			}
		case ans.Meta.Index != index || ill:
			index = ans.Meta.Index
			line, now := stateLine(q.Name, ans)
			if ill || now != shown {
				send(line)
			}
			ill, shown = false, now
			pause.Reset()
		}
	}
}

// stateLine is an answer as a line, and a hash of what it shows.
func stateLine(service string, ans *endpoint.Answer) ([]byte, uint64) {
	body, err := ans.JSON()
	if err != nil {
		return errorLine(service, err), 0
	}
	line := append(make([]byte, 0, len(body)+len(service)+64), `{"Service":`...)
	line = append(line, quoted(service)...)
	line = append(line, `,"Index":`...)
	line = strconv.AppendUint(line, ans.Meta.Index, 10)
	line = append(line, `,"Instances":`...)
	line = append(line, body...)
	return append(line, '}'), maphash.Bytes(hashSeed, body)
}

func errorLine(service string, err error) []byte {
	return []byte(`{"Service":` + quoted(service) + `,"Error":` + quoted(err.Error()) + `}`)
}

// quoted is text as JSON has it.
func quoted(text string) string {
	b, _ := json.Marshal(text) // a string cannot fail
	return string(b)
}
