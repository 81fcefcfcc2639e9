package rpc

import (
	"bufio"
	"bytes"
	"errors"
	"testing"
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

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 14, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 'h'})
	f.Fuzz(func(_ *testing.T, b []byte) {
		fr, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
		if err == nil {
			var h answerHead
			_ = decode(fr.head, &h) // must not panic
		}
	})
}
