package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var kills = flag.Int("kills", 20, "how often BenchmarkLeaderKill kills each cluster's leader")

// BenchmarkLeaderKill kills the leader of three servers by kill -9 while a client agent
// sends fifty writes a second, ours and the real Consul's in turn, and reports the median
// time from the kill to the first answer to a write that began after it, in milliseconds.
// Both run with their default settings. `make bench-kill` runs it.
func BenchmarkLeaderKill(b *testing.B) {
	ours := newVictim(b, "ours", "")
	theirs := newVictim(b, "Consul's", realConsul(b))
	for b.Loop() {
		for range *kills {
			ours.kill()
			theirs.kill()
		}
	}
	a, c := ours.median(), theirs.median()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(a.Milliseconds()), "ours-ms")
	b.ReportMetric(float64(c.Milliseconds()), "consul-ms")
	b.ReportMetric(float64(a)/float64(c), "ratio")
}

// victim is a cluster whose leaders die.
type victim struct {
	b       *testing.B
	name    string
	servers []*agent
	client  *agent
	took    []time.Duration
}

func newVictim(b *testing.B, name, bin string) *victim {
	v := &victim{b: b, name: name}
	for i := range 3 {
		args := []string{"-server", "-bootstrap-expect=3"}
		if i > 0 {
			args = append(args, "-retry-join="+v.servers[0].lan)
		}
		v.servers = append(v.servers, startAgent(b, fmt.Sprintf("s%d", i+1), options{bin: bin}, args...))
	}
	v.client = startAgent(b, "c1", options{bin: bin}, "-retry-join="+v.servers[1].lan, "-retry-join="+v.servers[2].lan)
	return v
}

// kill kills the leader under load, waits for the next write, and brings it back.
func (v *victim) kill() {
	var leader *agent
	eventually(v.b, 2*time.Minute, v.name+" is whole", func() (err error) {
		if err := v.whole(); err != nil {
			return err
		}
		leader, err = leaderAmong(v.servers)
		return err
	})
	var killed atomic.Int64 // when, in nanoseconds
	first := make(chan time.Time, 1)
	stop := make(chan struct{})
	var writing sync.WaitGroup
	acked := atomic.Int64{}
	writing.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		client := &http.Client{Timeout: 15 * time.Second}
		defer client.CloseIdleConnections()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			began := time.Now()
			writing.Go(func() {
				req, err := http.NewRequest(http.MethodPut, fmt.Sprintf("%s/v1/kv/kill/%d", v.client.url, i%100), bytes.NewReader(fmt.Append(nil, i)))
				if err != nil {
					v.b.Error(err)
					return
				}
				resp, err := client.Do(req)
				if err != nil {
					return
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					return
				}
				acked.Add(1)
				if at := killed.Load(); at != 0 && began.UnixNano() > at {
					select {
					case first <- time.Now():
					default:
					}
				}
			})
		}
	})
	eventually(v.b, time.Minute, v.name+" takes writes", func() error {
		if n := acked.Load(); n < 20 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	at := time.Now()
	leader.signal(9)
	killed.Store(at.UnixNano())
	select {
	case t := <-first:
		v.took = append(v.took, t.Sub(at))
		v.b.Logf("%s: %s died, the next write after %s", v.name, leader.name, t.Sub(at).Round(time.Millisecond))
	case <-time.After(2 * time.Minute):
		v.b.Fatalf("%s takes no writes two minutes after its leader died", v.name)
	}
	close(stop)
	writing.Wait()
	<-leader.done
	leader.run()
}

// whole says why a cluster is not whole: three voters that know one leader.
func (v *victim) whole() error {
	var conf struct{ Servers []struct{ Voter bool } }
	if err := v.client.json("/v1/operator/raft/configuration", &conf); err != nil {
		return err
	}
	voters := 0
	for _, s := range conf.Servers {
		if s.Voter {
			voters++
		}
	}
	if voters != 3 || len(conf.Servers) != 3 {
		return fmt.Errorf("servers: %+v", conf.Servers)
	}
	var all []string
	for _, s := range v.servers {
		code, body, err := s.get("/v1/status/leader")
		if err != nil || code != http.StatusOK || strings.TrimSpace(body) == `""` {
			return fmt.Errorf("%s: %d %q, %v", s.name, code, body, err)
		}
		all = append(all, body)
	}
	if len(slices.Compact(all)) != 1 {
		return fmt.Errorf("leaders: %q", all)
	}
	return nil
}

func (v *victim) median() time.Duration {
	slices.Sort(v.took)
	return v.took[len(v.took)/2]
}
