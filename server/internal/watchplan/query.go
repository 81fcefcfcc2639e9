package watchplan

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// Query is what is watched.
type Query struct {
	// Type is key, keyprefix, services, nodes, service, checks or event.
	Type                      string
	Datacenter, Token, Filter string
	Stale                     bool

	Key, Prefix string
	Service     string // of service, and of checks
	Tags        []string
	PassingOnly bool
	State       string // of checks; "" is any
	Name        string // of event; "" is all
}

// String names a query in logs, without its token.
func (q Query) String() string {
	return strings.TrimSpace(q.Type + " " + q.Key + q.Prefix + q.Service + q.State + q.Name)
}

// Validate reports what is wrong with a query.
func (q Query) Validate() error {
	need := func(what, value string) error {
		if value == "" {
			return fmt.Errorf("a watch of type %s needs a %s", q.Type, what)
		}
		return nil
	}
	switch q.Type {
	case "key":
		return need("key", q.Key)
	case "keyprefix":
		return need("prefix", q.Prefix)
	case "service":
		return need("service", q.Service)
	case "checks":
		if q.Service != "" && q.State != "" {
			return fmt.Errorf("a watch of type checks takes a service or a state, not both")
		}
		return nil
	case "services", "nodes", "event":
		return nil
	case "":
		return fmt.Errorf("the type is missing: use key, keyprefix, services, nodes, service, checks or event")
	}
	return fmt.Errorf("type %q: use key, keyprefix, services, nodes, service, checks or event", q.Type)
}

// request gives the path and the parameters to ask for.
func (q Query) request() (path string, v url.Values) {
	v = url.Values{}
	if q.Datacenter != "" {
		v.Set("dc", q.Datacenter)
	}
	if q.Stale {
		v.Set("stale", "")
	}
	if q.Filter != "" {
		v.Set("filter", q.Filter)
	}
	switch q.Type {
	case "key":
		return "/v1/kv/" + keyPath(q.Key), v
	case "keyprefix":
		v.Set("recurse", "")
		return "/v1/kv/" + keyPath(q.Prefix), v
	case "services", "nodes":
		return "/v1/catalog/" + q.Type, v
	case "service":
		for _, tag := range q.Tags {
			v.Add("tag", tag)
		}
		if q.PassingOnly {
			v.Set("passing", "1")
		}
		return "/v1/health/service/" + url.PathEscape(q.Service), v
	case "checks":
		if q.Service != "" {
			return "/v1/health/checks/" + url.PathEscape(q.Service), v
		}
		state := q.State
		if state == "" {
			state = "any"
		}
		return "/v1/health/state/" + url.PathEscape(state), v
	}
	if q.Name != "" {
		v.Set("name", q.Name)
	}
	return "/v1/event/list", v
}

// keyPath escapes a key but for its slashes.
func keyPath(key string) string { return strings.ReplaceAll(url.PathEscape(key), "%2F", "/") }

// mayLack reports whether there being nothing is an answer.
func (q Query) mayLack() bool { return q.Type == "key" || q.Type == "keyprefix" }

// pair is a key as handlers get it, with all its fields.
type pair struct {
	Key                                        string
	CreateIndex, ModifyIndex, LockIndex, Flags uint64
	Value                                      json.RawMessage
	Session                                    string
}

// shape makes of an answer what handlers get: keys with all their fields, a key alone instead
// of a list of one, and of events those that came after the one that index is of.
func (q Query) shape(body []byte, index uint64) ([]byte, error) {
	switch q.Type {
	case "key", "keyprefix":
		var list []pair
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, err
		}
		var out any = list
		if q.Type == "key" {
			if out = nil; len(list) > 0 {
				out = list[0]
			}
		}
		var err error
		if body, err = json.Marshal(out); err != nil {
			return nil, err
		}
	case "event":
		var list []json.RawMessage
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, err
		}
		news := [][]byte{}
		for _, raw := range list {
			var event struct{ ID string }
			if err := json.Unmarshal(raw, &event); err != nil {
				return nil, err
			}
			news = append(news, raw)
			if index > 0 && eventIndex(event.ID) == index {
				news = [][]byte{}
			}
		}
		body = append(append([]byte("["), bytes.Join(news, []byte(","))...), ']')
	}
	return compact(body)
}

// eventIndex gives the index that a list of events has whose newest has that id: the halves
// of the UUID, one laid over the other. 0 is for what is no UUID.
func eventIndex(id string) uint64 {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != 16 {
		return 0
	}
	return binary.BigEndian.Uint64(b[:8]) ^ binary.BigEndian.Uint64(b[8:])
}
