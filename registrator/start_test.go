package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// BenchmarkStart measures the way from the engine's start event to the catalog, as a
// blocking query sees it.
func BenchmarkStart(b *testing.B) {
	engine(b)
	for _, bin := range binaries() {
		b.Run(bin.name, func(b *testing.B) {
			if bin.err != nil {
				b.Skip(bin.err)
			}
			c := startCatalog(b, bin.path, false)
			registrar(b, c.addr)
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

// BenchmarkStartParallel measures the same while twenty start at once, as the registrator
// itself does: from the engine's event to the answered write.
func BenchmarkStartParallel(b *testing.B) {
	engine(b)
	c := startCatalog(b, rollcall(b), false)
	listen := fmt.Sprintf("127.0.0.1:%d", ports(b, 1)[0])
	registrar(b, c.addr, "-listen="+listen)
	settled(b, "http://"+listen)
	n := 0
	for b.Loop() {
		n += 20
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { start(b, "plain", "-e", "SERVICE_NAME=bench") })
		}
		wg.Wait()
		eventually(b, soon, "all are there", func() error {
			got, err := c.passing("bench")
			if err == nil && len(got) != n {
				err = fmt.Errorf("%d of %d", len(got), n)
			}
			return err
		})
	}
	_, metrics, err := get("http://" + listen + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(quantile(b, metrics, "registrator_event_to_catalog_seconds", 0.5)*1000, "ms/median-under")
	b.ReportMetric(quantile(b, metrics, "registrator_event_to_catalog_seconds", 0.99)*1000, "ms/p99-under")
}

// quantile is the bound of the bucket in which a share of a histogram's values ends.
func quantile(t testing.TB, metrics, name string, share float64) float64 {
	t.Helper()
	type bucket struct {
		below float64
		count float64
	}
	var all []bucket
	for _, m := range regexp.MustCompile(name+`_bucket\{le="([^"]+)"\} ([0-9.e+]+)`).FindAllStringSubmatch(metrics, -1) {
		below, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		count, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bucket{below, count})
	}
	for _, x := range all {
		if x.count >= share*all[len(all)-1].count {
			return x.below
		}
	}
	t.Fatalf("no values of %s", name)
	return 0
}
