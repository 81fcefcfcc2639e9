package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// desk is a source whose checks a test sets.
type desk struct {
	wake chan struct{}

	mu      sync.Mutex
	news    Changes                 // guarded by mu
	expires map[string]time.Time    // guarded by mu; TTLs
	defs    map[string]*Wanted      // guarded by mu
	rows    map[string][]*api.Check // guarded by mu; by service
	reports []string                // guarded by mu
	looks   int                     // guarded by mu; calls of Expire
}

func newDesk() *desk {
	return &desk{
		wake: make(chan struct{}, 1), news: Changes{Checks: map[string]*Wanted{}},
		expires: map[string]time.Time{}, defs: map[string]*Wanted{}, rows: map[string][]*api.Check{},
	}
}

func (d *desk) Wake() <-chan struct{} { return d.wake }

func (d *desk) Take() Changes {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.news
	d.news = Changes{Checks: map[string]*Wanted{}}
	return c
}

func (d *desk) Report(id, status, output string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports = append(d.reports, fmt.Sprintf("%s %s %s", id, status, output))
}

func (d *desk) Expire(id string, output func(string) string) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	w := d.defs[id]
	if w == nil {
		return time.Time{}
	}
	if !d.expires[id].After(time.Now()) {
		d.expires[id] = time.Now().Add(time.Duration(w.Def.TTL))
		d.reports = append(d.reports, fmt.Sprintf("%s %s %s", id, api.Critical, output("last words")))
	}
	return d.expires[id]
}

func (d *desk) ServiceChecks(service string) ([]*api.Check, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows, ok := d.rows[service]
	return rows, ok
}

// set changes what is wanted; nil is gone.
func (d *desk) set(id string, w *Wanted) {
	d.mu.Lock()
	d.news.Checks[id], d.defs[id] = w, w
	if w != nil {
		d.expires[id] = time.Now().Add(time.Duration(w.Def.TTL))
	}
	d.mu.Unlock()
	d.poke()
}

func (d *desk) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// report is what a TTL check's owner does.
func (d *desk) report(id string, ttl time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expires[id] = time.Now().Add(ttl)
}

// all gives the reports so far, and forgets them.
func (d *desk) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.reports
	d.reports = nil
	return out
}

// run runs a runner until the test stops it.
func start(t *testing.T, d *desk, cfg Config) (stop func()) {
	t.Helper()
	cfg.Log = discard
	r := New(cfg, d)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() { cancel(); running.Wait() }
}

// runner is one whose probes a test calls itself.
func runner(cfg Config) *Runner {
	cfg.Log = discard
	return New(cfg, newDesk())
}

func ttlCheck(ttl time.Duration) *Wanted {
	return &Wanted{Def: &api.CheckDefinition{TTL: api.Duration(ttl)}, Status: api.Critical}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		defer start(t, d, Config{})()
		d.set("c", ttlCheck(10*time.Second))
		time.Sleep(9 * time.Second)
		d.report("c", 10*time.Second)
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if got := d.all(); len(got) != 0 {
			t.Fatalf("reports before the TTL was over: %v", got)
		}
		time.Sleep(1001 * time.Millisecond)
		synctest.Wait()
		want := "c critical TTL expired (last output before timeout follows): last words"
		if got := d.all(); len(got) != 1 || got[0] != want {
			t.Errorf("at the TTL: %q, want %q", got, want)
		}
		d.report("c", 10*time.Second) // it comes back, and goes again
		time.Sleep(10*time.Second + 2*ttlGrain)
		synctest.Wait()
		if got := d.all(); len(got) != 1 {
			t.Errorf("the second time: %q", got)
		}
	})
}

// A check that goes and comes back before the runner looked is as good as new.
func TestGoneAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		defer start(t, d, Config{Node: "n1"})()
		d.set("t", ttlCheck(10*time.Second))
		d.health("web", row("x", api.Passing))
		d.set("a", alias("web", ""))
		synctest.Wait()
		d.all()
		d.mu.Lock()
		d.defs["t"] = nil // gone, and nobody was told yet
		d.mu.Unlock()
		time.Sleep(11 * time.Second)
		d.set("t", ttlCheck(10*time.Second))
		d.set("a", alias("web", ""))
		synctest.Wait()
		if got := d.all(); len(got) != 1 || got[0] != "a passing All checks passing." {
			t.Errorf("the alias that came back: %q", got)
		}
		time.Sleep(10*time.Second + 2*ttlGrain)
		synctest.Wait()
		if got := d.all(); len(got) != 1 || !strings.HasPrefix(got[0], "t critical TTL expired") {
			t.Errorf("the TTL that came back: %q", got)
		}
	})
}

