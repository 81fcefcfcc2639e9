package msgpack

import (
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
)

type value struct {
	Name  string
	Bytes []byte
	Map   map[string]int
	More  []*value
	Bad   *bad
}

// bad cannot be written.
type bad struct{}

func (*bad) MarshalBinary() ([]byte, error) { return nil, errors.New("no") }
func (*bad) UnmarshalBinary([]byte) error   { return errors.New("no") }

// What is written is read, by many at a time, after errors too; nothing that was read
// changes when buffers are used again.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			var before, want *value
			for n := range 300 {
				in := &value{Name: strings.Repeat("x", w), Bytes: []byte(strings.Repeat("y", n*(w+1))), Map: map[string]int{"b": n, "a": w}}
				in.More = []*value{{Name: "inner", Bytes: []byte{byte(n)}}}
				b, err := Encode(in)
				if err != nil {
					t.Error(err)
					return
				}
				if again, err := Encode(in); err != nil || string(again) != string(b) {
					t.Errorf("equal values are not equal bytes: %v", err)
				}
				out := new(value)
				if err := Decode(b, out); err != nil || !reflect.DeepEqual(in, out) {
					t.Errorf("%+v, %v, want %+v", out, err, in)
				}
				clear(b)
				if before != nil && !reflect.DeepEqual(before, want) {
					t.Errorf("what was read before has changed: %+v", before)
				}
				before, want = out, in
				if Decode([]byte{0xc1}, new(value)) == nil || Decode(nil, new(value)) == nil {
					t.Error("what is no value was read")
				}
				if _, err := Encode(&value{More: []*value{{Bad: &bad{}}}}); err == nil {
					t.Error("what cannot be written was")
				}
			}
		})
	}
	group.Wait()
}
