package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/rollcall/rollcall/server/internal/msgpack"
)

// An entry of the log is Prefix, then items. An item is its Op (one byte), the length of
// its body (uvarint), and the body: MessagePack, fields by name, so that a field can be
// added without making old logs unreadable.

// Prefix begins every entry: the version of the format.
var Prefix = []byte{1}

// Errors of decoding.
var (
	// ErrFormat: the entry begins with another version.
	ErrFormat = errors.New("command: unknown entry format")
	// ErrCorrupt: the bytes are no item.
	ErrCorrupt = errors.New("command: corrupt item")
)

// Item is a command as the log takes it.
type Item struct{ Command }

// Append encodes the command onto b.
func (i Item) Append(b []byte) ([]byte, error) { return Append(b, i.Command) }

// Append encodes a command as an item onto b.
func Append(b []byte, c Command) ([]byte, error) {
	b = append(slices.Grow(b, 256), byte(c.Op()))
	at := len(b)
	if k, ok := c.(*KV); ok {
		b = k.append(b)
	} else if err := msgpack.With(c, func(body []byte) { b = append(b, body...) }); err != nil {
		return b[:at-1], fmt.Errorf("encode command %d: %w", c.Op(), err)
	}
	var size [binary.MaxVarintLen64]byte
	return slices.Insert(b, at, size[:binary.PutUvarint(size[:], uint64(len(b)-at))]...), nil
}

// Decode reads a whole entry.
func Decode(entry []byte) ([]Command, error) {
	if len(entry) < len(Prefix) || entry[0] != Prefix[0] {
		return nil, ErrFormat
	}
	out := make([]Command, 0, 16)
	for b := entry[len(Prefix):]; len(b) > 0; {
		c, rest, err := item(b)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", len(out), err)
		}
		out, b = append(out, c), rest
	}
	return out, nil
}

// DecodeOne reads one item, which must be all there is.
func DecodeOne(b []byte) (Command, error) {
	c, rest, err := item(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes behind it", ErrCorrupt, len(rest))
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func item(b []byte) (c Command, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, ErrCorrupt
	}
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > uint64(len(b)-1-w) {
		return nil, nil, ErrCorrupt
	}
	body, rest := b[1+w:1+w+int(n)], b[1+w+int(n):]
	switch Op(b[0]) {
	case OpRegister:
		c = &Register{}
	case OpDeregister:
		c = &Deregister{}
	case OpKV:
		k := &KV{}
		if k.read(body) {
			return k, rest, nil
		}
		c = &KV{} // it has what read does not know
	case OpReap:
		c = &Reap{}
	case OpQuery:
		c = &Query{}
	case OpPlaces:
		c = &Places{}
	case OpAutopilot:
		c = &Autopilot{}
	case OpOperate:
		c = &Operate{}
	case OpFire:
		c = &Fire{}
	case OpKeyring:
		c = &Keyring{}
	case OpCreateSession:
		c = &CreateSession{}
	case OpEndSession:
		c = &EndSession{}
	case OpTxn:
		c = &Txn{}
	default:
		if c = newACL(Op(b[0])); c == nil {
			return nil, nil, fmt.Errorf("%w: unknown command %d", ErrCorrupt, b[0])
		}
	}
	if err := msgpack.Decode(body, c); err != nil {
		return nil, nil, fmt.Errorf("%w: command %d: %w", ErrCorrupt, b[0], err)
	}
	return c, rest, nil
}
