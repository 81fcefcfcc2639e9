package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	_ "github.com/rollcall/rollcall/internal/oneproc"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// set is an item: key=value.
type set struct{ key, value string }

func (s set) Keys() []string                  { return []string{s.key} }
func (s set) Exclusive() bool                 { return false }
func (s set) Append(b []byte) ([]byte, error) { return fmt.Appendf(b, "%s=%s\n", s.key, s.value), nil }

// alone is one that travels alone.
type alone struct{ set }

func (alone) Exclusive() bool { return true }

// registers is the state machine of the tests: it keeps each key's last value.
type registers struct {
	mu      sync.Mutex
	values  map[string]string
	entries int
}

func (f *registers) get(key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.values[key]
}

func (f *registers) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, ok := strings.CutPrefix(string(l.Data), "v1\n")
	if !ok {
		return errors.New("no prefix")
	}
	f.entries++
	var out []any
	for line := range strings.Lines(body) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		out = append(out, f.values[k])
		if f.values == nil {
			f.values = make(map[string]string)
		}
		f.values[k] = v
	}
	return out
}

func (f *registers) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for k, v := range f.values {
		fmt.Fprintf(&b, "%s=%s\n", k, v)
	}
	return image(b.String()), nil
}

func (f *registers) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values = make(map[string]string)
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		f.values[k] = v
	}
	return err
}

type image string

func (s image) Release() {}
func (s image) Persist(sink raft.SnapshotSink) error {
	if _, err := io.WriteString(sink, string(s)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// layer is the stream layer on a net in memory.
type layer struct {
	net.Listener
	dial func(context.Context, string) (net.Conn, error)
	open context.Context // ends with Close, and with it the dials under way
	end  context.CancelFunc
}

func newLayer(l net.Listener, dial func(context.Context, string) (net.Conn, error)) layer {
	open, end := context.WithCancel(context.Background())
	return layer{l, dial, open, end}
}

func (l layer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.open, timeout)
	defer cancel()
	return l.dial(ctx, string(addr))
}

func (l layer) Close() error {
	l.end()
	return l.Listener.Close()
}

// server is one running server.
type server struct {
	*consensus.Raft
	id   string
	fsm  *registers
	stop func()
}

// open starts a server on n; change may adapt its config.
func open(t *testing.T, n *servertest.Net, id string, change func(*consensus.Config)) *server {
	t.Helper()
	s, err := tryOpen(t, n, id, change)
	if err != nil {
		t.Fatalf("open %s: %v", id, err)
	}
	return s
}

func tryOpen(t *testing.T, n *servertest.Net, id string, change func(*consensus.Config)) (*server, error) {
	t.Helper()
	ln, err := n.Listen(id + ":8300")
	if err != nil {
		t.Fatal(err)
	}
	cfg := consensus.Config{
		ID: id, EntryPrefix: []byte("v1\n"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", id),
	}
	if change != nil {
		change(&cfg)
	}
	s := &server{id: id, fsm: &registers{}}
	if s.Raft, err = consensus.Open(cfg, s.fsm, newLayer(ln, n.Dialer(id))); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.WithoutCancel(t.Context())) }()
	s.stop = sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close %s: %v", id, err)
		}
		if err := <-done; err != nil {
			t.Errorf("run %s: %v", id, err)
		}
	})
	return s, nil
}

// until waits for a leadership fact of r.
func until(t *testing.T, r *server, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		changed := r.Watch()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s: waited in vain until %s", r.id, what)
		}
	}
}

func fast(c *consensus.Config) { c.Fast = true }

// trio starts three servers that know of each other and waits for a leader, given first.
func trio(t *testing.T, n *servertest.Net, change func(*consensus.Config)) (leader *server, others []*server) {
	t.Helper()
	ids := []string{"a", "b", "c"}
	var list []consensus.Server
	var all []*server
	for _, id := range ids {
		list = append(list, consensus.Server{ID: id, Addr: id + ":8300"})
		all = append(all, open(t, n, id, change))
	}
	if err := all[0].Bootstrap(list); err != nil {
		t.Fatal(err)
	}
	until(t, all[0], "it leads", all[0].IsLeader)
	return all[0], all[1:]
}

