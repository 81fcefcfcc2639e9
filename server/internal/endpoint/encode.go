package endpoint

import (
	"bytes"
	"encoding/json"

	"github.com/rollcall/rollcall/server/internal/store"
)

// fragment is a row that carries its JSON. Answers are joins of fragments.
type fragment interface{ JSON() []byte }

// join makes a JSON array.
func join[F fragment](rows []F) []byte {
	size := 2
	for _, r := range rows {
		size += len(r.JSON()) + 1
	}
	b := append(make([]byte, 0, size), '[')
	for i, r := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, r.JSON()...)
	}
	return append(b, ']')
}

// joinInstances makes the array of a health query.
func joinInstances(rows []store.Instance) []byte {
	const node, service, checks, frame = `{"Node":`, `,"Service":`, `,"Checks":[`, 32
	size := 2
	for _, r := range rows {
		size += len(r.Node.JSON()) + len(r.Service.JSON()) + frame
		for _, c := range r.Checks {
			size += len(c.JSON()) + 1
		}
	}
	b := append(make([]byte, 0, size), '[')
	for i, r := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, node...), r.Node.JSON()...)
		b = append(append(b, service...), r.Service.JSON()...)
		b = append(b, checks...)
		for k, c := range r.Checks {
			if k > 0 {
				b = append(b, ',')
			}
			b = append(b, c.JSON()...)
		}
		b = append(b, ']', '}')
	}
	return append(b, ']')
}

// marshal encodes as Consul does: without HTML escapes and without a newline at the end.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
