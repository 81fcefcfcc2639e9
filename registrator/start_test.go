package main

import (
	"context"
	"slices"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// BenchmarkStart measures the way from the engine's start event to the catalog, as a
// blocking query sees it.
func BenchmarkStart(b *testing.B) {
	engine(b)
	for name, bin := range agents(b) {
		b.Run(name, func(b *testing.B) {
			c := startCatalog(b, bin)
			registrar(b, c)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			var took []time.Duration
			for b.Loop() {
				rows, meta, err := c.Catalog().Service("bench", "", nil)
				if err != nil {
					b.Fatal(err)
				}
				seen := make(chan time.Time, 1)
				known := len(rows)
				go func() {
					for i := meta.LastIndex; ctx.Err() == nil; {
						rows, m, err := c.Catalog().Service("bench", "", (&consul.QueryOptions{WaitIndex: i}).WithContext(ctx))
						if err != nil {
							return
						}
						if i = m.LastIndex; len(rows) > known {
							seen <- time.Now()
							return
						}
					}
				}()
				id := start(b, "plain", "-e", "SERVICE_NAME=bench")
				at := <-seen
				began, err := time.Parse(time.RFC3339Nano, dockerCmd(b, "inspect", "-f", "{{.State.StartedAt}}", id))
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, at.Sub(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/median")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms/max")
		})
	}
}
