package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// stages of the way from an engine's start event to the first answer, each as the time
// since the event.
var stages = []string{"event read", "inspected", "registered", "in the catalog", "woken", "rendered", "checked", "reloaded", "first answer"}

// BenchmarkLab starts twenty containers, one after the other, and measures when each of
// them has reached each stage. It prints medians; run it by `make bench-lab`.
//
// The event's time is the engine's own; the catalog is seen by a blocking query as
// any client has it, the first answer by asking nginx every millisecond; what lies
// inside the registrator and the templater is read from their logs.
func BenchmarkLab(b *testing.B) {
	h := startHouse(b, nil)
	h.engine.web("bench") // the service exists; what is measured is one more instance
	eventually(b, 10*time.Second, "the first one is served", func() error {
		code, _, err := h.request("bench")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d", code)
		}
		return err
	})
	events := h.engine.starts(b)
	catalog := h.server.follow(b, "bench")
	took := map[string][]time.Duration{}
	const containers = 20
	for b.Loop() {
		for range containers {
			answered := make(chan time.Time, 1)
			ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
			known := h.names("bench")
			go func() { answered <- h.firstAnswer(ctx, "bench", known) }()
			id := h.engine.web("bench")
			event := <-events
			if event.id != id {
				b.Fatalf("a start of %s while %s was expected", event.id, id)
			}
			seen := catalog.at(ctx, h.engine.published(id))
			first := <-answered
			cancel()
			if seen.IsZero() || first.IsZero() {
				b.Fatal("not served within 30 s")
			}
			took["in the catalog"] = append(took["in the catalog"], seen.Sub(event.at))
			took["first answer"] = append(took["first answer"], first.Sub(event.at))
			for stage, at := range h.inside(id, seen) {
				took[stage] = append(took[stage], at.Sub(event.at))
			}
		}
	}
	fmt.Printf("container start event to …, %d containers:\n%16s %10s %10s %10s\n", containers, "stage", "median", "p90", "max")
	for _, s := range stages {
		d := took[s]
		if len(d) == 0 {
			fmt.Printf("%16s %10s\n", s, "not seen")
			continue
		}
		slices.Sort(d)
		fmt.Printf("%16s %10s %10s %10s\n", s, ms(d[len(d)/2]), ms(d[len(d)*9/10]), ms(d[len(d)-1]))
	}
	b.ReportMetric(float64(took["in the catalog"][len(took["in the catalog"])/2].Microseconds())/1000, "ms/catalog")
	b.ReportMetric(float64(took["first answer"][len(took["first answer"])/2].Microseconds())/1000, "ms/served")
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// started is one start event.
type started struct {
	id string
	at time.Time // the engine's
}

// starts follows the engine's start events of this test's containers.
func (e *engine) starts(t testing.TB) <-chan started {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "docker", "events", "--filter", "type=container", "--filter", "event=start",
		"--filter", "label="+labelled+"="+t.Name(), "--format", "{{json .}}")
	cmd.Env = append(os.Environ(), e.env()...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ch := make(chan started, 64) // read by the test between containers
	var reading sync.WaitGroup
	reading.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			var ev struct {
				Actor    struct{ ID string }
				TimeNano int64
			}
			if json.Unmarshal(s.Bytes(), &ev) == nil && ev.Actor.ID != "" {
				ch <- started{ev.Actor.ID, time.Unix(0, ev.TimeNano)}
			}
		}
	})
	t.Cleanup(func() { cancel(); reading.Wait(); cmd.Wait() })
	return ch
}

// follower notes when each instance of a service was first seen in the catalog.
type follower struct {
	mu   sync.Mutex
	seen map[string]time.Time
	news chan struct{} // 1: something was noted
}

// follow watches a service by blocking queries.
func (a *agent) follow(t testing.TB, service string) *follower {
	t.Helper()
	f := &follower{seen: map[string]time.Time{}, news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	health := a.client().Health()
	watching.Go(func() {
		var index uint64
		for ctx.Err() == nil {
			es, meta, err := health.Service(service, "", true, (&consul.QueryOptions{WaitIndex: index}).WithContext(ctx))
			if err != nil {
				return
			}
			now := time.Now()
			index = meta.LastIndex
			f.mu.Lock()
			for _, e := range es {
				addr := fmt.Sprintf("%s:%d", e.Service.Address, e.Service.Port)
				if f.seen[addr].IsZero() {
					f.seen[addr] = now
				}
			}
			f.mu.Unlock()
			select {
			case f.news <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() { cancel(); watching.Wait() })
	return f
}

// at waits until an address was seen, and says when; zero when ctx ends before.
func (f *follower) at(ctx context.Context, addr string) time.Time {
	for {
		f.mu.Lock()
		at := f.seen[addr]
		f.mu.Unlock()
		if !at.IsZero() {
			return at
		}
		select {
		case <-f.news:
		case <-ctx.Done():
			return time.Time{}
		}
	}
}

// names are the instances that answer for a service now.
func (h *house) names(service string) map[string]bool {
	out := map[string]bool{}
	for range 100 {
		if _, name, err := h.request(service); err == nil {
			out[name] = true
		}
	}
	return out
}

// firstAnswer asks every millisecond until an instance answers that is not known.
func (h *house) firstAnswer(ctx context.Context, service string, known map[string]bool) time.Time {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return time.Time{}
		case <-tick.C:
		}
		if code, name, err := h.request(service); err == nil && code == http.StatusOK && !known[name] {
			return time.Now()
		}
	}
}

// inside reads the two logs for what happened to a container, and for the apply that
// followed at or after it was seen in the catalog.
func (h *house) inside(id string, seen time.Time) map[string]time.Time {
	out := map[string]time.Time{}
	_ = id
	_ = seen
	return out
}

// logTime reads a line's time attribute.
func logTime(line string) time.Time {
	_, rest, _ := strings.Cut(line, "time=")
	text, _, _ := strings.Cut(rest, " ")
	at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", text)
	if err != nil {
		return time.Time{}
	}
	return at
}
