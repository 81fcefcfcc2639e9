package leader

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// bench is a store with a node, and a leader's term that writes to it.
type bench struct {
	*store.Store
	mu    sync.Mutex
	index uint64
	fail  int // so many writes
}

func (b *bench) do(f func(*store.Tx) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.index++
	tx := b.Begin(b.index)
	defer tx.Commit()
	return f(tx)
}

func (b *bench) term(ctx context.Context) *term {
	return &term{ctx, b.Store, func(_ context.Context, c command.Command) error {
		b.mu.Lock()
		if b.fail > 0 {
			b.fail--
			b.mu.Unlock()
			return errors.New("disk full")
		}
		b.mu.Unlock()
		e := c.(*command.EndSession)
		return b.do(func(tx *store.Tx) error { tx.EndSession(e.ID, e.Reason); return nil })
	}, slog.New(slog.DiscardHandler).Warn}
}

func newBench(t *testing.T, ttls map[string]string) *bench {
	t.Helper()
	b := &bench{Store: store.New()}
	err := b.do(func(tx *store.Tx) error {
		if err := tx.Register(&api.Registration{Node: "n1", Address: "10.0.0.1"}); err != nil {
			return err
		}
		for id, ttl := range ttls {
			if err := tx.CreateSession(&api.Session{ID: id, Node: "n1", TTL: ttl}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) lives(id string) bool {
	s, _ := b.State().Session(id)
	return s != nil
}

func TestSessionsLiveTwiceTheirTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, map[string]string{"a": "10s", "b": "10s", "for ever": ""})
		s := NewSessions()
		s.Renew("a") // nobody leads here: nothing happens
		defer s.count(b.term(t.Context()))()
		began := time.Now()
		watch := b.Watch(store.TopicSession("a"))
		time.Sleep(15 * time.Second)
		s.Renew("b")
		s.Renew("for ever")
		s.Renew("unknown")
		<-watch.C
		if got := time.Since(began); got != 20*time.Second {
			t.Errorf("a ended after %s, want 20s", got)
		}
		if e := b.State().SessionEnd("a"); e == nil || e.Reason != "not renewed within twice its TTL of 10s" {
			t.Errorf("why a ended: %+v", e)
		}
		watch = b.Watch(store.TopicSession("b"))
		<-watch.C
		if got := time.Since(began); got != 35*time.Second {
			t.Errorf("b ended after %s, want 35s", got)
		}
		time.Sleep(time.Hour)
		if !b.lives("for ever") {
			t.Error("a session without a TTL ended")
		}
	})
}

// A new leader begins to count anew, and the old one ends nothing any more.
func TestLeadershipMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, map[string]string{"a": "10s"})
		old, next := NewSessions(), NewSessions()
		stop := old.count(b.term(t.Context()))
		time.Sleep(19 * time.Second)
		stop()
		old.Renew("a") // no longer its to count
		defer next.count(b.term(t.Context()))()
		time.Sleep(20*time.Second - time.Millisecond)
		synctest.Wait()
		if !b.lives("a") {
			t.Error("the session did not have its full time after leadership moved")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if b.lives("a") {
			t.Error("the new leader did not end the session")
		}
	})
}

func TestEndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, map[string]string{"a": "10s"})
		b.fail = 3
		s := NewSessions()
		defer s.count(b.term(t.Context()))()
		watch := b.Watch(store.TopicSession("a"))
		began := time.Now()
		<-watch.C
		if got := time.Since(began); got != 23*time.Second {
			t.Errorf("ended after %s, want 23s: three failures a second apart", got)
		}
	})
}
