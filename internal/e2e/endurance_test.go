package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

var enduranceFor = flag.Duration("endurance", 0, "how long TestEndurance goes on; 0 skips it")

// A day in miniature: a mixed load with churn on three servers and a client agent. Nothing
// fails, and once it is warm nobody's memory, goroutines and open files grow; the disk
// holds what snapshots leave of the log.
func TestEndurance(t *testing.T) {
	if *enduranceFor == 0 {
		t.Skip("takes as long as -endurance says: make soak")
	}
	servers, client := trio(t)
	house := append(slices.Clone(servers), client)
	ctx, cancel := context.WithTimeout(t.Context(), *enduranceFor)
	defer cancel()
	var (
		group      sync.WaitGroup
		operations atomic.Int64
		mu         sync.Mutex
		errs       []error
	)
	// every has what do does carried out, rate times a second, by so many at once.
	every := func(workers, rate int, what string, do func(r *rand.Rand, w, i int) error) {
		for w := range workers {
			group.Go(func() {
				r := rand.New(rand.NewPCG(7, uint64(w)))
				tick := time.NewTicker(time.Second * time.Duration(workers) / time.Duration(rate))
				defer tick.Stop()
				for i := 0; ; i++ {
					select {
					case <-ctx.Done():
						return
					case <-tick.C:
					}
					if err := do(r, w, i); err != nil && ctx.Err() == nil {
						mu.Lock()
						errs = append(errs, fmt.Errorf("%s: %w", what, err))
						mu.Unlock()
					}
					operations.Add(1)
				}
			})
		}
	}
	apis := make([]*consul.Client, len(house))
	for i, a := range house {
		apis[i] = a.client()
	}
	any := func(r *rand.Rand) *consul.Client { return apis[r.IntN(len(apis))] }

	every(8, 400, "catalog", func(r *rand.Rand, w, _ int) error {
		node, service := "n"+strconv.Itoa(w)+"-"+strconv.Itoa(r.IntN(50)), "s"+strconv.Itoa(r.IntN(100))
		if r.IntN(4) == 0 {
			_, err := any(r).Catalog().Deregister(&consul.CatalogDeregistration{Node: node}, nil)
			return err
		}
		status := []string{"passing", "passing", "warning", "critical"}[r.IntN(4)]
		_, err := any(r).Catalog().Register(&consul.CatalogRegistration{Node: node, Address: "10.0.0.1",
			Service: &consul.AgentService{ID: service, Service: service, Port: 1024 + r.IntN(60000)},
			Check:   &consul.AgentCheck{Node: node, CheckID: "c" + service, ServiceID: service, Status: status, Output: strings.Repeat("x", r.IntN(300))}}, nil)
		return err
	})
	every(8, 400, "keys", func(r *rand.Rand, w, _ int) error {
		key := "k/" + strconv.Itoa(w) + "/" + strconv.Itoa(r.IntN(500))
		var err error
		switch r.IntN(4) {
		case 0:
			_, err = any(r).KV().Delete(key, nil)
		case 1:
			_, _, err = any(r).KV().List("k/"+strconv.Itoa(w), nil)
		default:
			_, err = any(r).KV().Put(&consul.KVPair{Key: key, Value: make([]byte, r.IntN(2000))}, nil)
		}
		return err
	})
	every(4, 40, "sessions", func(r *rand.Rand, w, i int) error {
		c := any(r)
		id, _, err := c.Session().CreateNoChecks(&consul.SessionEntry{TTL: "10s", LockDelay: time.Millisecond}, nil)
		if err != nil {
			return err
		}
		if _, _, err := c.KV().Acquire(&consul.KVPair{Key: "lock/" + strconv.Itoa(w), Session: id}, nil); err != nil {
			return err
		}
		if i%10 == 0 {
			return nil // its TTL ends it
		}
		_, err = c.Session().Destroy(id, nil)
		return err
	})
	every(4, 40, "services of the agent", func(r *rand.Rand, w, i int) error {
		name := "own-" + strconv.Itoa(w)
		if i%5 == 4 {
			return apis[len(apis)-1].Agent().ServiceDeregister(name)
		}
		return apis[len(apis)-1].Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: name, Port: r.IntN(60000), Check: &consul.AgentServiceCheck{TTL: "1m", Status: "passing"}})
	})
	every(8, 400, "reads", func(r *rand.Rand, _, _ int) error {
		_, _, err := any(r).Health().Service("s"+strconv.Itoa(r.IntN(100)), "", r.IntN(2) == 0, &consul.QueryOptions{AllowStale: r.IntN(2) == 0})
		return err
	})
	every(4, 200, "dns", func(r *rand.Rand, _, _ int) error {
		_, err := dns.Exchange(new(dns.Msg).SetQuestion("s"+strconv.Itoa(r.IntN(100))+".service.consul.", dns.TypeSRV), house[r.IntN(len(house))].dns)
		if os.IsTimeout(err) {
			err = nil // a packet may be lost
		}
		return err
	})
	for w := range 100 {
		group.Go(func() { // watchers
			var index uint64
			for ctx.Err() == nil {
				_, meta, err := apis[w%len(apis)].Health().Service("s"+strconv.Itoa(w), "", true, (&consul.QueryOptions{WaitIndex: index, WaitTime: 10 * time.Second}).WithContext(ctx))
				if err != nil {
					if ctx.Err() == nil {
						mu.Lock()
						errs = append(errs, fmt.Errorf("watch: %w", err))
						mu.Unlock()
					}
					return
				}
				index = meta.LastIndex
			}
		})
	}

	type reading struct{ memory, goroutines, files, disk []float64 }
	readings := make([]reading, len(house))
	look := time.NewTicker(*enduranceFor / 60)
	defer look.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-look.C:
			for i, a := range house {
				r := &readings[i]
				n, err := goroutines(a)
				if err != nil {
					t.Errorf("%s: %v", a.name, err)
				}
				r.memory, r.goroutines = append(r.memory, a.memory()), append(r.goroutines, n)
				files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.cmd.Process.Pid))
				if err != nil {
					t.Errorf("%s: %v", a.name, err)
				}
				r.files, r.disk = append(r.files, float64(len(files))), append(r.disk, sizeOf(a.dir))
			}
		}
	}
	group.Wait()
	if len(errs) > 0 {
		t.Errorf("%d of %d operations failed, the first of them: %v", len(errs), operations.Load(), errors.Join(errs[:min(len(errs), 5)]...))
	}
	t.Logf("%d operations in %s", operations.Load(), *enduranceFor)
	for i, a := range house {
		for _, g := range []struct {
			what  string
			of    []float64
			slack float64 // what may come and go
			share float64
		}{
			{"MB resident", readings[i].memory, 8, 0.15},
			{"goroutines", readings[i].goroutines, 30, 0.1},
			{"open files", readings[i].files, 20, 0.1},
			{"MB on disk", readings[i].disk, 64, 0.5}, // a segment of the log, a snapshot
		} {
			third := len(g.of) / 3
			warm, late := slices.Clone(g.of[third:2*third]), slices.Clone(g.of[2*third:])
			slices.Sort(warm)
			slices.Sort(late)
			before, after := warm[len(warm)/2], late[len(late)/2]
			t.Logf("%s: %.0f %s in the second third, %.0f in the last", a.name, before, g.what, after)
			if after > before*(1+g.share)+g.slack {
				t.Errorf("%s grows: %.0f %s in the second third, %.0f in the last: %.0f", a.name, before, g.what, after, g.of)
			}
		}
	}
}

// goroutines is how many an agent has.
func goroutines(a *agent) (float64, error) {
	var m struct {
		Gauges []struct {
			Name  string
			Value float64
		}
	}
	if err := a.json("/v1/agent/metrics", &m); err != nil {
		return 0, err
	}
	for _, g := range m.Gauges {
		if strings.HasSuffix(g.Name, "runtime.num_goroutines") {
			return g.Value, nil
		}
	}
	return 0, errors.New("no gauge of goroutines")
}

// sizeOf is what the files below a directory hold, in MB.
func sizeOf(dir string) float64 {
	var all int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil { // it may have gone meanwhile
				all += info.Size()
			}
		}
		return nil
	})
	return float64(all) / 1e6
}