// Ten thousand TTL checks cost a look each when the expiry that was last known is over,
// which is never more often than they are reported on, and no goroutine.
func TestManyTTLs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		defer start(t, d, Config{})()
		const many = 10_000
		for i := range many {
			d.set(fmt.Sprint("c", i), ttlCheck(10*time.Second))
		}
		synctest.Wait()
		for range 6 { // all report each 5 s
			time.Sleep(5 * time.Second)
			for i := range many {
				d.report(fmt.Sprint("c", i), 10*time.Second)
			}
		}
		synctest.Wait()
		if got := d.all(); len(got) != 0 {
			t.Errorf("%d expired, the first: %s", len(got), got[0])
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if limit := 8 * many; d.looks > limit {
			t.Errorf("%d looks in 30 s, want %d at most: one at the start, one a report, and one for each end", d.looks, limit)
		}
	})
}

// A definition that did not change is not started anew; one that changed is; one that is
// gone reports no more.
func TestOnlyChangesRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		asked := make(chan string, 100)
		exec := execFunc(func(ctx context.Context, id string) (int, error) {
			asked <- id
			if id == "slow" {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return 0, nil
		})
		defer start(t, d, Config{Docker: exec})()
		check := func(container string) *Wanted {
			return &Wanted{Status: api.Critical, Def: &api.CheckDefinition{
				DockerContainerID: container, Args: []string{"true"}, Interval: api.Duration(10 * time.Second), Timeout: api.Duration(time.Hour),
			}}
		}
		d.set("same", check("a"))
		d.set("changed", check("slow"))
		d.set("gone", check("slow"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		d.all()
		d.set("same", check("a"))
		d.set("changed", check("b"))
		d.set("gone", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		got := map[string]int{}
		for _, r := range d.all() {
			got[r]++
		}
		if len(got) != 2 || got["same passing "] != 6 || got["changed passing "] < 6 || got["changed passing "] > 7 {
			t.Errorf("in a minute: %v, want same 6 times and changed as often, and nothing of gone", got)
		}
		close(asked)
		for id := range asked {
			got["asked "+id]++
		}
		if got["asked slow"] != 2 {
			t.Errorf("the slow ones were asked %d times, want once each", got["asked slow"])
		}
	})
}

// execFunc is an engine that a test makes up.
type execFunc func(ctx context.Context, container string) (int, error)

func (f execFunc) Exec(ctx context.Context, id string, _ []string, _ io.Writer) (int, error) {
	return f(ctx, id)
}

// The first looks are spread over the interval, each next one is an interval after the
// last was over, and a look ends at its timeout.
func TestTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		var mu sync.Mutex
		var first []time.Duration
		begin := time.Now()
		exec := execFunc(func(ctx context.Context, id string) (int, error) {
			mu.Lock()
			first = append(first, time.Since(begin))
			mu.Unlock()
			<-ctx.Done()
			return 0, ctx.Err()
		})
		defer start(t, d, Config{Docker: exec})()
		for i := range 200 {
			d.set(fmt.Sprint(i), &Wanted{Status: api.Passing, Def: &api.CheckDefinition{
				DockerContainerID: "x", Args: []string{"true"}, Interval: api.Duration(100 * time.Second), Timeout: api.Duration(7 * time.Second),
			}})
		}
		time.Sleep(100 * time.Second)
		synctest.Wait()
		mu.Lock()
		if len(first) != 200 {
			t.Errorf("%d looks in the first interval, want 200", len(first))
		}
		byQuarter := make([]int, 4)
		for _, at := range first {
			byQuarter[min(at/(25*time.Second), 3)]++
		}
		mu.Unlock()
		if slices.Min(byQuarter) < 20 {
			t.Errorf("looks in each quarter of the interval: %v, want them spread", byQuarter)
		}
		d.all()
		time.Sleep(107 * time.Second)
		synctest.Wait()
		if got := d.all(); len(got) < 195 || !strings.HasSuffix(got[0], "critical Timed out (7s) running check") {
			t.Errorf("%d reports, the first %q", len(got), got[0])
		}
	})
}

