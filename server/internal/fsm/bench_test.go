package fsm

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// BenchmarkApply carries out entries of 32 writes of keys, of which there are 64,000; each
// changes its value.
func BenchmarkApply(b *testing.B) {
	const group = 32
	f := New(store.New(), slog.New(slog.DiscardHandler))
	write := func(into []byte, key, n int) []byte {
		pair := api.KVPair{Key: fmt.Sprintf("k/%d/%d", key%64, key/64), Value: fmt.Appendf(nil, "%0100d", n)}
		into, err := command.Append(into, &command.KV{Verb: command.Set, Pair: pair})
		if err != nil {
			b.Fatal(err)
		}
		return into
	}
	index := uint64(0)
	apply := func(entry []byte) {
		index++
		if _, ok := f.Apply(&raft.Log{Index: index, Data: entry}).([]any); !ok {
			b.Fatal("the entry was not applied")
		}
	}
	for key := range 64_000 {
		apply(write([]byte{command.Prefix[0]}, key, 0))
	}
	entries := make([][]byte, 4096)
	for i := range entries {
		entries[i] = []byte{command.Prefix[0]}
		for j := range group {
			entries[i] = write(entries[i], rand.IntN(64_000), i*group+j+1)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		apply(entries[i%len(entries)])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/group, "ns/write")
}