func stopAll(servers ...*server) {
	for _, s := range servers {
		s.stop()
	}
}

func TestAloneLeadsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		start := time.Now()
		s := open(t, n, "a", func(c *consensus.Config) { c.Multiplier = 5 })
		defer s.stop()
		if s.HasState() {
			t.Error("a new server has state")
		}
		if _, err := s.Apply(t.Context(), set{"k", "v"}); !errors.Is(err, consensus.ErrNotLeader) {
			t.Errorf("apply without a cluster: got %v, want ErrNotLeader", err)
		}
		if err := s.Bootstrap([]consensus.Server{{ID: "a", Addr: "a:8300"}}); err != nil {
			t.Fatal(err)
		}
		until(t, s, "it leads", s.IsLeader)
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Errorf("start to leader: got %v, want at most 0.3s", took)
		}
		if err := s.Bootstrap([]consensus.Server{{ID: "a", Addr: "a:8300"}}); !errors.Is(err, consensus.ErrHasState) {
			t.Errorf("second bootstrap: got %v, want ErrHasState", err)
		}
		if id, addr := s.Leader(); id != "a" || addr != "a:8300" {
			t.Errorf("leader: got %s %s, want a a:8300", id, addr)
		}
		if _, err := s.Apply(t.Context(), set{"k", "v"}); err != nil {
			t.Fatal(err)
		}
		if old, err := s.Apply(t.Context(), set{"k", "w"}); err != nil || old != "v" {
			t.Errorf("answer: got %v, %v, want v", old, err)
		}
		if !s.HasState() {
			t.Error("a server with a log has no state")
		}
	})
}

func TestStats(t *testing.T) {
	t.Parallel()
	s := open(t, servertest.NewNet(), "a", fast)
	defer s.stop()
	stats := s.Stats()
	for _, key := range strings.Fields(`applied_index commit_index fsm_pending last_contact last_log_index last_log_term
		last_snapshot_index last_snapshot_term latest_configuration latest_configuration_index num_peers protocol_version
		protocol_version_min protocol_version_max snapshot_version_min snapshot_version_max state term`) {
		if _, ok := stats[key]; !ok {
			t.Errorf("stats lack %s", key)
		}
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	n, dir := servertest.NewNet(), t.TempDir()
	onDisk := func(c *consensus.Config) { c.Dir = dir }
	start := time.Now()
	s := open(t, n, "a", onDisk)
	if err := s.Bootstrap([]consensus.Server{{ID: "a", Addr: "a:8300"}}); err != nil {
		t.Fatal(err)
	}
	until(t, s, "it leads", s.IsLeader)
	t.Logf("leader after %v", time.Since(start))
	for i := range 10 {
		if _, err := s.Apply(t.Context(), set{"k", fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			r, err := s.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
	}
	t.Run("a second process is told", func(t *testing.T) {
		if _, err := tryOpen(t, servertest.NewNet(), "a", onDisk); !errors.Is(err, consensus.ErrLocked) {
			t.Errorf("open: got %v, want ErrLocked", err)
		}
	})
	s.stop()

	start = time.Now()
	s = open(t, n, "a", onDisk)
	defer s.stop()
	until(t, s, "it leads", s.IsLeader)
	t.Logf("leader after %v", time.Since(start))
	if got := s.fsm.get("k"); got != "9" {
		t.Errorf("after a restart: got k=%s, want 9", got)
	}
}

func TestUnwritableDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := tryOpen(t, servertest.NewNet(), "a", func(c *consensus.Config) { c.Dir = file })
	if err == nil || !strings.Contains(err.Error(), "data directory is not writable") {
		t.Errorf("open below a file: got %v", err)
	}
}

func TestFollowersFollowAndRefuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leader, others := trio(t, servertest.NewNet(), nil)
		defer stopAll(append(others, leader)...)
		if _, err := leader.Apply(t.Context(), set{"k", "v"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // of the bubble: a few commit timeouts
		for _, f := range others {
			if got := f.fsm.get("k"); got != "v" {
				t.Errorf("%s: got k=%q, want v", f.id, got)
			}
			if id, addr := f.Leader(); id != "a" || addr != "a:8300" {
				t.Errorf("%s: leader is %s %s, want a a:8300", f.id, id, addr)
			}
			if _, err := f.Apply(t.Context(), set{"k", "w"}); !errors.Is(err, consensus.ErrNotLeader) {
				t.Errorf("%s: apply gave %v, want ErrNotLeader", f.id, err)
			}
			if err := f.VerifyLeader(t.Context()); !errors.Is(err, consensus.ErrNotLeader) {
				t.Errorf("%s: verify gave %v, want ErrNotLeader", f.id, err)
			}
			if d := f.LastContact(); d <= 0 || d > time.Second {
				t.Errorf("%s: last contact %v ago", f.id, d)
			}
		}
		if err := leader.VerifyLeader(t.Context()); err != nil {
			t.Errorf("verify: %v", err)
		}
		type row struct {
			ID, Address   string
			Leader, Voter bool
		}
		servers, _, err := leader.Servers()
		if err != nil {
			t.Fatal(err)
		}
		var got []row
		for _, s := range servers {
			got = append(got, row{s.ID, s.Address, s.Leader, s.Voter})
		}
		want := []row{{"a", "a:8300", true, true}, {"b", "b:8300", false, true}, {"c", "c:8300", false, true}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("servers (-want +got):\n%s", d)
		}
	})
}

func TestTransferLeadership(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leader, others := trio(t, servertest.NewNet(), nil)
		defer stopAll(append(others, leader)...)
		if err := leader.TransferLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, leader, "another leads", func() bool { id, _ := leader.Leader(); return id != "" && id != "a" })
		if leader.IsLeader() {
			t.Error("the old leader still leads")
		}
		id, _ := leader.Leader()
		for _, s := range others {
			if s.id == id {
				until(t, s, "it is established", s.IsLeader)
			}
		}
	})
}