// What has just been started is looked at until it answers, ever less often, and from then on
// as often as its definition says; of many that begin at once, each has its turn.
func TestFirstAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		var mu sync.Mutex
		looks := map[string][]time.Duration{} // when, by container
		begin := time.Now()
		exec := execFunc(func(_ context.Context, id string) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			at := time.Since(begin)
			looks[id] = append(looks[id], at)
			if id == "never" || id == "slow" && at < time.Second {
				return 2, nil
			}
			return 0, nil
		})
		defer start(t, d, Config{Docker: exec})()
		check := func(container string, every time.Duration) *Wanted {
			return &Wanted{Status: api.Critical, Def: &api.CheckDefinition{DockerContainerID: container, Args: []string{"true"}, Interval: api.Duration(every)}}
		}
		d.set("slow", check("slow", 10*time.Second))
		d.set("never", check("never", 10*time.Second))
		time.Sleep(time.Minute)
		mu.Lock()
		var passes time.Duration
		for i, at := range looks["slow"] {
			if at < time.Second {
				continue
			}
			if passes = at; i > 7 {
				t.Errorf("%d looks before it answered", i)
			}
			break
		}
		if looks["slow"][0] > 10*time.Millisecond || passes > 1500*time.Millisecond {
			t.Errorf("it answers after 1 s; looked at after %s", looks["slow"])
		}
		if n := len(looks["slow"]); n > 14 {
			t.Errorf("%d looks in a minute at one that answers, every 10 s", n)
		}
		if n := len(looks["never"]); n < 12 || n > 20 {
			t.Errorf("%d looks in a minute at one that never answers", n)
		}
		last := looks["never"][len(looks["never"])-2:]
		if last[1]-last[0] < 10*time.Second {
			t.Errorf("at last it is looked at every %s", last[1]-last[0])
		}
		clear(looks)
		begin = time.Now()
		mu.Unlock()
		for i := range 1000 {
			d.set(fmt.Sprint(i), check(fmt.Sprint(i), 100*time.Second))
		}
		time.Sleep(6 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		each := make([]int, 6) // first looks in each second
		for id, at := range looks {
			if id != "slow" && id != "never" {
				each[min(at[0]/time.Second, 5)]++
			}
		}
		if slices.Max(each) > 250 || slices.Min(each[:4]) < 150 {
			t.Errorf("of a thousand that begin at once, so many are looked at first in each second: %v", each)
		}
	})
}

// What may not run here is critical and says why.
func TestRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		defer start(t, d, Config{})()
		d.set("c", &Wanted{Def: &api.CheckDefinition{Args: []string{"true"}, Interval: 1}, Refused: errors.New("no scripts here")})
		synctest.Wait()
		if got := d.all(); len(got) != 1 || got[0] != "c critical no scripts here" {
			t.Errorf("got %q", got)
		}
	})
}

func TestThresholds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		def     api.CheckDefinition
		results string // p, w, c
		want    string
	}{
		"none":     {api.CheckDefinition{}, "pcpw", "pcpw"},
		"one":      {api.CheckDefinition{SuccessBeforePassing: 1, FailuresBeforeCritical: 1}, "pcp", "pcp"},
		"success":  {api.CheckDefinition{SuccessBeforePassing: 2}, "ppcp", "cpcc"},
		"critical": {api.CheckDefinition{FailuresBeforeCritical: 3}, "pcccpcc", "pppcppp"},
		"warning":  {api.CheckDefinition{FailuresBeforeWarning: 1, FailuresBeforeCritical: 3}, "pcccp", "pwwcp"},
	} {
		word := map[rune]string{'p': api.Passing, 'w': api.Warning, 'c': api.Critical}
		th := threshold{def: &c.def, status: api.Critical}
		got := ""
		for _, r := range c.results {
			status, _ := th.take(word[r])
			got += status[:1]
		}
		if got != c.want {
			t.Errorf("%s: results %s: got %s, want %s", name, c.results, got, c.want)
		}
	}
}

// A result short of its threshold does not speak for the status.
func TestThresholdOutput(t *testing.T) {
	t.Parallel()
	th := threshold{def: &api.CheckDefinition{FailuresBeforeCritical: 2}, status: api.Passing}
	for i, want := range []bool{false, true} {
		if _, settled := th.take(api.Critical); settled != want {
			t.Errorf("failure %d: settled %v, want %v", i+1, settled, want)
		}
	}
}

func TestExpiredOutput(t *testing.T) {
	t.Parallel()
	once := expired("words")
	if got := expired(once); got != once {
		t.Errorf("expired twice: %q", got)
	}
	if got := expired(""); got != "TTL expired" {
		t.Errorf("without a note: %q", got)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3, 7, 10, 64} {
		out, all := &tail{limit: 10}, ""
		for i := range 20 {
			piece := strings.Repeat(string(rune('a'+i)), size)
			all += piece
			out.Write([]byte(piece))
			if want := all[max(0, len(all)-10):]; out.String() != want || out.cut() != (len(all) > 10) {
				t.Fatalf("%d pieces of %d: got %q (cut %v), want %q", i+1, size, out, out.cut(), want)
			}
		}
		if cap(out.buf) > 64 {
			t.Errorf("pieces of %d: a buffer of %d bytes", size, cap(out.buf))
		}
	}
	out := &tail{limit: 3}
	out.Write([]byte("é€")) // the limit falls into the first letter
	if out.String() != "€" {
		t.Errorf("cut inside a letter: %q", out)
	}
}

// health changes the checks of a service, or with "" says that the node's changed.
func (d *desk) health(service string, rows ...*api.Check) {
	d.mu.Lock()
	if service != "" {
		d.rows[service] = rows
	}
	d.news.Health = append(d.news.Health, service)
	d.mu.Unlock()
	d.poke()
}

var discard = slog.New(slog.DiscardHandler)
