package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// write is an item of the tests: name encodes as itself and a line's end.
type write struct {
	name      string
	keys      []string
	exclusive bool
}

func (w write) Keys() []string  { return w.keys }
func (w write) Exclusive() bool { return w.exclusive }
func (w write) Append(b []byte) ([]byte, error) {
	if w.name == "" {
		return nil, errors.New("no name")
	}
	return append(append(b, w.name...), '\n'), nil
}

// future answers when its channel is closed.
type future struct {
	raft.ApplyFuture
	done  chan struct{}
	err   error
	value any
}

func (f *future) Error() error  { <-f.done; return f.err }
func (f *future) Response() any { return f.value }

// request makes what apply would queue for w.
func requestOf(w write) *request {
	data, _ := w.Append(nil)
	return &request{keys: w.keys, exclusive: w.exclusive, data: data, done: make(chan answer, 1)}
}

// names tells the items of a group: a space between two of an entry, a bar between entries.
func names(group [][]*request) string {
	var entries []string
	for _, batch := range group {
		var out []string
		for _, r := range batch {
			out = append(out, string(r.data[:len(r.data)-1]))
		}
		entries = append(entries, strings.Join(out, " "))
	}
	return strings.Join(entries, "|")
}

func TestTake(t *testing.T) {
	t.Parallel()
	k := func(name string, keys ...string) write { return write{name: name, keys: keys} }
	x := func(name string) write { return write{name: name, exclusive: true} }
	many := func(n int, of func(name string) write) (out []write) {
		for range n {
			out = append(out, of("x"))
		}
		return out
	}
	hot := func(name string) write { return k(name, "hot") }
	small := func(name string) write { return k(name) }
	big := strings.Repeat("x", maxBytes-4)
	for _, tt := range []struct {
		name  string
		queue []write
		want  []string // one for each group
	}{
		{"nothing", nil, nil},
		{"different keys travel together", []write{k("1", "a"), k("2", "b"), k("3")}, []string{"1 2 3"}},
		{"one key, one entry each", []write{k("1", "a"), k("2", "a"), k("3", "a")}, []string{"1|2|3"}},
		{"others overtake a conflict", []write{k("1", "a"), k("2", "a"), k("3", "b")}, []string{"1 3|2"}},
		{"no overtaking by way of a second key", []write{k("1", "a"), k("2", "a", "b"), k("3", "b")}, []string{"1|2|3"}},
		{"a key twice in one item", []write{k("1", "a", "a")}, []string{"1"}},
		{"exclusive alone", []write{k("1", "a"), x("2"), k("3", "b"), k("4", "c")}, []string{"1|2|3 4"}},
		{"exclusive behind a conflict", []write{k("1", "a"), k("2", "a"), x("3"), k("4", "b")}, []string{"1|2|3|4"}},
		{"exclusive ones in a row", []write{x("1"), x("2"), k("3", "a"), k("4", "a"), x("5")}, []string{"1|2|3|4|5"}},
		{"bytes", []write{k("1"), k(big), k("3")}, []string{"1 " + big, "3"}},
		{"bytes of several entries", []write{x("1"), k(big), x("3")}, []string{"1|" + big, "3"}},
		{"larger than a group", []write{k("1"), k(big + big), k("3")}, []string{"1", big + big, "3"}},
		{"items", many(maxItems+1, small), []string{strings.Repeat("x ", maxItems-1) + "x", "x"}},
		{"entries", many(maxEntries+2, x), []string{strings.Repeat("x|", maxEntries-1) + "x", "x|x"}},
		{"entries of one key, which another overtakes", append(many(maxEntries+2, hot), k("1", "a"), k("2", "hot", "b"), k("3", "b")),
			[]string{"x 1|" + strings.Repeat("x|", maxEntries-2) + "x", "x|x|2|3"}},
		{"no overtaking an exclusive one that finds no entry", append(many(maxEntries, hot), x("1"), k("2", "a")),
			[]string{strings.Repeat("x|", maxEntries-1) + "x", "1|2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPump(nil, nil)
			for _, w := range tt.queue {
				p.push(requestOf(w))
			}
			var got []string
			for group := p.take(); len(group) > 0; group = p.take() {
				got = append(got, names(group))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("groups\n got %.200q\nwant %.200q", got, tt.want)
			}
		})
	}
}