func TestAddRemoveAndMove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		moved := new(sync.Map)
		where := func(c *consensus.Config) {
			c.AddressOf = func(id string) (string, bool) {
				v, ok := moved.Load(id)
				addr, _ := v.(string)
				return addr, ok
			}
		}
		leader, others := trio(t, n, where)
		d := open(t, n, "d", nil)
		if err := leader.AddNonvoter(t.Context(), "d", "d:8300"); err != nil {
			t.Fatal(err)
		}
		if err := leader.AddVoter(t.Context(), "d", "d:8300"); err != nil {
			t.Fatal(err)
		}
		if err := leader.RemoveServer(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		if err := d.AddVoter(t.Context(), "e", "e:8300"); !errors.Is(err, consensus.ErrNotLeader) {
			t.Errorf("add by a follower: got %v, want ErrNotLeader", err)
		}
		// c goes, and comes back at another address; everybody else hears of it by id.
		others[1].stop()
		moved.Store("c", "c2:8300")
		ln, err := n.Listen("c2:8300")
		if err != nil {
			t.Fatal(err)
		}
		fsm := &registers{}
		c, err := consensus.Open(consensus.Config{
			ID: "c", EntryPrefix: []byte("v1\n"), Log: slog.New(slog.DiscardHandler),
		}, fsm, newLayer(ln, n.Dialer("c2")))
		if err != nil {
			t.Fatal(err)
		}
		d.stop() // so that c is needed for a quorum
		if _, err := leader.Apply(t.Context(), set{"k", "v"}); err != nil {
			t.Errorf("apply with the server that moved: %v", err)
		}
		// Another one may come to where it was.
		if err := leader.AddNonvoter(t.Context(), "f", "c:8300"); err != nil {
			t.Errorf("a server at an address that another one left: %v", err)
		}
		rows, _, err := leader.Servers()
		at := map[string]string{}
		for _, r := range rows {
			at[r.ID] = r.Address
		}
		if err != nil || at["c"] != "c2:8300" || at["f"] != "c:8300" {
			t.Errorf("servers at %v, %v", at, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		stopAll(leader, others[0])
	})
}

