package local

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// BenchmarkTTL is a report on one of many TTL checks, with a reader of what changed.
func BenchmarkTTL(b *testing.B) {
	for _, many := range []int{10, 10_000} {
		for _, how := range []string{"same", "new"} {
			b.Run(fmt.Sprintf("checks=%d/%s", many, how), func(b *testing.B) {
				s := open(b, "")
				for i := range many {
					must(b, s.AddCheck(&api.CheckDefinition{Name: fmt.Sprint("c", i), TTL: api.Duration(time.Minute)}, FromAPI))
				}
				f := s.Feed()
				f.Take()
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					note := "well"
					if how == "new" {
						note = fmt.Sprint(i)
					}
					report(b, s, "c3", api.Passing, note)
					f.Take()
				}
			})
		}
	}
}

// BenchmarkRegister has services registered that are new each time, by one and by many at
// once, on the disk that holds the directory for temporary files.
func BenchmarkRegister(b *testing.B) {
	for _, many := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", many), func(b *testing.B) {
			s := open(b, b.TempDir())
			var next atomic.Int64
			b.SetParallelism(many)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					def := webService()
					def.ID = fmt.Sprint(next.Add(1))
					if err := s.AddService(def, FromAPI, false); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