// C2, C3 and C4 of whatever queue, with pushes and drops between the entries.
func TestC2C3C4Property(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newPump(nil, nil)
		var all, applied []*request
		step := func() bool {
			oldest := func() *request {
				for _, r := range p.queue {
					if r.stage.Load() == waiting {
						return r
					}
				}
				return nil
			}()
			group := p.take()
			if oldest == nil {
				return len(group) > 0
			}
			if len(group) == 0 || len(group) > maxEntries || group[0][0] != oldest {
				t.Fatalf("C4: the oldest item does not travel in %s", names(group))
			}
			for _, batch := range group {
				seen := map[string]bool{}
				for _, r := range batch {
					if r.exclusive && len(batch) > 1 {
						t.Fatalf("C2: exclusive item among %d", len(batch))
					}
					for _, k := range slices.Compact(slices.Sorted(slices.Values(r.keys))) {
						if seen[k] {
							t.Fatalf("C2: key %s twice in one entry", k)
						}
						seen[k] = true
					}
				}
				applied = append(applied, batch...)
			}
			return true
		}
		for i := range rapid.IntRange(0, 3*maxEntries).Draw(t, "items") {
			r := requestOf(write{
				name:      fmt.Sprint(i),
				keys:      rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 0, 3).Draw(t, "keys"),
				exclusive: rapid.IntRange(0, 9).Draw(t, "exclusive") == 0,
			})
			all = append(all, r)
			p.push(r)
			if rapid.IntRange(0, 9).Draw(t, "drop") == 0 {
				r.stage.Store(dropped)
			}
			if rapid.IntRange(0, 99).Draw(t, "take") == 0 {
				step()
			}
		}
		for step() {
		}
		place := map[*request]int{}
		for i, r := range applied {
			place[r] = i
		}
		for i, a := range all {
			if a.stage.Load() == dropped {
				continue
			}
			if _, ok := place[a]; !ok {
				t.Fatalf("C4: item %d never travelled", i)
			}
			for _, b := range all[i+1:] {
				if b.stage.Load() == dropped || !a.exclusive && !b.exclusive && !share(a.keys, b.keys) {
					continue
				}
				if place[a] > place[b] {
					t.Fatalf("C3: items out of order: %v before %v", b.keys, a.keys)
				}
			}
		}
	})
}

func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(k string) bool { return slices.Contains(b, k) })
}

func TestPumpGathersWhileEntriesAreInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var (
			mu      sync.Mutex
			entries []string
			futures []*future
		)
		p := newPump([]byte("v1:"), func(entry []byte) raft.ApplyFuture {
			mu.Lock()
			defer mu.Unlock()
			entries = append(entries, string(entry))
			futures = append(futures, &future{done: make(chan struct{})})
			return futures[len(futures)-1]
		})
		ctx, cancel := context.WithCancel(t.Context())
		go p.run(ctx)
		results := make(chan string, 9)
		began := time.Now()
		for i := range 9 {
			go func() {
				v, err := p.apply(t.Context(), write{name: fmt.Sprint(i)})
				results <- fmt.Sprintf("%v %v", v, err)
			}()
			synctest.Wait()
			if i == 1 { // by itself, behind one that is not answered
				time.Sleep(patience)
				synctest.Wait()
			}
		}
		want := []string{"v1:0\n", "v1:1\n"}
		if !slices.Equal(entries, want) || time.Since(began) != patience {
			t.Fatalf("entries in flight after %v: got %q, want %q", time.Since(began), entries, want)
		}
		futures[0].value = []any{"zero"}
		close(futures[0].done)
		time.Sleep(patience)
		synctest.Wait()
		if got, want := entries[2], "v1:2\n3\n4\n5\n6\n7\n8\n"; got != want {
			t.Errorf("third entry: got %q, want %q", got, want)
		}
		futures[1].err = raft.ErrLeadershipLost
		close(futures[1].done)
		futures[2].value = []any{2, 3, errors.New("no"), 5, 6, 7, 8}
		close(futures[2].done)
		synctest.Wait()
		close(results)
		var got []string
		for r := range results {
			got = append(got, r)
		}
		slices.Sort(got)
		wantAll := []string{"2 <nil>", "3 <nil>", "5 <nil>", "6 <nil>", "7 <nil>", "8 <nil>",
			"<nil> consensus: outcome unknown: " + raft.ErrLeadershipLost.Error(), "<nil> no", "zero <nil>"}
		slices.Sort(wantAll)
		if !slices.Equal(got, wantAll) {
			t.Errorf("answers\n got %q\nwant %q", got, wantAll)
		}
		cancel()
		synctest.Wait()
		if _, err := p.apply(t.Context(), write{name: "late"}); !errors.Is(err, ErrClosed) {
			t.Errorf("apply after the end: got %v, want ErrClosed", err)
		}
	})
}