func TestC5NotLeaderBeforeItsBarrier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		leader, others := trio(t, n, nil)
		defer stopAll(append(others, leader)...)
		for i := range 50 {
			if _, err := leader.Apply(t.Context(), set{"k", fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		n.Partition("a")
		var next *server
		for next == nil {
			for _, s := range others {
				if s.IsLeader() {
					next = s
				}
			}
			time.Sleep(time.Millisecond)
		}
		if got := next.fsm.get("k"); got != "49" {
			t.Errorf("the new leader has k=%s the moment it leads, want 49", got)
		}
		if leader.IsLeader() {
			t.Error("two lead after the lease is over")
		}
	})
}

func TestC1IsolatedLeaderAnswersEveryone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		leader, others := trio(t, n, nil)
		defer stopAll(append(others, leader)...)
		n.Partition("a")
		start := time.Now()
		errs := make(chan error, 300)
		for i := range cap(errs) {
			go func() {
				_, err := leader.Apply(t.Context(), set{"k", fmt.Sprint(i)})
				errs <- err
			}()
		}
		unknown := 0
		for range cap(errs) {
			switch err := <-errs; {
			case errors.Is(err, consensus.ErrUnknown):
				unknown++
			case !errors.Is(err, consensus.ErrNotLeader):
				t.Errorf("apply: got %v, want ErrNotLeader or ErrUnknown", err)
			}
		}
		if unknown == 0 || unknown > 128 {
			t.Errorf("%d outcomes unknown, want those of the entries in flight, at most 128", unknown)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("answers after %v, want them within the lease", took)
		}
	})
}

func TestSnapshotAndRestore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leader, others := trio(t, servertest.NewNet(), nil)
		defer stopAll(append(others, leader)...)
		for _, v := range []string{"old", "new"} {
			if _, err := leader.Apply(t.Context(), set{"k", v}); err != nil {
				t.Fatal(err)
			}
			if v == "new" {
				break
			}
			for range 2 { // the second time there is nothing new to take
				image, err := leader.Snapshot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer image.Close()
				if image.Index == 0 {
					t.Error("snapshot has no index")
				}
			}
		}
		image, err := leader.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
		if _, err := leader.Apply(t.Context(), set{"k", "newest"}); err != nil {
			t.Fatal(err)
		}
		if err := leader.Restore(t.Context(), image); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, s := range append(others, leader) {
			if got := s.fsm.get("k"); got != "new" {
				t.Errorf("%s after the restore: got k=%s, want new", s.id, got)
			}
		}
	})
}

func TestC7CloseInTheMiddle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		leader, others := trio(t, n, nil)
		n.Partition("a")
		done, many := make(chan error, 1), make(chan error, 200)
		go func() {
			_, err := leader.Apply(t.Context(), set{"k", "v"})
			done <- err
		}()
		synctest.Wait()
		for range cap(many) {
			go func() {
				_, err := leader.Apply(t.Context(), alone{set{"k", "v"}})
				many <- err
			}()
		}
		synctest.Wait()
		start := time.Now()
		stopAll(append(others, leader)...)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("close took %v", took)
		}
		if err := <-done; !errors.Is(err, consensus.ErrUnknown) {
			t.Errorf("apply under way: got %v, want ErrUnknown", err)
		}
		closed := 0
		for range cap(many) {
			switch err := <-many; {
			case errors.Is(err, consensus.ErrClosed):
				closed++
			case !errors.Is(err, consensus.ErrUnknown):
				t.Errorf("one of many: got %v, want ErrUnknown or ErrClosed", err)
			}
		}
		if closed < cap(many)-64 { // the second group in flight
			t.Errorf("%d of %d that waited were refused", closed, cap(many))
		}
		if err := leader.VerifyLeader(t.Context()); !errors.Is(err, consensus.ErrClosed) {
			t.Errorf("verify after close: got %v, want ErrClosed", err)
		}
		if err := leader.Run(t.Context()); err != nil {
			t.Errorf("run after close: %v", err)
		}
	})
}

