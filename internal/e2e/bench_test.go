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
var stages = []string{"inspected", "registered", "in the catalog", "woken", "rendered", "checked", "reloaded", "container answers", "first answer"}

// BenchmarkLab starts twenty containers, one after the other, and measures when each of
// them has reached each stage. It prints medians; run it by `make bench-lab`.
//
// The event's time is the engine's own; the catalog is seen by a blocking query as
// any client has it, the first answer by asking nginx all the time; what lies
// inside the registrator and the templater is read from their logs.
func BenchmarkLab(b *testing.B) {
	h := startHouse(b, nil)
	h.engine.web("bench") // the service exists; what is measured is one more instance
	eventually(b, soon, "the first one is served", func() error {
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
			alone := make(chan time.Time, 1)
			go func() { alone <- ownAnswer(ctx, catalog, h.engine.published(id)) }()
			event := <-events
			if event.id != id {
				b.Fatalf("a start of %s while %s was expected", event.id, id)
			}
			seen := catalog.at(ctx, h.engine.published(id))
			first, own := <-answered, <-alone
			cancel()
			if seen.IsZero() || first.IsZero() {
				b.Fatal("not served within 30 s")
			}
			took["in the catalog"] = append(took["in the catalog"], seen.Sub(event.at))
			took["container answers"] = append(took["container answers"], own.Sub(event.at))
			took["first answer"] = append(took["first answer"], first.Sub(event.at))
			// the templater's line comes after nginx serves
			eventually(b, soon, "the apply is in the log", func() error {
				if _, ok := h.inside(id, event.at, seen)["reloaded"]; !ok {
					return fmt.Errorf("no line yet")
				}
				return nil
			})
			for stage, at := range h.inside(id, event.at, seen) {
				took[stage] = append(took[stage], at.Sub(event.at))
			}
			// with many instances it would be chance when the new one's turn comes
			h.engine.remove(id)
			eventually(b, soon, "it is gone", func() error {
				if known := h.names("bench"); len(known) != 1 {
					return fmt.Errorf("%d instances answer", len(known))
				}
				return nil
			})
		}
	}
	fmt.Printf("container start event to …, %d containers:\n%18s %10s %10s %10s\n", containers, "stage", "median", "p90", "max")
	for _, s := range stages {
		d := took[s]
		if len(d) == 0 {
			fmt.Printf("%18s %10s\n", s, "not seen")
			continue
		}
		slices.Sort(d)
		fmt.Printf("%18s %10s %10s %10s\n", s, ms(d[len(d)/2]), ms(d[len(d)*9/10]), ms(d[len(d)-1]))
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
	news chan struct{} // guarded by mu; closed when something is noted
}

// follow watches a service by blocking queries.
func (a *agent) follow(t testing.TB, service string) *follower {
	t.Helper()
	f := &follower{seen: map[string]time.Time{}, news: make(chan struct{})}
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
			close(f.news)
			f.news = make(chan struct{})
			f.mu.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); watching.Wait() })
	return f
}

// at waits until an address was seen, and says when; zero when ctx ends before.
func (f *follower) at(ctx context.Context, addr string) time.Time {
	for {
		f.mu.Lock()
		at, news := f.seen[addr], f.news
		f.mu.Unlock()
		if !at.IsZero() {
			return at
		}
		select {
		case <-news:
		case <-ctx.Done():
			return time.Time{}
		}
	}
}

// names are the instances that answer for a service now.
func (h *house) names(service string) map[string]bool {
	out := map[string]bool{}
	for range 50 {
		if _, name, err := h.request(service); err == nil {
			out[name] = true
		}
	}
	return out
}

// ownAnswer asks the container itself, past nginx, from when it is in the catalog.
func ownAnswer(ctx context.Context, catalog *follower, addr string) time.Time {
	catalog.at(ctx, addr)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if code, _, err := get("http://" + addr); err == nil && code == http.StatusOK {
			return time.Now()
		}
		select {
		case <-ctx.Done():
			return time.Time{}
		case <-tick.C:
		}
	}
}

// probes is how many ask nginx side by side: while old workers retire, they still take
// about half of the requests.
const probes = 4

// firstAnswer asks until an instance answers that is not known.
func (h *house) firstAnswer(ctx context.Context, service string, known map[string]bool) time.Time {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	found := make(chan time.Time, probes)
	for range probes {
		asking.Go(func() {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if code, name, err := h.request(service); err == nil && code == http.StatusOK && !known[name] {
					found <- time.Now()
					return
				}
			}
		})
	}
	select {
	case at := <-found:
		return at
	case <-ctx.Done():
		return time.Time{}
	}
}

// inside reads the two logs for what happened to a container, and for the first apply
// that ended after it was seen in the catalog. The registrator's debug line tells when an
// inspection was taken in, to the millisecond; its line of a registration, how long after
// the engine's event the agent had answered; the templater's line of an apply, when it
// was over and how long each step took.
func (h *house) inside(id string, event, seen time.Time) map[string]time.Time {
	out := map[string]time.Time{}
	for line := range strings.Lines(h.registrator.output()) {
		switch {
		case strings.Contains(line, "msg=container ") && attr(line, "id") == id[:12] && attr(line, "phase") == "running":
			at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", attr(line, "time"))
			if err == nil && !at.Before(event.Add(-time.Millisecond)) {
				out["inspected"] = at
			}
		case strings.Contains(line, "msg=registered ") && attr(line, "container") == id[:12]:
			if d, err := time.ParseDuration(attr(line, "after")); err == nil {
				out["registered"] = event.Add(d)
			}
		}
	}
	for line := range strings.Lines(h.templater.output()) {
		if !strings.Contains(line, "msg=applied ") {
			continue
		}
		end, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(attr(line, "at")))
		if err != nil || end.Before(seen) {
			continue
		}
		out["reloaded"] = end
		out["checked"] = end.Add(-step(line, "reload_ms") - step(line, "swap_ms"))
		out["rendered"] = out["checked"].Add(-step(line, "check_ms") - step(line, "stage_ms"))
		out["woken"] = out["rendered"].Add(-step(line, "render_ms"))
		break
	}
	return out
}

// attr reads an attribute of a log line.
func attr(line, key string) string {
	_, rest, ok := strings.Cut(" "+line, " "+key+"=")
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(rest, " ")
	return strings.Trim(strings.TrimSpace(v), `"`)
}

// step is how long a step of an apply took.
func step(line, key string) time.Duration {
	d, err := time.ParseDuration(attr(line, key) + "ms")
	if err != nil {
		return 0
	}
	return d
}
