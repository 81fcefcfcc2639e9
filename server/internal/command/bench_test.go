package command

import (
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

// BenchmarkItem encodes and decodes what most entries hold.
func BenchmarkItem(b *testing.B) {
	for name, c := range map[string]Command{
		"kv": &KV{Verb: Set, Pair: api.KVPair{Key: "k/17/523", Value: make([]byte, 100)}},
		"register": &Register{api.Registration{Node: "h17", Address: "10.0.0.17", Service: &api.Service{
			ID: "i523", Service: "web", Port: 8080, Tags: []string{"v1"}, Meta: map[string]string{"version": "1.2"},
		}}},
	} {
		entry, err := Append(append([]byte{}, Prefix...), c)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("append/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(entry)))
			for b.Loop() {
				if _, err := Append(nil, c); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("decode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(entry)))
			for b.Loop() {
				if _, err := Decode(entry); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
