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
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// set is an item: key=value.
type set struct{ key, value string }

func (s set) Keys() []string                  { return []string{s.key} }
func (s set) Exclusive() bool                 { return false }
func (s set) Append(b []byte) ([]byte, error) { return fmt.Appendf(b, "%s=%s\n", s.key, s.value), nil }

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
			_, r, err := s.Snapshot(t.Context())
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
		errs := make(chan error, 10)
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
		if unknown == 0 || unknown > 2 {
			t.Errorf("%d outcomes unknown, want those of the entries in flight, at most 2", unknown)
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
				meta, r, err := leader.Snapshot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if meta.Index == 0 {
					t.Error("snapshot has no index")
				}
			}
		}
		meta, r, err := leader.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := leader.Apply(t.Context(), set{"k", "newest"}); err != nil {
			t.Fatal(err)
		}
		if err := leader.Restore(t.Context(), meta, r); err != nil {
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
		done := make(chan error, 1)
		go func() {
			_, err := leader.Apply(t.Context(), set{"k", "v"})
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		stopAll(append(others, leader)...)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("close took %v", took)
		}
		if err := <-done; !errors.Is(err, consensus.ErrUnknown) {
			t.Errorf("apply under way: got %v, want ErrUnknown", err)
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
