package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

func kvGet(ctx context.Context, r *request) (*reply, error) {
	q := &endpoint.Query{Kind: endpoint.KVGet, Name: r.tail}
	switch {
	case r.query.has("keys"):
		q.Kind, q.Separator = endpoint.KVKeys, r.query.get("separator")
		if q.Separator == "" {
			q.Separator = r.query.get("seperator") // how it was once spelt
		}
	case r.query.has("recurse"):
		q.Kind = endpoint.KVList
	case r.tail == "":
		return nil, api.Errorf(api.Invalid, "Missing key name")
	}
	rep, err := r.read(ctx, q)
	if err != nil {
		return nil, err
	}
	if !rep.answer.Found {
		h := http.Header{}
		setMeta(h, rep.answer)
		return &reply{status: http.StatusNotFound, header: h}, nil
	}
	if q.Kind != endpoint.KVGet || !r.query.has("raw") {
		return rep, nil
	}
	pairs, err := endpoint.Into[[]*api.KVPair](rep.answer)
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	h := http.Header{}
	setMeta(h, rep.answer)
	h.Set("Content-Type", "text/plain")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")
	return &reply{raw: pairs[0].Value, header: h}, nil
}

func kvPut(ctx context.Context, r *request) (*reply, error) {
	if r.tail == "" {
		return nil, api.Errorf(api.Invalid, "Missing key name")
	}
	if r.exclusive("cas", "acquire", "release") {
		return nil, api.Errorf(api.Invalid, "Conflicting flags: %s", r.URL.RawQuery)
	}
	c := &command.KV{Verb: command.Set, Pair: api.KVPair{Key: r.tail}}
	var err error
	if c.Pair.Flags, err = r.number("flags"); err != nil {
		return nil, err
	}
	switch {
	case r.query.has("cas"):
		c.Verb = command.CAS
		if c.Pair.ModifyIndex, err = r.number("cas"); err != nil {
			return nil, err
		}
	case r.query.has("acquire"):
		c.Verb, c.Pair.Session = command.Lock, r.query.get("acquire")
	case r.query.has("release"):
		c.Verb, c.Pair.Session = command.Unlock, r.query.get("release")
	}
	limit := int64(r.server.cfg.KVMaxValueSize)
	c.Pair.Value, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig) || r.ContentLength > limit:
		return nil, api.Errorf(api.TooLarge, "Request body(%d bytes) too large, max size: %d bytes. See limits.kv_max_value_size.", max(r.ContentLength, limit+1), limit)
	case err != nil:
		return nil, api.Errorf(api.Invalid, "read value: %v", err)
	}
	return r.write(ctx, "", c)
}

func kvDelete(ctx context.Context, r *request) (*reply, error) {
	if r.exclusive("recurse", "cas") {
		return nil, api.Errorf(api.Invalid, "Conflicting flags: %s", r.URL.RawQuery)
	}
	c := &command.KV{Verb: command.Delete, Pair: api.KVPair{Key: r.tail}}
	switch {
	case r.query.has("recurse"):
		c.Verb = command.DeleteTree
	case r.tail == "":
		return nil, api.Errorf(api.Invalid, "Missing key name")
	case r.query.has("cas"):
		c.Verb = command.DeleteCAS
		var err error
		if c.Pair.ModifyIndex, err = r.number("cas"); err != nil {
			return nil, err
		}
	}
	return r.write(ctx, "", c)
}

// exclusive reports whether more than one of the parameters is there.
func (r *request) exclusive(keys ...string) bool {
	n := 0
	for _, k := range keys {
		if r.query.has(k) {
			n++
		}
	}
	return n > 1
}

// number reads a parameter that is an unsigned number, 0 where it is not there.
func (r *request) number(key string) (uint64, error) {
	if !r.query.has(key) {
		return 0, nil
	}
	n, err := strconv.ParseUint(r.query.get(key), 10, 64)
	if err != nil {
		return 0, api.Errorf(api.Invalid, "Invalid value for ?%s: %q is not a number", key, r.query.get(key))
	}
	return n, nil
}
