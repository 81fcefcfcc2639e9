package httpapi

import (
	"context"
	"net/http"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

var errNoKey = api.Errorf(api.Invalid, "Missing key name")

// rawHeader is what keeps a browser from running a value as a page.
var rawHeader = http.Header{
	"Content-Type":            {"text/plain"},
	"X-Content-Type-Options":  {"nosniff"},
	"Content-Security-Policy": {"sandbox"},
}

func kvGet(ctx context.Context, r *request) (*reply, error) {
	q := &r.asked
	q.Kind, q.Name = endpoint.KVGet, r.tail
	switch {
	case r.query.has("keys"):
		q.Kind, q.Separator = endpoint.KVKeys, r.query.get("separator")
		if q.Separator == "" {
			q.Separator = r.query.get("seperator") // how it was once spelt
		}
	case r.query.has("recurse"):
		q.Kind = endpoint.KVList
	case r.tail == "":
		return nil, errNoKey
	}
	rep, err := r.read(ctx, q)
	if err != nil {
		return nil, err
	}
	rep.meta = indexMeta
	if !rep.answer.Found && q.Kind == endpoint.KVKeys && q.Name == "" { // the root is always there
		empty := endpoint.Answer{Meta: rep.answer.Meta, Found: true, Value: []string{}}
		return &reply{answer: &empty, meta: indexMeta}, nil
	}
	if !rep.answer.Found { // the headers of the answer, so that one can wait for the key
		h := http.Header{}
		setMeta(h, rep.answer, indexMeta)
		return &reply{status: http.StatusNotFound, header: h}, nil
	}
	if q.Kind != endpoint.KVGet || !r.query.has("raw") {
		return rep, nil
	}
	pairs, err := endpoint.Into[[]*api.KVPair](rep.answer)
	if err != nil {
		return nil, err
	}
	if len(pairs) == 0 {
		return nil, api.Errorf(api.Internal, "key %q was found without a value", q.Name)
	}
	h := rawHeader.Clone()
	setMeta(h, rep.answer, indexMeta)
	return &reply{raw: pairs[0].Value, header: h}, nil
}

func kvPut(ctx context.Context, r *request) (*reply, error) {
	if r.tail == "" {
		return nil, errNoKey
	}
	if r.query.exclusive("cas", "acquire", "release") {
		return nil, api.Errorf(api.Invalid, "Conflicting flags: %s", r.URL.RawQuery)
	}
	c := &command.KV{Verb: command.Set, Pair: api.KVPair{Key: r.tail}}
	var err error
	if c.Pair.Flags, err = r.query.number("flags"); err != nil {
		return nil, err
	}
	switch {
	case r.query.has("cas"):
		c.Verb = command.CAS
		if c.Pair.ModifyIndex, err = r.query.number("cas"); err != nil {
			return nil, err
		}
	case r.query.has("acquire"):
		c.Verb, c.Pair.Session = command.Lock, r.query.get("acquire")
	case r.query.has("release"):
		c.Verb, c.Pair.Session = command.Unlock, r.query.get("release")
	}
	c.Pair.Value, err = r.body(r.server.cfg.KVMaxValueSize)
	if api.KindOf(err) == api.TooLarge {
		err = api.Errorf(api.TooLarge, "%v See limits.kv_max_value_size.", err)
	}
	if err != nil {
		return nil, err
	}
	return r.write(ctx, "", c)
}

func kvDelete(ctx context.Context, r *request) (*reply, error) {
	if r.query.exclusive("recurse", "cas") {
		return nil, api.Errorf(api.Invalid, "Conflicting flags: %s", r.URL.RawQuery)
	}
	c := &command.KV{Verb: command.Delete, Pair: api.KVPair{Key: r.tail}}
	switch {
	case r.query.has("recurse"):
		c.Verb = command.DeleteTree
	case r.tail == "":
		return nil, errNoKey
	case r.query.has("cas"):
		c.Verb = command.DeleteCAS
		var err error
		if c.Pair.ModifyIndex, err = r.query.number("cas"); err != nil {
			return nil, err
		}
	}
	return r.write(ctx, "", c)
}
