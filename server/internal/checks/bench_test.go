package checks

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// BenchmarkDue is one look at the TTL that is due next, among many.
func BenchmarkDue(b *testing.B) {
	for _, many := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("checks=%d", many), func(b *testing.B) {
			d := newDesk()
			r := New(Config{Log: discard}, d)
			for i := range many {
				id := fmt.Sprint("c", i)
				d.set(id, &Wanted{Def: &api.CheckDefinition{TTL: api.Duration(time.Hour)}, Status: api.Passing})
			}
			r.take(b.Context())
			b.ReportAllocs()
			for b.Loop() {
				now := time.Now()
				e := r.schedule[0]
				r.schedule.drop(e)
				r.due(e, now)
			}
		})
	}
}
