// Package msgpack is how values are written to the log, to snapshots and between servers:
// structs by the names of their fields, maps in order, so that equal values are equal bytes.
package msgpack

import (
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// handle is shared: it is not changed after this.
var handle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.RawToString = true
	h.Canonical = true
	return h
}()

// encoder is the library's and what it writes to. Making one costs more than a small value.
type encoder struct {
	*codec.Encoder
	buf []byte
}

var (
	encoders = sync.Pool{New: func() any { return &encoder{Encoder: codec.NewEncoderBytes(new([]byte), handle)} }}
	decoders = sync.Pool{New: func() any { return codec.NewDecoderBytes(nil, handle) }}
)

// kept is up to what size a buffer is used again, in bytes.
const kept = 64 << 10

// With has use look at v encoded; the bytes are its own only until it returns.
func With(v any, use func(b []byte)) error {
	e := encoders.Get().(*encoder)
	if e.buf == nil {
		e.buf = make([]byte, 0, 512)
	}
	e.buf = e.buf[:0]
	e.ResetBytes(&e.buf)
	if err := e.Encode(v); err != nil {
		return err // and the encoder is not trusted any more
	}
	use(e.buf)
	if cap(e.buf) > kept {
		e.buf = nil
	}
	encoders.Put(e)
	return nil
}

// Encode gives v encoded.
func Encode(v any) (b []byte, err error) {
	err = With(v, func(e []byte) { b = append([]byte(nil), e...) })
	return b, err
}

// Decode reads b, all of one value, into v, which keeps nothing of it.
func Decode(b []byte, v any) error {
	d := decoders.Get().(*codec.Decoder)
	d.ResetBytes(b)
	if err := d.Decode(v); err != nil {
		return err
	}
	d.ResetBytes(nil)
	decoders.Put(d)
	return nil
}