// C1, as far as the pump decides it.
func TestC1Errors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		err     error
		value   any
		unknown bool
		is      error
	}{
		{name: "not leader", err: raft.ErrNotLeader, is: ErrNotLeader},
		{name: "transfer", err: raft.ErrLeadershipTransferInProgress, is: ErrNotLeader},
		{name: "lost", err: raft.ErrLeadershipLost, unknown: true, is: raft.ErrLeadershipLost},
		{name: "shutdown", err: raft.ErrRaftShutdown, unknown: true},
		{name: "disk", err: errors.New("input/output error"), unknown: true},
		{name: "restore", err: raft.ErrAbortedByRestore, unknown: true},
		{name: "the state machine refuses the entry", value: context.Canceled, is: context.Canceled},
		{name: "too few answers", value: []any{}, unknown: true},
		{name: "no answers", value: nil, unknown: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done := make(chan struct{})
			close(done)
			_, err := outcome(&future{done: done, err: tt.err, value: tt.value}, 1)
			if err == nil || errors.Is(err, ErrUnknown) != tt.unknown || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("outcome(%v, %v): got %v, want unknown %v and %v", tt.err, tt.value, err, tt.unknown, tt.is)
			}
		})
	}
}

func TestC1CallersThatLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var entries []string
		f := &future{done: make(chan struct{}), value: []any{1}}
		p := newPump(nil, func(entry []byte) raft.ApplyFuture {
			entries = append(entries, string(entry))
			return f
		})
		errs := map[string]chan error{"early": make(chan error, 1), "late": make(chan error, 1)}
		start := func(name string) context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, err := p.apply(ctx, write{name: name})
				errs[name] <- err
			}()
			synctest.Wait()
			return cancel
		}
		start("early")() // leaves before the pump runs
		synctest.Wait()
		leave := start("late")
		ctx, cancel := context.WithCancel(t.Context())
		go p.run(ctx)
		synctest.Wait()
		leave()
		if err := <-errs["early"]; !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
			t.Errorf("left while waiting: got %v, want only context.Canceled", err)
		}
		if err := <-errs["late"]; !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnknown) {
			t.Errorf("left in flight: got %v, want ErrUnknown and context.Canceled", err)
		}
		close(f.done)
		cancel()
		synctest.Wait()
		if !slices.Equal(entries, []string{"late\n"}) {
			t.Errorf("entries: got %q, want only the second", entries)
		}
		if _, err := p.apply(t.Context(), write{}); err == nil {
			t.Error("apply of what does not encode: got no error")
		}
	})
}

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := newPump(nil, nil)
			var reqs []*request
			for i := range n {
				reqs = append(reqs, requestOf(write{name: fmt.Sprint(i), keys: []string{fmt.Sprint("kv/", i)}}))
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, r := range reqs {
					r.stage.Store(waiting)
					p.push(r)
				}
				for _, batch := range p.take() {
					p.entry(batch)
				}
			}
		})
	}
}
