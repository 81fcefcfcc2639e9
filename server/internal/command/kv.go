package command

import (
	"errors"

	"github.com/tinylib/msgp/msgp"
)

// Writes of keys are most of what many logs hold, so their encoding is spelled out: the same
// bytes that msgpack makes of the struct, as TestKeyBytes finds, without reflection.

// append encodes k onto b.
func (k *KV) append(b []byte) []byte {
	p := &k.Pair
	fields := uint32(6)
	if p.Session != "" {
		fields++
	}
	b = msgp.AppendMapHeader(b, 2)
	b = msgp.AppendMapHeader(msgp.AppendString(b, "Pair"), fields)
	b = msgp.AppendUint64(msgp.AppendString(b, "CreateIndex"), p.CreateIndex)
	b = msgp.AppendUint64(msgp.AppendString(b, "Flags"), p.Flags)
	b = msgp.AppendString(msgp.AppendString(b, "Key"), p.Key)
	b = msgp.AppendUint64(msgp.AppendString(b, "LockIndex"), p.LockIndex)
	b = msgp.AppendUint64(msgp.AppendString(b, "ModifyIndex"), p.ModifyIndex)
	if p.Session != "" {
		b = msgp.AppendString(msgp.AppendString(b, "Session"), p.Session)
	}
	b = msgp.AppendString(b, "Value")
	if p.Value == nil {
		b = msgp.AppendNil(b)
	} else {
		b = msgp.AppendBytes(b, p.Value)
	}
	return msgp.AppendUint64(msgp.AppendString(b, "Verb"), uint64(k.Verb))
}

// read takes k from what append makes. False is for all else, as a field of a newer version:
// that is for msgpack.
func (k *KV) read(b []byte) bool {
	rest, err := fields(b, func(name, b []byte) (rest []byte, err error) {
		switch string(name) {
		case "Pair":
			return fields(b, k.field)
		case "Verb":
			var verb uint8
			verb, rest, err = msgp.ReadUint8Bytes(b)
			k.Verb = Verb(verb)
			return rest, err
		}
		return nil, errField
	})
	return err == nil && len(rest) == 0
}

// errField is why a field is not read.
var errField = errors.New("unknown field")

// field reads a field of the pair.
func (k *KV) field(name, b []byte) (rest []byte, err error) {
	p := &k.Pair
	switch string(name) {
	case "CreateIndex":
		p.CreateIndex, rest, err = msgp.ReadUint64Bytes(b)
	case "Flags":
		p.Flags, rest, err = msgp.ReadUint64Bytes(b)
	case "Key":
		p.Key, rest, err = msgp.ReadStringBytes(b)
	case "LockIndex":
		p.LockIndex, rest, err = msgp.ReadUint64Bytes(b)
	case "ModifyIndex":
		p.ModifyIndex, rest, err = msgp.ReadUint64Bytes(b)
	case "Session":
		p.Session, rest, err = msgp.ReadStringBytes(b)
	case "Value":
		if msgp.IsNil(b) {
			return msgp.ReadNilBytes(b)
		}
		p.Value, rest, err = msgp.ReadBytesBytes(b, []byte{}) // a copy, not nil
	default:
		err = errField
	}
	return rest, err
}

// fields reads a map: value is called with each name and what follows it, and gives what
// comes after the value.
func fields(b []byte, value func(name, b []byte) ([]byte, error)) ([]byte, error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	for ; n > 0 && err == nil; n-- {
		var name []byte
		if name, b, err = msgp.ReadMapKeyZC(b); err == nil {
			b, err = value(name, b)
		}
	}
	return b, err
}
