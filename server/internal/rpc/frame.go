package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/msgpack"
)

// A frame is a length (4 bytes, big endian) of what follows: the kind (1 byte), the id of
// the call (8 bytes, big endian), the length of the head (4 bytes), the head in
// MessagePack, and the body. A call's id is chosen by the caller and not used again on
// its connection.
const (
	fixed    = 1 + 8 + 4
	maxFrame = 64 << 20
)

type kind byte

const (
	readCall  kind = 1 // head: endpoint.Query
	writeCall kind = 2 // head: writeHead, body: the encoded command
	cancel    kind = 3 // the caller does not wait any longer
	answer    kind = 4 // head: answerHead, body: JSON
	written   kind = 5 // head: command.Result
	failure   kind = 6 // head: api.Error
	ping      kind = 7 // either side; answered by pong
	pong      kind = 8

	silent kind = 0 // never sent: of a read that nothing was heard of
)

type frame struct {
	kind kind
	id   uint64
	head []byte
	body []byte
}

type writeHead struct{ Datacenter, Token string }

type answerHead struct {
	Meta  api.QueryMeta
	Found bool
}

var errFrame = errors.New("rpc: malformed frame")

func decode(b []byte, v any) error {
	if err := msgpack.Decode(b, v); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}

// writeFrame writes f; the caller flushes.
func writeFrame(w *bufio.Writer, f *frame) error {
	var h [4 + fixed]byte
	binary.BigEndian.PutUint32(h[:], uint32(fixed+len(f.head)+len(f.body)))
	h[4] = byte(f.kind)
	binary.BigEndian.PutUint64(h[5:], f.id)
	binary.BigEndian.PutUint32(h[13:], uint32(len(f.head)))
	if _, err := w.Write(h[:]); err != nil {
		return err
	}
	if _, err := w.Write(f.head); err != nil {
		return err
	}
	_, err := w.Write(f.body)
	return err
}

// readFrame reads the next frame; its bytes are its own.
func readFrame(r *bufio.Reader) (*frame, error) {
	var h [4 + fixed]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	size, head := binary.BigEndian.Uint32(h[:]), binary.BigEndian.Uint32(h[13:])
	if size < fixed || size > maxFrame || head > size-fixed {
		return nil, fmt.Errorf("%w: %d bytes with a head of %d", errFrame, size, head)
	}
	rest, err := readN(r, int(size-fixed))
	if err != nil {
		return nil, err
	}
	return &frame{kind: kind(h[4]), id: binary.BigEndian.Uint64(h[5:]), head: rest[:head:head], body: rest[head:]}, nil
}

// readN reads n bytes, without trusting that they will come: memory grows as they do.
func readN(r io.Reader, n int) ([]byte, error) {
	const step = 1 << 20
	b := make([]byte, min(n, step))
	for at := 0; ; {
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, err
		}
		if at = len(b); at == n {
			return b, nil
		}
		b = append(b, make([]byte, min(n-at, step))...)
	}
}

// failureFrame tells the caller of a call what went wrong.
func failureFrame(id uint64, err error) *frame {
	head, _ := msgpack.Encode(api.AsError(err)) // two plain fields
	return &frame{kind: failure, id: id, head: head}
}

// tooLarge keeps an answer that no frame can carry from breaking the connection.
func tooLarge(f *frame) bool { return fixed+len(f.head)+len(f.body) > maxFrame }

var _ endpoint.Endpoint = (*caller)(nil)