// raft-wal 0.4.0 can lose acknowledged entries.
func TestLogStoreVersion(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "github.com/hashicorp/raft-wal v0.4.2\n"; !strings.Contains(string(b), want) {
		t.Errorf("go.mod does not require %s", want)
	}
}

// hanging is a disk that can be made to hang.
type hanging struct {
	raft.LogStore
	mu   sync.Mutex
	free chan struct{} // guarded by mu; nil where it does not hang
}

func (h *hanging) hang(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if yes {
		h.free = make(chan struct{})
	} else {
		close(h.free)
		h.free = nil
	}
}

func (h *hanging) StoreLogs(l []*raft.Log) error {
	h.mu.Lock()
	free := h.free
	h.mu.Unlock()
	if free != nil {
		<-free
	}
	return h.LogStore.StoreLogs(l)
}

func TestC8StalledDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := servertest.NewNet()
		disks := map[string]*hanging{}
		old, others := trio(t, n, func(c *consensus.Config) {
			id := c.ID
			c.Disk = func(l raft.LogStore) raft.LogStore {
				disks[id] = &hanging{LogStore: l}
				return disks[id]
			}
		})
		defer stopAll(append(others, old)...)
		ctx := t.Context()
		if _, err := old.Apply(ctx, set{"k", "1"}); err != nil {
			t.Fatal(err)
		}
		disks[old.id].hang(true)
		began := time.Now()
		errs := make(chan error, 200)
		for i := range cap(errs) { // the first alone; others wait in Raft behind it, and the last in the pump
			go func() {
				_, err := old.Apply(ctx, alone{set{"k", "2"}})
				errs <- err
			}()
			if i == 0 {
				synctest.Wait()
			}
		}
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, consensus.ErrUnknown) && !errors.Is(err, consensus.ErrNotLeader) {
				t.Errorf("a write on a stalled disk: %v", err)
			}
		}
		if old.IsLeader() {
			t.Error("it leads with a stalled disk")
		}
		if err := old.VerifyLeader(ctx); !errors.Is(err, consensus.ErrNotLeader) {
			t.Errorf("VerifyLeader: %v", err)
		}
		var next *server
		for next == nil {
			for _, s := range others {
				if s.IsLeader() {
					next = s
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("another leader after %s", time.Since(began))
		if _, err := next.Apply(ctx, set{"k", "3"}); err != nil {
			t.Fatal(err)
		}
		disks[old.id].hang(false)
		until(t, old, "it follows", func() bool { id, _ := old.Leader(); return id == next.id })
		for old.fsm.get("k") != "3" {
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// slow is a log store whose disk takes its time, and is asked how often it wrote.
type slow struct {
	raft.LogStore
	syncs atomic.Int64
}

func (s *slow) StoreLogs(l []*raft.Log) error {
	s.syncs.Add(1)
	time.Sleep(10 * time.Millisecond)
	return s.LogStore.StoreLogs(l)
}

// Items that cannot share an entry share a write to disk; they keep their order, and one
// whose caller leaves while it waits changes nothing.
func TestC1C2C3EntriesShareASync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var disk *slow
		s := open(t, servertest.NewNet(), "a", func(c *consensus.Config) {
			c.Disk = func(l raft.LogStore) raft.LogStore { disk = &slow{LogStore: l}; return disk }
		})
		defer s.stop()
		if err := s.Bootstrap([]consensus.Server{{ID: "a", Addr: "a:8300"}}); err != nil {
			t.Fatal(err)
		}
		until(t, s, "it leads", s.IsLeader)
		const items, gone = 60, 30
		before := disk.syncs.Load()
		answers := make([]chan any, items)
		for i := range items {
			ctx, leave := context.WithCancel(t.Context())
			answers[i] = make(chan any, 1)
			var item consensus.Item = alone{set{"k", fmt.Sprint(i)}}
			if i%3 == 0 {
				item = set{"k", fmt.Sprint(i)}
			}
			go func() {
				defer leave()
				v, err := s.Apply(ctx, item)
				if err != nil {
					v = err
				}
				answers[i] <- v
			}()
			synctest.Wait() // in this order
			if i == gone {
				leave()
			}
		}
		last := ""
		for i, answer := range answers {
			got := <-answer
			if i == gone {
				if err, ok := got.(error); !ok || !errors.Is(err, context.Canceled) || errors.Is(err, consensus.ErrUnknown) {
					t.Errorf("the one that left: got %v, want only context.Canceled", got)
				}
				continue
			}
			if got != last {
				t.Errorf("item %d: got %v for what was there before, want %s", i, got, last)
			}
			last = fmt.Sprint(i)
		}
		if s.fsm.entries != items-1 {
			t.Errorf("%d entries, want %d", s.fsm.entries, items-1)
		}
		// The first item, the second, and those that gathered meanwhile, of which Raft may take the first alone.
		if got := disk.syncs.Load() - before; got > 4 {
			t.Errorf("written %d times, want at most 4", got)
		}
	})
}

// small is a log store whose disk may be full.
type small struct {
	raft.LogStore
	full  atomic.Bool
	tries atomic.Int64
}

func (s *small) StoreLogs(l []*raft.Log) error {
	s.tries.Add(1)
	if s.full.Load() {
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return s.LogStore.StoreLogs(l)
}

// Alone, a server whose disk is full stays leader and is read; with others it makes way.
func TestC9FullDisk(t *testing.T) {
	t.Parallel()
	t.Run("alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var disk *small
			s := open(t, servertest.NewNet(), "a", func(c *consensus.Config) {
				c.Disk = func(l raft.LogStore) raft.LogStore { disk = &small{LogStore: l}; return disk }
			})
			defer s.stop()
			if err := s.Bootstrap([]consensus.Server{{ID: "a", Addr: "a:8300"}}); err != nil {
				t.Fatal(err)
			}
			until(t, s, "it leads", s.IsLeader)
			ctx := t.Context()
			if _, err := s.Apply(ctx, set{"k", "1"}); err != nil {
				t.Fatal(err)
			}
			disk.full.Store(true)
			if _, err := s.Apply(ctx, set{"k", "2"}); !errors.Is(err, consensus.ErrUnknown) || !errors.Is(err, consensus.ErrFull) {
				t.Errorf("the write that found it full: %v", err)
			}
			if _, err := s.Apply(ctx, set{"k", "3"}); errors.Is(err, consensus.ErrUnknown) || !errors.Is(err, consensus.ErrFull) {
				t.Errorf("a write while it is full: %v", err)
			}
			time.Sleep(time.Hour)
			if !s.IsLeader() {
				t.Error("it does not lead any more; nobody else can")
			}
			if err := s.VerifyLeader(ctx); err != nil {
				t.Errorf("VerifyLeader: %v", err)
			}
			if n := disk.tries.Load(); n < 1000 || n > 2000 {
				t.Errorf("tried %d times within an hour", n)
			}
			disk.full.Store(false)
			until(t, s, "it writes", func() bool { _, err := s.Apply(ctx, set{"k", "4"}); return err == nil })
			if got := s.fsm.get("k"); got != "4" {
				t.Errorf("k is %q", got)
			}
			disk.full.Store(true) // and it can be ended so, with many in flight
			errs := make(chan error, 200)
			for range cap(errs) {
				go func() {
					_, err := s.Apply(ctx, alone{set{"k", "5"}})
					errs <- err
				}()
			}
			for range cap(errs) {
				if err := <-errs; !errors.Is(err, consensus.ErrFull) {
					t.Error(err)
				}
			}
		})
	})
	t.Run("with others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disks := map[string]*small{}
			old, others := trio(t, servertest.NewNet(), func(c *consensus.Config) {
				id := c.ID
				c.Disk = func(l raft.LogStore) raft.LogStore { disks[id] = &small{LogStore: l}; return disks[id] }
			})
			defer stopAll(append(others, old)...)
			ctx := t.Context()
			disks[old.id].full.Store(true)
			if _, err := old.Apply(ctx, set{"k", "1"}); !errors.Is(err, consensus.ErrUnknown) {
				t.Errorf("the write that found it full: %v", err)
			}
			if _, err := old.Apply(ctx, set{"k", "1"}); !errors.Is(err, consensus.ErrNotLeader) {
				t.Errorf("a write while it is full: %v", err)
			}
			var next *server
			for next == nil {
				for _, s := range others {
					if s.IsLeader() {
						next = s
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			if _, err := next.Apply(ctx, set{"k", "2"}); err != nil {
				t.Fatal(err)
			}
			disks[old.id].full.Store(false)
			for old.fsm.get("k") != "2" {
				time.Sleep(10 * time.Millisecond)
			}
		})
	})
}

