package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/msgpack"
)

func TestFrames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	want := []*frame{{kind: readCall, id: 1, head: []byte("h"), body: []byte("body")}, {kind: pong}, {kind: answer, id: 1 << 60, body: make([]byte, 3<<20)}}
	for _, f := range want {
		if err := writeFrame(w, f); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	r := bufio.NewReader(&b)
	for i, f := range want {
		got, err := readFrame(r)
		if err != nil || got.kind != f.kind || got.id != f.id || !bytes.Equal(got.head, f.head) || !bytes.Equal(got.body, f.body) {
			t.Errorf("frame %d: %+v, %v", i, got.kind, err)
		}
	}
	for name, raw := range map[string][]byte{
		"too short":       {0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"too long":        {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"head beyond end": {0, 0, 0, 13, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9},
	} {
		if _, err := readFrame(bufio.NewReader(bytes.NewReader(raw))); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v, want errFrame", name, err)
		}
	}
}

// nothing is an endpoint that does nothing.
type nothing struct{}

func (nothing) Read(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
	return &endpoint.Answer{}, nil
}

func (nothing) Write(context.Context, *endpoint.Write) (*command.Result, error) {
	return &command.Result{}, nil
}

// Whatever comes as a frame, either side answers or refuses it, and never panics.
func FuzzFrame(f *testing.F) {
	add := func(k kind, head any, body []byte) {
		h, err := msgpack.Encode(head)
		if err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := writeFrame(w, &frame{kind: k, id: 1, head: h, body: body}); err != nil {
			f.Fatal(err)
		}
		w.Flush()
		f.Add(b.Bytes())
	}
	put, err := command.Append(nil, &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "a", Value: []byte("b")}})
	if err != nil {
		f.Fatal(err)
	}
	add(readCall, endpoint.Query{Kind: endpoint.HealthService, Name: "web", Tags: []string{"a"}, NodeMeta: map[string]string{"k": "v"}}, nil)
	add(writeCall, writeHead{"dc1", "t"}, put)
	add(answer, answerHead{Found: true}, []byte("[]"))
	add(written, command.Result{Index: 1, Err: &api.Error{Kind: api.Invalid, Text: "no"}}, nil)
	add(failure, api.ErrNoLeader, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		if reply := carryOut(t.Context(), nothing{}, fr); reply == nil || reply.id != fr.id {
			t.Errorf("reply to call %d: %+v", fr.id, reply)
		}
		var h answerHead
		_ = decode(fr.head, &h)
		var r command.Result
		_ = decode(fr.head, &r)
		_, _ = result(fr, true)
	})
}

// A head nested without end is refused: following it would exhaust the stack, which
// nothing can recover from.
func TestNestedHead(t *testing.T) {
	t.Parallel()
	head := append([]byte{0x81, 0xa1, 'Z'}, bytes.Repeat([]byte{0x91}, 8<<20)...) // {"Z": [[[[…
	var q endpoint.Query
	if err := decode(head, &q); !errors.Is(err, errFrame) {
		t.Errorf("nested head: %v, want errFrame", err)
	}
}