// A log that cannot be read is an error that says what to do, never a crash.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"emptied":  func(path string) error { return os.Truncate(path, 0) },
		"cut":      func(path string) error { return os.Truncate(path, 9000) },
		"garbage":  func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("garbage!", 4096)), 0o600) },
		"a folder": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			onDisk := func(c *consensus.Config) { c.Dir = dir }
			s := open(t, servertest.NewNet(), "a", onDisk)
			if err := s.Bootstrap([]consensus.Server{{ID: "a", Addr: "a:8300"}}); err != nil {
				t.Fatal(err)
			}
			s.stop()
			if err := damage(filepath.Join(dir, "raft", "wal", "wal-meta.db")); err != nil {
				t.Fatal(err)
			}
			if _, err := tryOpen(t, servertest.NewNet(), "a", onDisk); !errors.Is(err, consensus.ErrDamaged) || !strings.Contains(err.Error(), "empty data directory") {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

// bent is a log store whose disk changes a byte of what it holds.
type bent struct {
	raft.LogStore
	bad atomic.Bool
}

func (b *bent) GetLog(index uint64, l *raft.Log) error {
	err := b.LogStore.GetLog(index, l)
	if b.bad.Load() && l.Type == raft.LogCommand && len(l.Data) > 0 {
		l.Data = append([]byte(nil), l.Data...)
		l.Data[len(l.Data)-1] ^= 1
	}
	return err
}

// A server whose log has changed on its disk applies none of it, and ends with a word that
// says why; entries without a checksum, of older versions, are taken.
func TestC10ChangedEntry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var disk *bent
	onDisk := func(c *consensus.Config) {
		c.Dir = dir
		c.Disk = func(l raft.LogStore) raft.LogStore { disk = &bent{LogStore: l}; return disk }
	}
	s := open(t, servertest.NewNet(), "a", onDisk)
	if err := s.Bootstrap([]consensus.Server{{ID: "a", Addr: "a:8300"}}); err != nil {
		t.Fatal(err)
	}
	until(t, s, "it leads", s.IsLeader)
	if _, err := s.Apply(t.Context(), set{"k", "1"}); err != nil {
		t.Fatal(err)
	}
	s.stop()

	ln, err := servertest.NewNet().Listen("a:8300")
	if err != nil {
		t.Fatal(err)
	}
	changed := func(c *consensus.Config) {
		onDisk(c)
		inner := c.Disk
		c.Disk = func(l raft.LogStore) raft.LogStore { l = inner(l); disk.bad.Store(true); return l }
	}
	cfg := consensus.Config{ID: "a", EntryPrefix: []byte("v1\n"), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	changed(&cfg)
	fsm := &registers{}
	r, err := consensus.Open(cfg, fsm, newLayer(ln, servertest.NewNet().Dialer("a")))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); !errors.Is(err, consensus.ErrDamaged) || !strings.Contains(err.Error(), "has changed since it was written") {
		t.Errorf("Run = %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if got := fsm.get("k"); got != "" {
		t.Errorf("k is %q; it was applied", got)
	}
	s = open(t, servertest.NewNet(), "a", onDisk) // the byte is right again
	defer s.stop()
	until(t, s, "it leads", s.IsLeader)
	if got := s.fsm.get("k"); got != "1" {
		t.Errorf("k is %q", got)
	}
}
